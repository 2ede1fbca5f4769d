"""Why no frames come: which topic is silent, and the likely cause in words."""

from __future__ import annotations

import time

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from .intake import Intake, Topic

REMEDY = {
    "depth": "realsense2_camera publishes it with align_depth.enable:=true",
    "camera_info": "it comes with the depth image; realsense2_camera needs align_depth.enable:=true",
    "color": "this model uses color; realsense2_camera publishes it with enable_color:=true",
}


def find_problems(node: Node, intake: Intake, silence: float) -> list[str]:
    """One sentence for each thing that keeps frames from coming.

    Args:
        node: looks at the ROS graph.
        intake: the subscriptions.
        silence: seconds without a message after which a topic counts as silent.
    """
    now = time.monotonic()
    silent = [topic for topic in intake.topics if now - topic.arrived > silence]
    if silent:
        return [_explain(node, topic, now) for topic in silent]
    if now - intake.last_set > silence:
        spread = intake.stamp_spread()
        roles = ", ".join(topic.role for topic in intake.topics)
        found = "" if spread is None else f": their newest stamps are {spread:.3f} s apart"
        return [f"{roles} arrive but never together{found}; raise sync_slop, or fix the stamps of the publisher"]
    return []


def _explain(node: Node, topic: Topic, now: float) -> str:
    since = f"{topic.role} is silent for {now - topic.arrived:.0f} s on {topic.name}"
    publishers = node.get_publishers_info_by_topic(topic.name)
    wanted = _type_name(topic.type)
    if not publishers:
        return f"{since}: nobody publishes it; {REMEDY[topic.role]}{_similar(node, topic, wanted)}"
    other_types = {info.topic_type for info in publishers} - {wanted}
    if other_types:
        return f"{since}: it is published as {', '.join(sorted(other_types))}, not {wanted}; set {topic.role}_transport or remap"
    for info in publishers:
        verdict, reason = qos_check_compatible(info.qos_profile, topic.qos)
        if verdict == QoSCompatibility.ERROR:
            return f"{since}: the QoS of its publisher {info.node_name!r} does not match ({reason.strip()})"
    names = ", ".join(sorted({info.node_name for info in publishers}))
    if topic.count:
        return f"{since}: its publisher {names!r} stopped sending; is the camera unplugged or the bag paused?"
    return f"{since}: its publisher {names!r} has sent nothing that arrived; is the camera streaming, and is the network or shared memory large enough?"


def _similar(node: Node, topic: Topic, wanted: str) -> str:
    """Names of published topics of the same type, for the eye to find the right remapping."""
    names = [name for name, types in node.get_topic_names_and_types() if wanted in types and name != topic.name]
    published = [name for name in names if node.count_publishers(name) and not name.startswith(f"{node.get_fully_qualified_name()}/")]
    return f"; topics of this type: {', '.join(sorted(published)[:8])}" if published else ""


def _type_name(type_: type) -> str:
    return f"{type_.__module__.split('.')[0]}/msg/{type_.__name__}"
