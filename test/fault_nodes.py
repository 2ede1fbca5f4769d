"""Nodes for tests of faults, as processes of their own: ``python -m fault_nodes segmenter|camera|listener …``.

``segmenter`` is the node with a model that knows the answer; the first frame of model ``hung`` never ends, loading ``slow``
takes until a file of the name ``go`` appears in the model's directory. ``camera`` publishes boxes at 20 Hz. ``listener``
subscribes reliably to an image topic.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import rclpy
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image


def load(directory: Path, device: str) -> object:
    """The model that the directory's name asks for."""
    from ros_scenes import KnownAnswer

    if directory.name == "slow":
        while not (directory / "go").exists():
            time.sleep(0.02)
    if directory.name == "hung":
        return KnownAnswer(before=lambda frame: [print("hanging", flush=True), time.sleep(600)])
    return KnownAnswer()


def segmenter(*args: str) -> int:
    """The node, until a signal comes."""
    from instseg_ros.nodes import runner
    from instseg_ros.nodes.segmenter import SegmenterNode

    return runner.run(lambda: [SegmenterNode(load=load)], ["segmenter", *args])


def camera() -> None:
    """Boxes, until the process is ended."""
    from ros_scenes import boxes

    from instseg_ros.nodes.messages import frame_to_messages

    node = Node("camera")
    publishers = [node.create_publisher(type_, name, 1) for name, type_ in (("depth/image", Image), ("depth/camera_info", CameraInfo))]
    print("up", flush=True)
    while True:
        for publisher, message in zip(publishers, frame_to_messages(boxes(stamp_ns=time.time_ns())[0])):
            publisher.publish(message)
        time.sleep(0.05)


def listener(topic: str) -> None:
    """Says when the first message has come, and goes on. Imports little: it is up again long before Fast DDS has forgotten its
    predecessor (20 s)."""
    node = Node("listener")
    node.create_subscription(Image, topic, lambda message: print("heard", flush=True), 10)
    print("up", flush=True)
    rclpy.spin(node)


def main(role: str, *args: str) -> int:
    """One of the roles."""
    if role == "segmenter":
        return segmenter(*args)
    rclpy.init()
    {"camera": camera, "listener": listener}[role](*args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
