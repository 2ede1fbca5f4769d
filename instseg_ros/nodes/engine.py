"""Intake → worker → pipeline: what runs while the node is active."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, TimeoutError
from queue import Empty, SimpleQueue

from ..errors import InputError
from .host import Host, Setup
from .intake import Intake
from .parameters import NEED_OTHER_SETS, NEED_RESUBSCRIBE
from .passing_thread import in_passing_thread
from .pipeline import Job, Pipeline
from .sets import Arrival
from .transforms import Transforms
from .watchdog import REMEDY
from .worker import NewestFirst

DEMAND_TIMEOUT = 30.0
"""Seconds that ``segment_now`` waits for its answer."""
COLOR_PATIENCE = 5.0
"""Seconds that a model which needs colour has to wait for it, while another answers without."""
FLOWING = 2.0
"""Seconds. No frame for longer: there are none that a change could lose."""


class Engine:
    """Segments what arrives, from ``start`` to ``stop``; both may be repeated.

    Messages come in the thread of ``host.intake``, frames are worked on in the worker's; everything else comes from outside and
    may take its time.

    Attributes:
        setup: by which frames are answered that come from now on.
        intake: the subscriptions, None while stopped.
    """

    def __init__(self, host: Host, setup: Setup) -> None:
        self.setup = setup
        self._host = host
        self._transforms = Transforms(host.node, host.intake)
        self._pipeline = Pipeline(host, self._transforms)
        self._change = threading.RLock()  # one change at a time; intake never takes it
        self._answering = True
        self._worker: NewestFirst[Job, tuple[bool, str]] | None = None
        self._newest: Arrival | None = None
        self._collecting: SimpleQueue[Arrival] | None = None
        self.intake: Intake | None = None

    def start(self) -> None:
        """Subscribe and work."""
        with self._change:
            self._worker = NewestFirst(self._pipeline.answer, "segment")
            self._take_over(self.setup)
            self._subscribe()

    def stop(self) -> None:
        """Unsubscribe and finish the frame in hand."""
        if (intake := self.intake) is not None:
            intake.close()  # a change that waits for colour waits no longer
        with self._change:
            if self.intake is not None:
                self.intake.close()
            if self._worker is not None and self._worker.stop() is not None:
                self._host.statistics.frame_skipped("stopped")
            self._transforms.close()
            self.intake = self._worker = self._newest = None

    def seconds_at_work(self) -> float:
        """For how long the frame in hand has been worked on."""
        worker = self._worker
        return 0.0 if worker is None else worker.seconds_at_work()

    def answer_all(self, yes: bool) -> None:
        """Whether to answer every frame, or none but those that ``segment_now`` asks for."""
        self._answering = yes

    def change(self, setup: Setup) -> None:
        """Take over another model and other parameters between two frames: what came before is answered by the old ones.

        Raises:
            InputError: the new model cannot answer what arrives; the old one goes on.
        """
        with self._change:
            changed = self.setup.wanted.changed(setup.wanted)
            needs_color = (self.setup.segmenter.needs_color, setup.segmenter.needs_color)
            if self._worker is None:
                self.setup = setup
            elif changed & NEED_RESUBSCRIBE:
                self._take_over(setup)
                self._subscribe()
            elif changed & NEED_OTHER_SETS or needs_color in ((True, False), (False, True)):
                self._change_sets(setup, wait_for_color=needs_color == (False, True))
            else:
                self._rehearse(setup, self._newest)
                self._take_over(setup)

    def segment_now(self) -> tuple[bool, str]:
        """Answer the newest frame, and wait for that. Returns whether it went well, and what was done or why not."""
        worker, newest, setup = self._worker, self._newest, self.setup
        if worker is None:
            return False, "the node is inactive: activate it first"
        if newest is None or (newest.color is None and setup.segmenter.needs_color):
            return False, "no frame has arrived"
        future = worker.demand(Job(newest, setup), on_taken=self._host.statistics.frame_requested)
        try:
            return future.result(timeout=DEMAND_TIMEOUT)
        except CancelledError:
            return False, "the node was stopped meanwhile"
        except TimeoutError:
            return False, f"no answer within {DEMAND_TIMEOUT:.0f} s"

    def collect(self, count: int, patience: float) -> list[Arrival]:
        """The next sets of messages, whether they are answered or not. InputError: none for ``patience`` seconds."""
        if self._worker is None:
            raise InputError("the node is inactive: activate it first")
        arrived: SimpleQueue[Arrival] = SimpleQueue()
        self._collecting, taken = arrived, []
        try:
            while len(taken) < count:
                taken.append(arrived.get(timeout=patience))
        except Empty:
            raise InputError(f"{len(taken)} of {count} frames came, then none for {patience:g} s: {REMEDY['depth']}") from None
        finally:
            self._collecting = None
        return taken

    def _take_over(self, setup: Setup) -> None:
        """What comes from now on is answered by ``setup``."""
        self._transforms.follow(setup.wanted.target_frame)
        if self._worker is not None:
            self._worker.limit(setup.wanted.max_rate)
        self.setup = setup

    def _change_sets(self, setup: Setup, *, wait_for_color: bool) -> None:
        """The new model or slop needs other sets of messages, which must come before the old sets can be done without."""
        intake = self.intake
        intake.prepare(color=setup.segmenter.needs_color, slop=setup.wanted.sync_slop)
        try:
            sample = self._newest
            if wait_for_color:
                flowing = intake.sets > 0 and time.monotonic() - intake.last_set < FLOWING
                sample = intake.wait_for_prepared(COLOR_PATIENCE if flowing else 0.0)
                if flowing and sample is None:
                    raise InputError(
                        f"{setup.directory.name} uses color, and none came that belongs to a depth image within "
                        f"{COLOR_PATIENCE:g} s: {REMEDY['color']}"
                    )
            self._rehearse(setup, sample)
        except Exception:
            intake.drop_prepared()
            raise

        def take_over() -> None:
            self._take_over(setup)
            self._newest = sample

        intake.adopt(take_over)

    def _rehearse(self, setup: Setup, sample: Arrival | None) -> None:
        """Have a new model answer a frame for nobody: a first run takes longer, and may fail."""
        if sample is not None and setup.segmenter is not self.setup.segmenter:
            in_passing_thread(self._pipeline.rehearse, Job(sample, setup))

    def _subscribe(self) -> None:
        if self.intake is not None:
            self.intake.close()
        self._newest = None
        self.intake = Intake(
            self._host,
            self.setup.wanted,
            color=self.setup.segmenter.needs_color,
            on_frame=self._on_frame,
            on_jump=self._on_jump,
        )

    def _on_frame(self, arrival: Arrival) -> None:
        """A set of messages, in the thread of intake: pass it on and return."""
        self._newest = arrival
        if (collecting := self._collecting) is not None:
            collecting.put(arrival)
        statistics, worker = self._host.statistics, self._worker
        statistics.frame_received()
        if not self._answering:
            statistics.frame_skipped("idle")
            return
        job = Job(arrival, self.setup)
        left = job if worker is None else worker.offer(job)
        if left is job:
            statistics.frame_skipped("stopped")
        elif left is not None:
            statistics.frame_replaced()

    def _on_jump(self, seconds: float) -> None:
        text = f"time jumped back by {seconds:.3f} s (a looped bag?): synchronization starts anew"
        self._host.complaints.warn("jump", text)
        self._transforms.jumped_back(seconds)
