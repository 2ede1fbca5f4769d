"""Where the imagers sit in the camera, as realsense2_camera says it on /tf_static: <name>_link → … → the optical frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from ...errors import InputError
from ...geometry import quaternion_from_matrix

TOPIC = "/tf_static"
QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""As of tf2_ros.StaticTransformBroadcaster: who comes late gets them, too."""
FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
"""(3, 3): an optical frame's axes (x right, y down, z ahead) in a body's (x ahead, y left, z up), REP-103."""


class StaticTransforms:
    """Publishes the transforms of one camera, again whenever they are others.

    Args:
        node: that publishes.
        name: first part of the frames' names.
        base: last part of the name of the frame that all hang on.

    Raises:
        InputError: tf2_msgs is not installed.
    """

    def __init__(self, node: Node, name: str, base: str) -> None:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError as error:
            raise InputError(f"no transforms are published ({error}): apt install ros-$ROS_DISTRO-tf2-msgs") from None
        self._node, self._name, self._base = node, name, base
        self._message = TFMessage
        self._publisher = node.create_publisher(TFMessage, TOPIC, QOS)
        self._last: list[Any] = []

    def publish(self, profiles: Sequence[Any]) -> None:
        """Publish where the imagers of these streams sit. RuntimeError of librealsense: the camera does not know."""
        made = transforms(profiles, self._name, self._base)
        if made == self._last:  # a recording that begins anew
            return
        self._last = made
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(self._message(transforms=[_message(*transform, stamp) for transform in made]))

    def close(self) -> None:
        """Take the topic back."""
        self._node.destroy_publisher(self._publisher)


def transforms(profiles: Sequence[Any], name: str, base: str) -> list[tuple[str, str, Transform]]:
    """The transforms of a camera.

    Args:
        profiles: ``rs.stream_profile`` of its streams, depth first: the base frame is depth's.
        name, base: as of ``StaticTransforms``.

    Returns:
        parent, child and pose of the child in the parent, two for each stream: the base and <name>_<stream>_frame, whose axes are
        a body's, that and <name>_<stream>_optical_frame.
    """
    made = []
    for profile in profiles:
        extrinsics = profile.get_extrinsics_to(profiles[0])  # x_depth = R x_stream + t, R by columns
        rotation = np.reshape(extrinsics.rotation, (3, 3)).T.astype(float)
        stream = f"{name}_{profile.stream_type().name}"
        pose = _pose(FROM_OPTICAL @ rotation @ FROM_OPTICAL.T, FROM_OPTICAL @ np.asarray(extrinsics.translation, float))
        made.append((f"{name}_{base}", f"{stream}_frame", pose))
        made.append((f"{stream}_frame", f"{stream}_optical_frame", _pose(FROM_OPTICAL, np.zeros(3))))
    return made


def _pose(rotation: np.ndarray, translation: np.ndarray) -> Transform:
    x, y, z = map(float, translation)
    qx, qy, qz, qw = map(float, quaternion_from_matrix(rotation))
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def _message(parent: str, child: str, pose: Transform, stamp: Time) -> TransformStamped:
    return TransformStamped(header=Header(stamp=stamp, frame_id=parent), child_frame_id=child, transform=pose)
