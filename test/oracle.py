"""A segmenter's stand-in that knows the truth: on each depth image it sends the truth topics' messages as its answer.

As a process: ``python -m oracle``, ended by SIGINT.
"""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2

from instseg_ros.bags import topics as names
from instseg_ros.bags.reader import header_stamp

TOPICS = {"masks": Image, "instances": PointCloud2, "amodal_layers": Image}


class Oracle(Node):
    """Answers with the truth."""

    def __init__(self) -> None:
        super().__init__("instseg")
        self.truth: dict[str, bytes] = {}
        self.due: int | None = None
        for name, kind in TOPICS.items():
            self.create_subscription(
                kind, f"/truth/{name}", lambda data, name=name: self._keep(name, data), 10, raw=True
            )
        self.out = {
            name: self.create_publisher(kind, f"/instseg/{name}", QoSProfile(depth=1)) for name, kind in TOPICS.items()
        }
        self.create_subscription(Image, names.DEPTH, self._ask, 10, raw=True)

    def _keep(self, name: str, data: bytes) -> None:
        self.truth[name] = data
        self._answer()

    def _ask(self, depth: bytes) -> None:
        self.due = header_stamp(depth)
        self._answer()

    def _answer(self) -> None:
        if self.due is not None and all(n in self.truth and header_stamp(self.truth[n]) == self.due for n in TOPICS):
            self.due = None
            for name, publisher in self.out.items():
                publisher.publish(self.truth[name])


if __name__ == "__main__":
    rclpy.init()
    try:
        rclpy.spin(Oracle())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
