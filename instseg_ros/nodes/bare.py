"""The yardstick of ``instseg bench ros``: the least that a node in Python can do for the same answers.

One callback takes the depth image, has the model answer, and publishes masks, instances and poses. Nothing synchronises, nothing is
counted but time, nothing is caught, and frames that come meanwhile are lost; what it takes is rclpy's and the machine's.
"""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("bare"))

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from ..resources import find_model
from . import parameters, runner
from .diagnostics import diagnostic_array
from .intake import IMAGE_QOS, INFO_QOS
from .messages import frame_from_messages
from .outputs import NEWEST_RELIABLE, OUTPUTS
from .passing_thread import in_passing_thread
from .preparation import load_segmenter
from .segmenter import CHECK_PERIOD, NAME
from .statistics import Statistics

SPECS = {name: parameters.SPECS[name] for name in ("model", "device")}
ANSWERS = [output for output in OUTPUTS if output.topic in ("masks", "instances", "poses")]


class BareNode(Node):
    """Topics as the segmenter's."""

    def __init__(self, **options: Any) -> None:
        super().__init__(NAME, **options)
        parameters.declare(self, SPECS, read_only=True)
        self.wanted = parameters.values(self, SPECS)
        self._statistics = Statistics()
        self._latest: dict[str, Any] = {}

    def start(self) -> bool:
        """Load the model, offer and subscribe."""
        model = find_model(self.wanted["model"])
        self._segmenter = in_passing_thread(load_segmenter, model, self.wanted["device"])
        self._answers = [(self.create_publisher(output.type, f"~/{output.topic}", NEWEST_RELIABLE), output.make) for output in ANSWERS]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(CHECK_PERIOD, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        keep = self._latest.__setitem__
        self.create_subscription(CameraInfo, "depth/camera_info", partial(keep, "info"), INFO_QOS)
        if self._segmenter.needs_color:
            self.create_subscription(Image, "color/image", partial(keep, "color"), IMAGE_QOS)
        self.create_subscription(Image, "depth/image", self._on_depth, IMAGE_QOS)
        return True

    def close(self) -> None:
        """See ``Runnable``."""

    def _on_depth(self, depth: Image) -> None:
        begin = time.monotonic()
        frame = frame_from_messages(depth, **self._latest)
        start = time.monotonic()
        instances = self._segmenter.segment(frame)
        segment = time.monotonic() - start
        for publisher, make in self._answers:
            publisher.publish(make(frame, instances))
        self._statistics.frame_answered(time.monotonic() - begin, segment, len(instances))

    def _report(self) -> None:
        self._diagnostics.publish(
            diagnostic_array(
                name=NAME,
                hardware_id="",
                state="active",
                statistics=self._statistics,
                problems=[],
                extra={},
                stamp=self.get_clock().now(),
            )
        )


def main(args: Sequence[str] | None = None) -> int:
    """``python -m instseg_ros.nodes.bare``."""
    return runner.run(lambda: [BareNode()], args)
