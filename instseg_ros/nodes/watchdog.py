"""Why no frames come: which topic is silent, and the likely cause in words."""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from .intake import Intake, Topic

REMEDY = {
    "depth": "realsense2_camera publishes it with align_depth.enable:=true",
    "camera_info": "it comes with the depth image; realsense2_camera needs align_depth.enable:=true",
    "color": "this model uses color; realsense2_camera publishes it with enable_color:=true",
}
NAMES_SHOWN = 8


class Watchdog:
    """Looks at the subscriptions and at the ROS graph.

    Args:
        node: the node that subscribes.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._published_since: dict[str, float] = {}

    def problems(self, intake: Intake, silence: float) -> dict[str, str]:
        """What keeps frames from coming: role of the topic (or ``stamps``) → one sentence.

        Args:
            intake: the subscriptions.
            silence: seconds without a message after which a topic counts as silent.
        """
        now = time.monotonic()
        found = {}
        for topic in intake.topics:
            publishers = self._node.get_publishers_info_by_topic(topic.name)
            if publishers:
                appeared = self._published_since.setdefault(topic.name, now)
            else:
                self._published_since.pop(topic.name, None)
                appeared = -float("inf")
            if now - max(topic.arrived, appeared) > silence:
                what = f"{topic.role} is silent for {now - topic.arrived:.0f} s on {topic.name}: "
                found[topic.role] = what + self._cause(topic, publishers)
        if not found and now - intake.last_set > silence and all(topic.count for topic in intake.topics):
            spread = intake.stamp_spread()
            apart = "" if spread is None else f" (newest stamps {spread:.3f} s apart)"
            found["stamps"] = (
                f"{', '.join(topic.role for topic in intake.topics)} arrive but never belong together{apart}: "
                "raise sync_slop, or mend the stamps of the publisher"
            )
        return found

    def _cause(self, topic: Topic, publishers: list[TopicEndpointInfo]) -> str:
        wanted = _type_name(topic.type)
        if not publishers:
            return f"nobody publishes it; {REMEDY[topic.role]}{self._similar(topic, wanted)}"
        others = sorted({info.topic_type for info in publishers} - {wanted})
        if others:
            transport = f"set {topic.role}_transport, or " if topic.role != "camera_info" else ""
            return f"it is published as {', '.join(others)}, not {wanted}; {transport}remap it"
        for info in publishers:
            verdict, reason = qos_check_compatible(info.qos_profile, topic.qos)
            if verdict == QoSCompatibility.ERROR:
                return f"the QoS of its publisher {info.node_name} does not match ({reason.strip()})"
        names = ", ".join(sorted({info.node_name for info in publishers}))
        if topic.count:
            return f"its publisher {names} stopped sending; is the camera unplugged, or the bag paused?"
        return (
            f"its publisher {names} has sent nothing that arrived; is the camera streaming, and has its process the DDS "
            "profile that gives images room (config/fastdds_shm.xml)?"
        )

    def _similar(self, topic: Topic, wanted: str) -> str:
        """Names of published topics of the same type, for the eye to find the right remapping."""
        own = f"{self._node.get_fully_qualified_name()}/"
        names = [
            name
            for name, types in self._node.get_topic_names_and_types()
            if wanted in types and name != topic.name and not name.startswith(own) and self._node.count_publishers(name)
        ]
        return f"; topics of this type: {', '.join(sorted(names)[:NAMES_SHOWN])}" if names else ""


def _type_name(type_: type) -> str:
    return f"{type_.__module__.split('.')[0]}/msg/{type_.__name__}"
