"""TF: where the camera stood when it took the image, for the parameter ``target_frame``. Needs tf2_ros only when that is set."""

from __future__ import annotations

import importlib.util
import time
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time

from ..errors import InputError
from ..frame import Frame
from ..placement import Placement, rigid
from .messages import BadFrame

PATIENCE = 0.1
"""Seconds to wait for the transform of an image's stamp; a moving camera's may come a moment after the image."""
POLL = 0.005
JITTER = 1.0
"""Seconds."""
NAMES = {"/tf": DurabilityPolicy.VOLATILE, "/tf_static": DurabilityPolicy.TRANSIENT_LOCAL}


def check_target_frame(name: str) -> None:
    """InputError unless answers can be given in the frame ``name``; empty = the camera's own."""
    if not name:
        return
    if name.startswith("/"):
        raise InputError(f"target_frame must not begin with a slash, got {name!r}: tf2 frames have none")
    if importlib.util.find_spec("tf2_ros") is None:
        raise InputError(f"target_frame {name!r} needs tf2_ros, which is not installed: apt install ros-$ROS_DISTRO-tf2-ros-py")


class Transforms:
    """Hears TF from ``follow`` with a name to ``close``, and looks the camera up.

    tf2_ros' own listener takes remappings of the node it sits on only; this one sits on the node of intake, which knows none,
    so that a service at work does not keep transforms away, and takes the main node's.

    Args:
        main: resolves the names /tf and /tf_static, so that they may be remapped.
        node: on which to subscribe.
    """

    def __init__(self, main: Node, node: Node) -> None:
        self._main, self._node = main, node
        self._buffer: Any = None
        self._subscriptions: list[Any] = []

    def follow(self, target: str) -> None:
        """Answers in the frame ``target`` will be wanted; empty = in the camera's own, for which no TF is needed."""
        if not target:
            self.close()
        elif self._buffer is None:
            self._listen()

    def close(self) -> None:
        """Hear TF no more. May be repeated."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._buffer = [], None

    def jumped_back(self, seconds: float) -> None:
        """The camera's time did: what is known of moving frames is of another time, unless two images only changed places."""
        if seconds > JITTER and (buffer := self._buffer) is not None:
            buffer.clear()

    def placement(self, frame: Frame, target: str) -> Placement:
        """Where in the frame ``target`` the answer to ``frame`` is to be placed. Waits up to ``PATIENCE``.

        Raises:
            BadFrame: ``transform``, there is none between the two frames at the image's stamp.
        """
        if target in ("", frame.frame_id):
            return Placement(frame.frame_id)
        try:
            found = self._look_up(frame, target)
            t, q = found.translation, found.rotation
            return Placement(target, rigid([t.x, t.y, t.z], [q.x, q.y, q.z, q.w]))
        except Exception as error:  # of tf2 or InputError: a part in the wrong place is worse than none
            why = f"no transform from {frame.frame_id!r} to target_frame {target!r} at the image's stamp: {error}"
            raise BadFrame("transform", why) from None

    def _look_up(self, frame: Frame, target: str) -> Any:
        buffer, stamp = self._buffer, Time(nanoseconds=frame.stamp_ns)
        if buffer is None:
            raise InputError("target_frame was changed meanwhile")
        if frame.stamp_ns == 0:  # means "the latest" to tf2, wherever the camera was then
            raise InputError("the image has no stamp: set it in the camera's driver")
        deadline = time.monotonic() + PATIENCE  # tf2_ros' own waiting looks every 20 ms
        while not buffer.can_transform(target, frame.frame_id, stamp) and time.monotonic() < deadline:
            time.sleep(POLL)
        return buffer.lookup_transform(target, frame.frame_id, stamp).transform

    def _listen(self) -> None:
        from tf2_msgs.msg import TFMessage
        from tf2_ros import Buffer

        buffer = Buffer()
        takes = {"/tf": buffer.set_transform, "/tf_static": buffer.set_transform_static}

        def hear(take: Any, message: TFMessage) -> None:
            for transform in message.transforms:
                take(transform, "tf")

        self._subscriptions = [
            self._node.create_subscription(
                TFMessage,
                self._main.resolve_topic_name(name),
                lambda message, take=takes[name]: hear(take, message),
                QoSProfile(depth=100, durability=durability),
            )
            for name, durability in NAMES.items()
        ]
        self._buffer = buffer
