"""Intake → worker → pipeline: what runs while the node is active."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, TimeoutError
from typing import TYPE_CHECKING

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node

from .complaints import Complaints
from .intake import Arrival, Intake
from .outputs import Outputs
from .parameters import NEED_RESUBSCRIBE, Parameters
from .pipeline import Pipeline
from .statistics import Statistics
from .worker import NewestFirst

if TYPE_CHECKING:
    from ..methods import Segmenter

DEMAND_TIMEOUT = 30.0
"""Seconds that ``segment_now`` waits for its answer."""


class Engine:
    """Segments what arrives, from ``start`` to ``stop``; both may be repeated.

    Args:
        node: on which to subscribe.
        segmenter, wanted: the model and the parameters.
        outputs: where answers go.
        statistics, complaints: counters and log.

    Attributes:
        intake: the subscriptions, None while stopped.
    """

    def __init__(
        self,
        node: Node,
        segmenter: Segmenter,
        wanted: Parameters,
        outputs: Outputs,
        statistics: Statistics,
        complaints: Complaints,
    ) -> None:
        self._node, self._statistics, self._complaints = node, statistics, complaints
        self._pipeline = Pipeline(node, segmenter, wanted, outputs, statistics, complaints)
        self._group = MutuallyExclusiveCallbackGroup()
        self._lock = threading.RLock()  # transitions, parameters and services come in different threads
        self._answering = True
        self._worker: NewestFirst[Arrival, tuple[bool, str]] | None = None
        self._newest: Arrival | None = None
        self.intake: Intake | None = None

    @property
    def segmenter(self) -> Segmenter:
        """The model in use."""
        return self._pipeline.segmenter

    def start(self) -> None:
        """Subscribe and work."""
        with self._lock:
            self._subscribe()
            self._worker = NewestFirst(self._pipeline.answer, "segment")
            self._worker.limit(self._pipeline.wanted.max_rate)

    def stop(self) -> None:
        """Unsubscribe and finish the frame in hand."""
        with self._lock:
            intake, worker = self.intake, self._worker
            self.intake = self._worker = self._newest = None
        if intake is not None:
            intake.close()
        if worker is not None and worker.stop() is not None:
            self._statistics.frame_skipped("stopped")

    def answer_all(self, yes: bool) -> None:
        """Whether to answer every frame, or none but those that ``segment_now`` asks for."""
        self._answering = yes

    def change(self, wanted: Parameters, segmenter: Segmenter) -> None:
        """Take over other parameters and another model, between two frames."""
        with self._lock:
            changed = self._pipeline.wanted.changed(wanted)
            other_topics = changed & NEED_RESUBSCRIBE or segmenter.needs_color != self.segmenter.needs_color
            self._pipeline.wanted, self._pipeline.segmenter = wanted, segmenter
            if self._worker is not None:
                self._worker.limit(wanted.max_rate)
                if other_topics:
                    self._subscribe()

    def segment_now(self) -> tuple[bool, str]:
        """Answer the newest frame, and wait for that. Returns whether it went well, and what was done or why not."""
        with self._lock:
            worker, newest = self._worker, self._newest
            if worker is None:
                return False, "the node is inactive: activate it first"
            if newest is None:
                return False, "no frame has arrived"
            future, taken = worker.demand(newest)
            if taken:
                self._statistics.frame_received()
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
        wanted = self._pipeline.wanted
        self.intake = Intake(
            self._node,
            color=self.segmenter.needs_color,
            depth_transport=wanted.depth_transport,
            color_transport=wanted.color_transport,
            slop=wanted.sync_slop,
            on_frame=self._on_frame,
            on_jump=self._on_jump,
            on_refusal=self._on_refusal,
            callback_group=self._group,
        )

    def _on_frame(self, arrival: Arrival) -> None:
        """A set of messages, in the executor's thread: pass it on and return."""
        self._newest = arrival
        worker = self._worker
        if worker is None or not self._answering:
            return
        self._statistics.frame_received()
        if worker.offer(arrival) is not None:
            self._statistics.frame_replaced()

    def _on_jump(self, seconds: float) -> None:
        self._complaints.warn("jump", f"time jumped back by {seconds:.3f} s (a looped bag?): synchronization starts anew")

    def _on_refusal(self, why: str) -> None:
        self._statistics.error(why)
        self._complaints.warn("refusal", why)
