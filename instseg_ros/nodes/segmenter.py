"""The segmenter node: depth (and colour) in, labelled masks and their sister topics out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, TimeoutError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from ..errors import InputError
from ..resources import find_model
from . import parameters, runner
from .complaints import Complaints
from .diagnostics import diagnostic_array
from .intake import Arrival, Intake
from .outputs import Outputs
from .parameters import Parameters
from .pipeline import Pipeline
from .statistics import Statistics
from .watchdog import Watchdog
from .worker import NewestFirst

if TYPE_CHECKING:
    from ..methods import Segmenter

NAME = "instseg"
CHECK_PERIOD = 1.0
"""Seconds between looks of the watchdog, and between diagnostics."""
SERVICE_TIMEOUT = 30.0
"""Seconds that ``~/segment`` waits for its answer."""


def load_segmenter(directory: Path, device: str) -> Segmenter:
    """Model directory and device → segmenter."""
    from .. import methods  # here, because torch takes seconds in which the node should already say what it does

    return methods.load_segmenter(directory, device)


class SegmenterNode(LifecycleNode):
    """Lifecycle node around one ``Segmenter``.

    Unconfigured → (loads the model, offers the topics) → inactive → (subscribes, segments) → active. With the parameter
    ``autostart`` it takes both steps itself.

    Args:
        load: model directory and device → segmenter.
        options: passed on to ``LifecycleNode``.
    """

    def __init__(self, load: Callable[[Path, str], Segmenter] = load_segmenter, **options: Any) -> None:
        super().__init__(NAME, **options)
        self._load = load
        self.declare_parameter(
            "autostart", True, ParameterDescriptor(description="Configure and activate at the start.", read_only=True)
        )
        parameters.declare(self)
        self._wanted = parameters.read(self)
        self._statistics = Statistics()
        self._complaints = Complaints(self.get_logger())
        self._lock = threading.RLock()  # intake and worker are made and taken down by transitions and by parameters
        self._state, self._answering = "unconfigured", True
        self._model = Path()
        self._watchdog = Watchdog(self)
        self._problems: dict[str, str] = {}
        self._outputs: Outputs | None = None
        self._pipeline: Pipeline | None = None
        self._intake: Intake | None = None
        self._worker: NewestFirst[Arrival, tuple[bool, str]] | None = None
        self._newest: Arrival | None = None

        self._intake_group, timers, waiting = (MutuallyExclusiveCallbackGroup() for _ in range(3))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady time: the watchdog must not stop with a bag's clock.
        self.create_timer(CHECK_PERIOD, self._check, callback_group=timers, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(Trigger, "~/segment", self._on_segment, callback_group=waiting)
        self.create_service(SetBool, "~/enable", self._on_enable)

    # ---- lifecycle

    def start(self) -> bool:
        """Configure and activate, if ``autostart`` says so. False where that fails; the log says why."""
        if not self.get_parameter("autostart").value:
            return True
        steps = (self.trigger_configure, self.trigger_activate)
        return all(step() == TransitionCallbackReturn.SUCCESS for step in steps)

    def close(self) -> None:
        """Stop working; the node is destroyed next."""
        self._stop()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and offer the topics."""
        try:
            segmenter = self._load_model(self._wanted)
            self._outputs = Outputs(self)
        except Exception as error:
            return self._fail("cannot load the model", error)
        self._pipeline = Pipeline(self, segmenter, self._wanted, self._outputs, self._statistics, self._complaints)
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and work."""
        with self._lock:
            try:
                self._subscribe()
            except Exception as error:
                return self._fail("cannot subscribe", error)
            self._worker = NewestFirst(self._pipeline.answer, "segment")
            self._worker.limit(self._wanted.max_rate)
            topics = ", ".join(topic.name for topic in self._intake.topics)
        self._state = "active"
        self.get_logger().info(f"segmenting what arrives on {topics}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and finish the frame in hand."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of the model and the topics."""
        self._stop()
        if self._outputs is not None:
            self._outputs.close()
        self._outputs = self._pipeline = None
        self._state = "unconfigured"
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleaning up, for good."""
        self.on_cleanup(state)
        self._state = "finalized"
        return super().on_shutdown(state)

    def _fail(self, what: str, error: Exception) -> TransitionCallbackReturn:
        """A transition that failed; rclpy would swallow the exception without a word."""
        why = f"{what}: {_describe(error)}"
        self._statistics.error(why)
        self.get_logger().fatal(why)
        return TransitionCallbackReturn.FAILURE

    def _load_model(self, wanted: Parameters) -> Segmenter:
        directory = find_model(wanted.model)
        self.get_logger().info(f"loading model {directory} on {wanted.device}")
        begin = time.monotonic()
        segmenter = self._load(directory, wanted.device)
        self.get_logger().info(f"loaded in {time.monotonic() - begin:.1f} s: {segmenter.description or directory.name}")
        self._model = directory
        return segmenter

    def _subscribe(self) -> None:
        if self._intake is not None:
            self._intake.close()
        self._newest = None
        self._intake = Intake(
            self,
            color=self._pipeline.segmenter.needs_color,
            depth_transport=self._wanted.depth_transport,
            color_transport=self._wanted.color_transport,
            slop=self._wanted.sync_slop,
            on_frame=self._on_frame,
            on_jump=self._on_jump,
            callback_group=self._intake_group,
        )

    def _stop(self) -> None:
        with self._lock:
            intake, worker = self._intake, self._worker
            self._intake = self._worker = self._newest = None
        if intake is not None:
            intake.close()
        if worker is not None and worker.stop() is not None:
            self._statistics.frame_skipped("stopped")

    # ---- frames

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

    # ---- services

    def _on_segment(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """``~/segment``: answer the newest frame now, enabled or not, and wait for that."""
        response.success, response.message = self._segment_now()
        return response

    def _segment_now(self) -> tuple[bool, str]:
        with self._lock:
            worker, newest = self._worker, self._newest
            if worker is None:
                return False, f"the node is {self._state}: activate it first"
            if newest is None:
                return False, "no frame has arrived: " + ("; ".join(self._problems.values()) or "wait for the camera")
            future, taken = worker.demand(newest)
            if taken:
                self._statistics.frame_received()
        try:
            return future.result(timeout=SERVICE_TIMEOUT)
        except CancelledError:
            return False, "the node was stopped meanwhile"
        except TimeoutError:
            return False, f"no answer within {SERVICE_TIMEOUT:.0f} s"

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """``~/enable``: answer every frame, or none but those that ``~/segment`` asks for."""
        self._answering = request.data
        response.success, response.message = True, "enabled" if request.data else "idle: only ~/segment is answered"
        self.get_logger().info(response.message)
        return response

    # ---- parameters

    def _on_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        """Check all, then apply all: a refused change leaves everything as it was."""
        try:
            new = parameters.read(self, changes)
            changed = self._wanted.changed(new)
            reload = self._pipeline is not None and changed & parameters.NEED_RELOAD
            # Beside the old one, which goes on answering.
            segmenter = self._load_model(new) if reload else None
        except Exception as error:
            reason = _describe(error)
            self.get_logger().error(f"parameter refused: {reason}")
            return SetParametersResult(successful=False, reason=reason)
        with self._lock:
            self._wanted = new
            if self._pipeline is not None:
                color = self._pipeline.segmenter.needs_color
                self._pipeline.wanted = new
                self._pipeline.segmenter = segmenter or self._pipeline.segmenter
                if self._worker is not None:
                    self._worker.limit(new.max_rate)
                    if changed & parameters.NEED_RESUBSCRIBE or color != self._pipeline.segmenter.needs_color:
                        self._subscribe()
        return SetParametersResult(successful=True)

    # ---- watchdog

    def _check(self) -> None:
        """Once a second: is everything arriving? Say so in the log and in ``/diagnostics``."""
        intake, pipeline, silence = self._intake, self._pipeline, self._wanted.stale_after
        self._problems = self._watchdog.problems(intake, silence) if intake is not None and silence > 0 else {}
        for role, problem in self._problems.items():
            self._complaints.warn(f"watchdog {role}", problem)
        self._diagnostics.publish(
            diagnostic_array(
                name=self.get_fully_qualified_name().lstrip("/"),
                hardware_id=self._model.name,
                state=self._state,
                statistics=self._statistics,
                problems=list(self._problems.values()),
                extra={
                    "model": str(self._model),
                    "method": pipeline.segmenter.description if pipeline is not None else "",
                    "enabled": str(self._answering),
                },
                stamp=self.get_clock().now(),
            )
        )


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``segmenter``."""
    return runner.run(lambda: [SegmenterNode()], args)


if __name__ == "__main__":
    raise SystemExit(main())
