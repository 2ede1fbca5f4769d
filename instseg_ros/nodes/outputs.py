"""The output topics: what each carries, and publishing it only to those who listen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from geometry_msgs.msg import PoseArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from ..frame import Frame
from ..instances import Instances
from ..placement import Placement
from . import answers
from .markers import markers

NEWEST_RELIABLE = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
)


@dataclass(frozen=True)
class Output:
    """A topic below the node's name, its message type, and the function that makes the message.

    ``spatial``: it gives places in space, which ``target_frame`` moves; the function takes the placement, too.
    """

    topic: str
    type: type
    make: Callable[..., Any]
    spatial: bool = False


OUTPUTS = [
    Output("masks", Image, answers.masks),
    Output("instances", PointCloud2, answers.instances_cloud, spatial=True),
    Output("poses", PoseArray, answers.poses, spatial=True),
    Output("amodal_layers", Image, answers.amodal_layers),
    Output("markers", MarkerArray, markers, spatial=True),
    Output("points", PointCloud2, answers.points, spatial=True),
    Output("overlay", Image, answers.overlay),
]
"""In the order of publishing: what a grasp planner waits for comes first, pictures for people last."""


class Outputs:
    """Publishers of all topics of ``OUTPUTS``, and of ``detections`` where vision_msgs is installed."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        self._publishers = [
            (output, node.create_lifecycle_publisher(output.type, f"~/{output.topic}", NEWEST_RELIABLE))
            for output in (*OUTPUTS, *_optional())
        ]

    def wanted(self) -> bool:
        """Whether anybody listens to any of the topics."""
        return any(publisher.get_subscription_count() for _, publisher in self._publishers)

    def publish(self, frame: Frame, instances: Instances, placement: Placement) -> None:
        """Make and publish the messages that somebody listens to; instances in the camera's frame."""
        placed = placement.instances(instances)
        for output, publisher in self._publishers:
            if publisher.get_subscription_count():
                message = output.make(frame, placed, placement) if output.spatial else output.make(frame, instances)
                publisher.publish(message)

    def close(self) -> None:
        """Take the topics back."""
        for _, publisher in self._publishers:
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = []


def _optional() -> list[Output]:
    if importlib.util.find_spec("vision_msgs") is None:
        return []
    from vision_msgs.msg import Detection3DArray

    return [Output("detections", Detection3DArray, answers.detections, spatial=True)]
