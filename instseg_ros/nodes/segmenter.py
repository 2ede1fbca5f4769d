"""The segmenter node: depth (and colour) in, labelled masks and their sister topics out."""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("segmenter"))

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from ..errors import InputError, explain
from . import parameters, runner, volume
from .complaints import Complaints
from .diagnostics import diagnostic_array
from .engine import Engine
from .host import Host, Setup
from .lane import Lane
from .lifecycle import SelfStartingNode
from .outputs import Outputs
from .parameters import Parameters
from .preparation import Preparation, load_segmenter
from .statistics import Statistics
from .volume import learn_background, volume_of
from .watchdog import Watchdog

if TYPE_CHECKING:
    from ..methods import Segmenter

NAME = "instseg"
CHECK_PERIOD = 1.0
"""Seconds between looks of the watchdog, and between diagnostics."""
LONG_AT_WORK = 10.0
"""Seconds on one frame after which something is wrong."""


class SegmenterNode(SelfStartingNode):
    """Lifecycle node around one ``Segmenter``.

    Unconfigured → (loads the model, offers the topics) → inactive → (subscribes, segments) → active. With the parameter
    ``autostart`` it takes both steps itself.

    Args:
        load: model directory and device → segmenter.
        options: passed on to ``LifecycleNode``.
    """

    def __init__(self, load: Callable[[Path, str], Segmenter] = load_segmenter, **options: Any) -> None:
        # Before anything can fail: rclpy destroys a node that was not finished, too.
        self._engine: Engine | None = None
        self._lane: Lane | None = None
        super().__init__(NAME, Statistics(), **options)
        parameters.declare(self)
        self._wanted = parameters.read(self)
        self._complaints = Complaints(self.get_logger())
        self._preparation = Preparation(load, self, self._statistics, self._complaints)
        self._watchdog = Watchdog(self)
        self._problems: dict[str, str] = {}
        self._answering = True
        self._outputs: Outputs | None = None

        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_service(Trigger, "~/segment", self._on_segment)
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/learn_background", self._on_learn_background)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Services, changes of parameters and transitions may take seconds; images and the look at them come on the lane.
        self._lane = Lane(self, self._complaints)
        # Steady time: the watchdog must not stop with a bag's clock.
        self._lane.node.create_timer(CHECK_PERIOD, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ---- lifecycle

    def close(self) -> None:
        """Stop working; the node is destroyed next. May be repeated."""
        self._stop()
        if self._lane is not None:
            self._lane.close()

    def _stop(self) -> None:
        if self._engine is not None:
            self._engine.stop()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and offer the topics."""
        try:
            setup = self._prepare(self._wanted)
            self._outputs = Outputs(self)
        except Exception as error:
            return self._fail("cannot load the model", error)
        host = Host(self, self._lane.node, self._outputs, self._statistics, self._complaints)
        self._engine = Engine(host, setup)
        self._engine.answer_all(self._answering)
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and work."""
        done = super().on_activate(state)  # first, or the first answer would find its publishers closed
        try:
            self._engine.start()
        except Exception as error:
            self._stop()
            super().on_deactivate(state)
            return self._fail("cannot subscribe", error)
        self._state = "active"
        topics = ", ".join(topic.name for topic in self._engine.intake.topics)
        self.get_logger().info(f"segmenting what arrives on {topics}")
        return done

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
        self._outputs = self._engine = None
        self._state = "unconfigured"
        return super().on_cleanup(state)

    def _prepare(self, wanted: Parameters) -> Setup:
        return self._preparation.setup(wanted, self._engine.setup if self._engine is not None else None)

    # ---- services and parameters

    def _on_segment(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """``~/segment``: answer the newest frame now, enabled or not, and wait for that."""
        engine = self._engine
        done, text = (False, "the node is not configured") if engine is None else engine.segment_now()
        causes = "" if done else "; ".join(self._problems.values())
        response.success, response.message = done, f"{text}; {causes}" if causes else text
        return response

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """``~/enable``: answer every frame, or none but those that ``~/segment`` asks for."""
        self._answering = request.data
        if self._engine is not None:
            self._engine.answer_all(request.data)
        response.success, response.message = True, "enabled" if request.data else "idle: only ~/segment is answered"
        self.get_logger().info(response.message)
        return response

    def _on_learn_background(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """``~/learn_background``: what the camera sees in the next second is the empty bin."""
        engine = self._engine
        try:
            if engine is None:
                raise InputError("the node is not configured")
            wanted = engine.setup.wanted
            background, response.message = learn_background(engine.collect(volume.FRAMES, volume.SILENCE), wanted)
            engine.change(replace(engine.setup, volume=volume_of(wanted, background)))
            response.success = True
            self.get_logger().info(f"background {response.message}")
        except Exception as error:
            response.success, response.message = False, explain(error)
            self.get_logger().error(f"no background learned: {response.message}")
        return response

    def _on_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        """Check all, then apply all: a refused change leaves everything as it was."""
        engine = self._engine
        try:
            new = parameters.read(self, changes)
            if engine is not None:
                engine.change(self._prepare(new))
        except Exception as error:
            reason = explain(error)
            self.get_logger().error(f"parameter refused: {reason}")
            return SetParametersResult(successful=False, reason=reason)
        self._wanted = new
        return SetParametersResult(successful=True)

    # ---- watchdog

    def _check(self) -> None:
        """Once a second: is everything arriving? Say so in the log and in ``/diagnostics``."""
        engine, silence = self._engine, self._wanted.stale_after
        intake = engine.intake if engine is not None else None
        setup = engine.setup if engine is not None else None
        self._problems = self._watchdog.problems(intake, silence) if intake is not None and silence > 0 else {}
        if engine is not None and (seconds := engine.seconds_at_work()) > LONG_AT_WORK:
            self._problems["model"] = (
                f"the model has been at work on one frame for {seconds:.0f} s: it hangs, or this device is too slow for it"
            )
        for role, problem in self._problems.items():
            self._complaints.warn(f"watchdog {role}", problem)
        self._diagnostics.publish(
            diagnostic_array(
                name=self.get_fully_qualified_name().lstrip("/"),
                hardware_id=setup.directory.name if setup is not None else "",
                state=self._state,
                statistics=self._statistics,
                problems=list(self._problems.values()),
                extra={
                    "model": str(setup.directory) if setup is not None else "",
                    "method": setup.segmenter.description if setup is not None else "",
                    "enabled": str(self._answering),
                    "bin_volume": setup.volume.summary if setup is not None else "",
                },
                stamp=self.get_clock().now(),
            )
        )


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``segmenter``."""
    return runner.run(lambda: [SegmenterNode()], args)
