"""``target_frame``: the messages that move with it, and the node with tf2_ros, without it, and with a transform missing."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from geometry_msgs.msg import Quaternion, TransformStamped, Vector3  # noqa: E402
from node_rig import Rig, wait_until  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rclpy.time import Time  # noqa: E402
from ros_scenes import FRAME_ID, KnownAnswer, answer, boxes  # noqa: E402

from instseg_ros.clouds import read_cloud, table_moments  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.geometry import deproject  # noqa: E402
from instseg_ros.nodes import answers, transforms  # noqa: E402
from instseg_ros.nodes.markers import markers  # noqa: E402
from instseg_ros.nodes.messages import BadFrame, labels_from_message, stamp_ns  # noqa: E402
from instseg_ros.placement import Placement, rigid  # noqa: E402

DOWN = [1.0, 0.0, 0.0, 0.0]
"""Half a turn about x: a camera that looks down on the base."""
ABOVE = [0.5, 0.0, 1.2]
BASE = Placement("base", rigid(ABOVE, DOWN))
has_tf2 = pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is None, reason="tf2_ros is not installed")


@pytest.fixture(scope="module")
def scene():
    frame, labels = boxes()
    return frame, answer(frame, labels)


# ---- messages


def test_positions_are_placed_and_say_in_which_frame(scene):
    frame, instances = scene
    placed = BASE.instances(instances)
    expected = instances.centroid * [1, -1, -1] + ABOVE
    cloud = answers.instances_cloud(frame, placed, BASE)
    table = read_cloud(cloud)
    np.testing.assert_allclose(table_moments(table)[0], expected, atol=1e-6)
    np.testing.assert_array_equal(table["depth_order"], instances.depth_order)
    poses = answers.poses(frame, placed, BASE)
    first = poses.poses[0].position
    np.testing.assert_allclose([first.x, first.y, first.z], expected[np.argmin(instances.depth_order)], atol=1e-6)
    points = answers.points(frame, placed, BASE)
    got = read_cloud(points)
    there = deproject(frame.depth, frame.K)[np.isfinite(frame.depth)] * np.float32([1, -1, -1]) + np.float32(ABOVE)
    np.testing.assert_allclose(np.stack([got["x"], got["y"], got["z"]], -1), there, atol=1e-6)
    drawn = markers(frame, placed, BASE).markers
    for marker, text in zip(drawn[1::2], drawn[2::2]):  # the text stands on the camera's side: above
        assert text.pose.position.z > marker.pose.position.z and text.pose.position.x == pytest.approx(marker.pose.position.x)
    for header in (cloud.header, poses.header, points.header, *(m.header for m in drawn)):
        assert (header.frame_id, stamp_ns(header)) == ("base", frame.stamp_ns)


# ---- looking up, against a double of tf2's buffer


class Buffer:
    """Knows its transform from the ``calls``-th question on."""

    def __init__(self, calls=1, rotation=DOWN, error=None):
        self.asked, self._calls, self._rotation, self._error = [], calls, rotation, error

    def can_transform(self, target, source, stamp):
        self.asked.append((target, source, stamp.nanoseconds))
        return len(self.asked) >= self._calls

    def lookup_transform(self, target, source, stamp):
        if self._error or len(self.asked) < self._calls:
            raise self._error or LookupError('"base" does not exist')
        x, y, z, w = self._rotation
        return SimpleNamespace(
            transform=SimpleNamespace(translation=Vector3(x=0.5, z=1.2), rotation=Quaternion(x=x, y=y, z=z, w=w))
        )


def looking(buffer):
    made = transforms.Transforms(None, None)
    made._buffer = buffer
    return made


def test_the_transform_of_the_image_s_stamp_is_waited_for(scene):
    frame, buffer = scene[0], Buffer(calls=3)
    found = looking(buffer).placement(frame, "base")
    assert found.frame_id == "base" and buffer.asked == [("base", FRAME_ID, frame.stamp_ns)] * 3
    np.testing.assert_allclose(found.pose, BASE.pose, atol=1e-12)


def test_an_image_without_stamp_is_not_placed_by_the_latest_transform(scene):
    buffer = Buffer()
    with pytest.raises(BadFrame, match="the image has no stamp"):
        looking(buffer).placement(replace(scene[0], stamp_ns=0), "base")
    assert not buffer.asked


def test_only_what_is_of_another_time_is_forgotten():
    cleared = []
    made = looking(SimpleNamespace(clear=lambda: cleared.append(1)))
    made.jumped_back(0.03)
    assert not cleared
    made.jumped_back(20.0)
    assert cleared == [1]
    looking(None).jumped_back(20.0)


@pytest.mark.parametrize("target", ["", FRAME_ID])
def test_the_camera_s_own_frame_needs_no_tf(scene, target):
    found = looking(None).placement(scene[0], target)
    assert found.frame_id == FRAME_ID and found.pose is None


@pytest.mark.parametrize(
    ("buffer", "why"),
    [
        (Buffer(calls=10**9), "does not exist"),
        (Buffer(rotation=[0.0, 0.0, 0.0, 0.0]), "no rigid motion"),
        (Buffer(error=ValueError("frames cannot begin with a '/'")), "begin with"),
        (None, "changed meanwhile"),
    ],
)
def test_without_a_transform_the_frame_is_skipped_never_published_elsewhere(scene, buffer, why, monkeypatch):
    monkeypatch.setattr(transforms, "PATIENCE", 0.02)
    with pytest.raises(BadFrame, match=f"{FRAME_ID}.*'base'.*{why}") as error:
        looking(buffer).placement(scene[0], "base")
    assert error.value.reason == "transform"


def test_the_parameter_is_refused_with_a_reason(monkeypatch):
    with pytest.raises(InputError, match="slash, got '/base'"):
        transforms.check_target_frame("/base")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    transforms.check_target_frame("")
    with pytest.raises(InputError, match="'base' needs tf2_ros, which is not installed: apt install"):
        transforms.check_target_frame("base")


# ---- the node, with the real tf2


@pytest.fixture
def rig(ros_domain):
    made = Rig(ros_domain, lambda *_: KnownAnswer())
    yield made
    made.end()


def change(client, value):
    request = [Parameter("target_frame", value=value).to_parameter_msg()]
    return client.call(SetParameters, "set_parameters", parameters=request).results[0]


def test_a_running_node_refuses_a_frame_that_it_cannot_give(rig):
    result = change(rig.client, "/base")
    assert not result.successful and "slash" in result.reason
    if importlib.util.find_spec("tf2_ros") is None:
        result = change(rig.client, "base")
        assert not result.successful and "needs tf2_ros" in result.reason
    assert rig.node.get_parameter("target_frame").value == ""


def stamped(stamp, parent, child, translation, rotation) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id, message.header.stamp = parent, Time(nanoseconds=stamp).to_msg()
    message.transform.translation = Vector3(**dict(zip("xyz", map(float, translation))))
    message.transform.rotation = Quaternion(**dict(zip("xyzw", rotation)))
    return message


@has_tf2
def test_the_node_answers_in_the_target_frame_of_a_camera_on_a_moving_arm(rig):
    from tf2_msgs.msg import TFMessage

    client = rig.client
    moving = client.create_publisher(TFMessage, "/tf", 100)
    static = client.create_publisher(TFMessage, "/tf_static", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    client.hear("instances", "masks", "poses", "markers")
    client.connect()
    assert change(client, "base").successful

    client.send_frame(boxes(stamp_ns=time.time_ns())[0])
    status = client.wait_for_status(lambda s: s.get("skipped_transform") == "1")
    assert "no transform from 'camera_color_optical_frame' to target_frame 'base'" in status["last_error"]
    assert not client.heard["masks"] and not client.heard["instances"]

    wait_until(lambda: moving.get_subscription_count() and static.get_subscription_count(), "the node to hear TF")
    now = time.time_ns()
    static.publish(TFMessage(transforms=[stamped(now, "tool", FRAME_ID, [0, 0, 0], DOWN)]))
    # The arm goes up by 0.2 m in 0.2 s; the image is taken in the middle.
    for at, height in ((now - 100_000_000, 1.1), (now + 100_000_000, 1.3)):
        moving.publish(TFMessage(transforms=[stamped(at, "base", "tool", [0.5, 0, height], [0.0, 0.0, 0.0, 1.0])]))
    wait_until(lambda: rig.node._engine._transforms._buffer.can_transform("base", FRAME_ID, Time(nanoseconds=now)), "TF to arrive")
    client.send_frame(boxes(stamp_ns=now)[0])
    message = client.wait_for_stamp(now, "instances")
    expected = answer(*boxes())
    np.testing.assert_allclose(table_moments(read_cloud(message))[0], expected.centroid * [1, -1, -1] + ABOVE, atol=1e-5)
    assert message.header.frame_id == client.wait_for_stamp(now, "poses").header.frame_id == "base"
    assert client.wait_for("markers").markers[0].header.frame_id == "base"
    masks = client.wait_for_stamp(now, "masks")
    assert masks.header.frame_id == FRAME_ID
    np.testing.assert_array_equal(labels_from_message(masks)[0], expected.labels)

    assert change(client, "").successful
    assert client.wait_for_stamp(client.send_frame(boxes(stamp_ns=time.time_ns())[0]), "instances").header.frame_id == FRAME_ID
