"""A segmenter's stand-in: answers each depth image with empty masks of its stamp, in ways that a test chooses.

As a process: ``python -m answerer FILE [behaviour]``; it writes what it has seen to FILE when it is ended.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from instseg_ros.bags import topics as names

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
BEHAVIOURS = ("prompt", "slow", "skips", "twice", "leaves")


def stamp_ns(message: Any) -> int:
    """Stamp of a message's header in nanoseconds."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


class Answerer(Node):
    """Subscribes as the segmenter does: best effort, the newest message only."""

    def __init__(self, behaviour: str = "prompt", **options: Any) -> None:
        super().__init__("instseg", **options)
        assert behaviour in BEHAVIOURS
        self.behaviour = behaviour
        self.depths: list[int] = []
        self.infos: list[int] = []
        self.masks = self.create_publisher(Image, "/instseg/masks", 1)
        self.create_subscription(CameraInfo, names.INFO, lambda m: self.infos.append(stamp_ns(m)), NEWEST)
        self.create_subscription(Image, names.DEPTH, self._answer, NEWEST)

    def _answer(self, depth: Image) -> None:
        self.depths.append(stamp_ns(depth))
        count = len(self.depths)
        if self.behaviour == "slow":
            time.sleep(0.02 * (count % 4))
        if self.behaviour == "skips" and count % 3 == 0:
            return
        if self.behaviour == "leaves" and count == 3:
            self.destroy_publisher(self.masks)
            return
        answer = Image(
            header=depth.header, height=depth.height, width=depth.width, encoding="16UC1", step=2 * depth.width
        )
        answer.data = bytes(depth.height * depth.width * 2)
        for _ in range(2 if self.behaviour == "twice" else 1):
            self.masks.publish(answer)


def main() -> None:
    """Spin until SIGINT, then write the file."""
    import rclpy
    from rclpy.executors import ExternalShutdownException

    rclpy.init()
    node = Answerer(*sys.argv[2:3])
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open(sys.argv[1], "w") as file:
        json.dump({"depths": node.depths, "infos": node.infos}, file)


if __name__ == "__main__":
    main()
