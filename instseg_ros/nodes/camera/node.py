"""The camera node: a lifecycle node that starts itself, as the segmenter does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from ...errors import InputError
from .. import runner
from ..complaints import Complaints
from ..lifecycle import SelfStartingNode
from .capture import Capture
from .outputs import CameraOutputs
from .parameters import AT_ANY_TIME, CameraParameters, declare_parameters, read_parameters
from .software import DEFAULT_FPS, SoftwareCamera, SoftwareCameras
from .sources import Cameras, Recording, Source
from .statistics import CLOSED, CameraStatistics
from .views import find_views

NAME = NAMESPACE = "camera"
DIAGNOSTICS_PERIOD = 1.0
"""Seconds."""


def open_source(wanted: CameraParameters) -> Source:
    """Where the devices come from that the parameters ask for. InputError: from nowhere."""
    if wanted["software"]:
        fps = wanted.depth_profile.fps or DEFAULT_FPS
        camera = SoftwareCamera(find_views(wanted["software"]), serial=wanted["serial_no"] or "software", fps=fps)
        return SoftwareCameras([camera])
    if wanted["rosbag_filename"]:
        return Recording(wanted["rosbag_filename"], loop=wanted["loop"], real_time=wanted["real_time"])
    return Cameras(wanted["serial_no"])


class CameraNode(SelfStartingNode):
    """Lifecycle node around one camera.

    Unconfigured → (checks what is asked for, offers the topics) → inactive → (searches the camera, publishes) → active. With
    the parameter ``autostart`` it takes both steps itself. A camera that is not there is waited for while active.

    Args:
        open_source: parameters → where devices come from.
        options: passed on to ``LifecycleNode``; the namespace is ``camera`` unless they or the command line name another.
    """

    def __init__(self, open_source: Callable[[CameraParameters], Source] = open_source, **options: Any) -> None:
        # Before anything can fail: rclpy destroys a node that was not finished, too.
        self._source: Source | None = None
        self._capture: Capture | None = None
        super().__init__(NAME, CameraStatistics(), **{"namespace": NAMESPACE, **options})
        self._open_source = open_source
        self._outputs: CameraOutputs | None = None
        declare_parameters(self)
        self._wanted = read_parameters(self)
        self._complaints = Complaints(self.get_logger())
        self.add_on_set_parameters_callback(self._on_parameters)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(DIAGNOSTICS_PERIOD, self._tell, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # ---- lifecycle

    def close(self) -> None:
        """Stop working; the node is destroyed next. May be repeated."""
        self._stop()
        if self._source is not None:
            self._source.close()
            self._source = None

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check what is asked for and offer the topics."""
        try:
            self._source = self._open_source(self._wanted)
            self._outputs = CameraOutputs(self, self._wanted)
        except Exception as error:
            self.close()
            return self._fail("", error)
        self._state = "inactive"
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Search the camera and publish."""
        say = self.get_logger().info
        self._capture = Capture(self._source, self._wanted, self._outputs, self._statistics, self._complaints, say)
        self._state = "active"
        self.get_logger().info(f"publishing on {', '.join(self._outputs.topics)}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the camera after the frame in hand."""
        self._stop()
        self._state = "inactive"
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Take back the topics."""
        self.close()
        if self._outputs is not None:
            self._outputs.close()
            self._outputs = None
        self._state = "unconfigured"
        return super().on_cleanup(state)

    def _stop(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.stop()
            self._statistics.connect(CLOSED)

    # ---- parameters and diagnostics

    def _on_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        """Check all, then apply all: a refused change leaves everything as it was."""
        try:
            new = read_parameters(self, changes)
            fixed = sorted(self._wanted.changed(new) - AT_ANY_TIME)
            if fixed and self._state != "unconfigured":
                raise InputError(f"{fixed[0]} changes only while the node is unconfigured: deactivate and clean it up first")
        except InputError as error:
            self.get_logger().error(f"parameter refused: {error}")
            return SetParametersResult(successful=False, reason=str(error))
        self._wanted = new
        if self._capture is not None:
            self._capture.change(new)
        return SetParametersResult(successful=True)

    def _tell(self) -> None:
        """Once a second: how it goes."""
        name = self.get_fully_qualified_name().lstrip("/")
        source = self._wanted["rosbag_filename"] or self._wanted["software"] or "camera"
        self._diagnostics.publish(
            self._statistics.diagnostics(name=name, state=self._state, extra={"source": source}, stamp=self.get_clock().now())
        )


def main(args: Sequence[str] | None = None) -> int:
    """Executable ``camera``."""
    return runner.run(lambda: [CameraNode()], args)
