"""Where the camera node says that its imagers sit, against the extrinsics of a software device."""

from __future__ import annotations

import os
import sys
import time
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")
from rclpy.utilities import get_rmw_implementation_identifier  # noqa: E402

get_rmw_implementation_identifier()  # ROS' Fast DDS before that of pyrealsense2 (camera/realsense.py)
pytest.importorskip("pyrealsense2", reason="needs pyrealsense2 and libusb-1.0-0", exc_type=ImportError)

from builtin_interfaces.msg import Time  # noqa: E402
from conftest import node_environment  # noqa: E402
from node_rig import wait_until  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from instseg_ros.nodes.camera.realsense import load  # noqa: E402
from instseg_ros.nodes.camera.scene import BoxScene  # noqa: E402
from instseg_ros.nodes.camera.transforms import TOPIC, StaticTransforms, transforms  # noqa: E402
from instseg_ros.placement import rigid  # noqa: E402

TILT = Rotation.from_rotvec([0.01, -0.02, 0.03]).as_matrix()
"""Turns the depth imager's frame into the colour imager's: x_color = TILT x_depth + SHIFT."""
SHIFT = np.array([0.015, -0.002, 0.004])


def profiles():
    """Depth and colour of a software device whose imagers are shifted and turned against each other."""
    rs = load()
    device = rs.software_device()
    sensor = device.add_sensor("imagers")
    made = []
    for uid, (kind, format_, size) in enumerate(((rs.stream.depth, rs.format.z16, 2), (rs.stream.color, rs.format.rgb8, 3))):
        stream = rs.video_stream()
        stream.type, stream.fmt, stream.bpp, stream.fps, stream.width, stream.height, stream.uid = kind, format_, size, 30, 64, 48, uid
        stream.intrinsics = rs.intrinsics()
        made.append(sensor.add_video_stream(stream).as_video_stream_profile())
    extrinsics = rs.extrinsics()
    extrinsics.rotation, extrinsics.translation = TILT.T.reshape(-1).tolist(), SHIFT.tolist()  # by columns
    made[0].register_extrinsics_to(made[1], extrinsics)
    return device, made


def chained(found):
    """(parent, child, Transform) … → frame → (4, 4) from it to the root."""
    to_root = {found[0][0]: np.eye(4)}
    for parent, child, pose in found:
        t, q = pose.translation, pose.rotation
        to_root[child] = to_root[parent] @ rigid([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
    return to_root


def check(found, name="camera", base="link"):
    """Names, axes and distances of all frames."""
    to_base = chained(found)
    frames = (base, "depth_frame", "depth_optical_frame", "color_frame", "color_optical_frame")
    assert list(to_base) == [f"{name}_{frame}" for frame in frames]
    depth, color = (to_base[f"{name}_{stream}_optical_frame"] for stream in ("depth", "color"))
    np.testing.assert_allclose(to_base[f"{name}_depth_frame"], np.eye(4), atol=1e-9)
    ahead, right, down = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_allclose(depth @ ahead, [1, 0, 0, 0], atol=1e-9)  # a body's x
    np.testing.assert_allclose(depth @ right, [0, -1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(depth @ down, [0, 0, -1, 0], atol=1e-9)
    expected = np.eye(4)
    expected[:3, :3], expected[:3, 3] = TILT, SHIFT
    np.testing.assert_allclose(np.linalg.inv(color) @ depth, expected, atol=1e-6)  # float32 of librealsense
    # a point that both see
    np.testing.assert_allclose(color @ [*(TILT @ [0.1, 0.2, 0.6] + SHIFT), 1], depth @ [0.1, 0.2, 0.6, 1], atol=1e-6)


def test_the_transforms_chained_are_the_extrinsics():
    _device, streams = profiles()
    check(transforms(streams, "camera", "link"))
    check(transforms(streams, "left_frame", "mount"), "left_frame", "mount")


def test_without_color_there_is_depth():
    _device, streams = profiles()
    assert [child for _, child, _ in transforms(streams[:1], "camera", "link")] == ["camera_depth_frame", "camera_depth_optical_frame"]


def test_what_is_published_and_when(monkeypatch):
    """Against a double of tf2_msgs; with the real one: below."""

    class TFMessage:
        def __init__(self, transforms):
            self.transforms = transforms

    class Double:
        sent, qos = [], {}

        def create_publisher(self, type_, topic, qos):
            assert type_ is TFMessage
            self.qos[topic] = qos
            return self

        def publish(self, message):
            self.sent.append(message)

        def get_clock(self):
            return self

        now = get_clock

        def to_msg(self):
            return Time(sec=7)

    module = ModuleType("tf2_msgs.msg")
    module.TFMessage = TFMessage
    monkeypatch.setitem(sys.modules, "tf2_msgs", ModuleType("tf2_msgs"))
    monkeypatch.setitem(sys.modules, "tf2_msgs.msg", module)
    node = Double()
    publisher = StaticTransforms(node, "camera", "link")
    qos = node.qos[TOPIC]
    assert (qos.durability, qos.reliability, qos.depth) == (DurabilityPolicy.TRANSIENT_LOCAL, ReliabilityPolicy.RELIABLE, 1)
    _device, streams = profiles()
    publisher.publish(streams)
    publisher.publish(streams)
    (message,) = node.sent  # the same is not published again
    check([(t.header.frame_id, t.child_frame_id, t.transform) for t in message.transforms])
    assert all(t.header.stamp == Time(sec=7) for t in message.transforms)
    publisher.publish(streams[:1])
    assert len(node.sent) == 2


def test_without_tf2_msgs_the_node_says_so_once_and_goes_on(spawn, tmp_path):
    (tmp_path / "tf2_msgs.py").write_text("raise ImportError('not here')\n")
    camera = spawn("instseg_ros.nodes.camera", "--ros-args", "-p", "software:=scene", env=first_on_path(tmp_path))
    camera.wait_for("opened Software Device")
    assert camera.stop() == 0
    assert camera.output.count("no transforms are published (not here): apt install ros-$ROS_DISTRO-tf2-msgs") == 1


def test_publish_tf_switches_it_off(spawn, tmp_path):
    (tmp_path / "tf2_msgs.py").write_text("raise ImportError('not here')\n")
    words = ("--ros-args", "-p", "software:=scene", "-p", "publish_tf:=false")
    camera = spawn("instseg_ros.nodes.camera", *words, env=first_on_path(tmp_path))
    camera.wait_for("opened Software Device")
    assert camera.stop() == 0 and "transforms" not in camera.output


def first_on_path(folder):
    return {"PYTHONPATH": os.pathsep.join([str(folder), node_environment(0)["PYTHONPATH"]])}


def test_a_listener_that_comes_late_hears_the_camera_of_another_process(spawn, ros_context):
    messages = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed")
    camera = spawn("instseg_ros.nodes.camera", "--ros-args", "-p", "software:=scene", "-r", "__node:=left")
    camera.wait_for("opened Software Device")
    heard, node = [], Node("listener", context=ros_context)
    node.create_subscription(messages.TFMessage, TOPIC, heard.append, QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    wait_until(lambda: executor.spin_once(timeout_sec=0.1) or heard, "the transforms")
    to_base = chained([(t.header.frame_id, t.child_frame_id, t.transform) for t in heard[0].transforms])
    color_to_depth = np.linalg.inv(to_base["left_depth_optical_frame"]) @ to_base["left_color_optical_frame"]
    np.testing.assert_allclose(color_to_depth[:3, 3], -np.array(BoxScene().baseline), atol=1e-7)  # x_color = x_depth + baseline
    np.testing.assert_allclose(color_to_depth[:3, :3], np.eye(3), atol=1e-7)
    assert abs(heard[0].transforms[0].header.stamp.sec - time.time()) < 60
    executor.shutdown()
    node.destroy_node()
