"""Intake → worker → pipeline: what runs while the node is active."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, TimeoutError

from .host import Host, Setup
from .intake import Arrival, Intake
from .parameters import NEED_RESUBSCRIBE
from .pipeline import Pipeline
from .worker import NewestFirst

DEMAND_TIMEOUT = 30.0
"""Seconds that ``segment_now`` waits for its answer."""


class Engine:
    """Segments what arrives, from ``start`` to ``stop``; both may be repeated.

    Messages come in the thread of ``host.intake``, frames are worked on in the worker's; everything else comes from outside and
    may take its time.

    Attributes:
        intake: the subscriptions, None while stopped.
    """

    def __init__(self, host: Host, setup: Setup) -> None:
        self._host = host
        self._pipeline = Pipeline(host, setup)
        self._change = threading.RLock()  # one change at a time; intake never takes it
        self._answering = True
        self._worker: NewestFirst[Arrival, tuple[bool, str]] | None = None
        self._newest: Arrival | None = None
        self.intake: Intake | None = None

    @property
    def setup(self) -> Setup:
        """Model and parameters in use."""
        return self._pipeline.setup

    def start(self) -> None:
        """Subscribe and work."""
        with self._change:
            self._worker = NewestFirst(self._pipeline.answer, "segment")
            self._worker.limit(self.setup.wanted.max_rate)
            self._subscribe()

    def stop(self) -> None:
        """Unsubscribe and finish the frame in hand."""
        with self._change:
            if self.intake is not None:
                self.intake.close()
            if self._worker is not None and self._worker.stop() is not None:
                self._host.statistics.frame_skipped("stopped")
            self.intake = self._worker = self._newest = None

    def answer_all(self, yes: bool) -> None:
        """Whether to answer every frame, or none but those that ``segment_now`` asks for."""
        self._answering = yes

    def change(self, setup: Setup) -> None:
        """Take over another model and other parameters, between two frames."""
        with self._change:
            old, self._pipeline.setup = self.setup, setup
            if self._worker is None:
                return
            self._worker.limit(setup.wanted.max_rate)
            if old.wanted.changed(setup.wanted) & NEED_RESUBSCRIBE or setup.segmenter.needs_color != old.segmenter.needs_color:
                self._subscribe()

    def segment_now(self) -> tuple[bool, str]:
        """Answer the newest frame, and wait for that. Returns whether it went well, and what was done or why not."""
        worker, newest = self._worker, self._newest
        if worker is None:
            return False, "the node is inactive: activate it first"
        if newest is None:
            return False, "no frame has arrived"
        future, taken = worker.demand(newest)
        if taken:
            self._host.statistics.frame_received()
        try:
            return future.result(timeout=DEMAND_TIMEOUT)
        except CancelledError:
            return False, "the node was stopped meanwhile"
        except TimeoutError:
            return False, f"no answer within {DEMAND_TIMEOUT:.0f} s"

    def _subscribe(self) -> None:
        if self.intake is not None:
            self.intake.close()
        self._newest = None
        wanted = self.setup.wanted
        self.intake = Intake(
            self._host.node,
            self._host.intake,
            color=self.setup.segmenter.needs_color,
            depth_transport=wanted.depth_transport,
            color_transport=wanted.color_transport,
            slop=wanted.sync_slop,
            on_frame=self._on_frame,
            on_jump=self._on_jump,
            on_refusal=self._on_refusal,
        )

    def _on_frame(self, arrival: Arrival) -> None:
        """A set of messages, in the thread of intake: pass it on and return."""
        self._newest = arrival
        worker, statistics = self._worker, self._host.statistics
        if worker is None or not self._answering:
            return
        statistics.frame_received()
        left = worker.offer(arrival)
        if left is arrival:
            statistics.frame_skipped("stopped")
        elif left is not None:
            statistics.frame_replaced()

    def _on_jump(self, seconds: float) -> None:
        text = f"time jumped back by {seconds:.3f} s (a looped bag?): synchronization starts anew"
        self._host.complaints.warn("jump", text)

    def _on_refusal(self, why: str) -> None:
        self._host.statistics.error(why)
        self._host.complaints.warn("refusal", why)
