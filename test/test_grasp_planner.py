"""The example planner: which part it chooses, how the tool stands to it, and the node on the segmenter's topic."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from geometry_msgs.msg import PoseStamped  # noqa: E402
from node_rig import Client, wait_until  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402
from ros_scenes import FRAME_ID, answer, boxes  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402

from instseg_ros.clouds import instance_table  # noqa: E402
from instseg_ros.nodes.answers import instances_cloud  # noqa: E402
from instseg_ros.nodes.grasp_planner import choose, tool_rotation  # noqa: E402

LIMITS = {"standoff": 0.1, "min_score": 0.5, "min_visible": 0.7}
TO_CAMERA = np.array([0.0, 0.0, -1.0])


@pytest.fixture
def table():
    """Six boxes; the last is on top."""
    return instance_table(answer(*boxes()))


def test_the_part_on_top_is_chosen_and_approached_from_above(table):
    pick = choose(table, TO_CAMERA, **LIMITS)
    assert pick.label == 6
    np.testing.assert_allclose(pick.approach, pick.center - [0, 0, 0.1], atol=1e-9)
    np.testing.assert_allclose(pick.rotation[:, 2], [0, 0, 1])  # the tool looks along the camera's axis
    assert abs(pick.rotation[0, 0]) == pytest.approx(1, abs=1e-3)  # the box is 40 pixels wide and 34 high
    assert pick.width == pytest.approx(4 * 34 / 150 * 0.69 / np.sqrt(12), rel=0.02)


@pytest.mark.parametrize(("field", "value"), [("score", 0.49), ("visible_fraction", 0.69)])
def test_unsure_and_hidden_parts_are_left(table, field, value):
    table[field][5] = value
    assert choose(table, TO_CAMERA, **LIMITS).label == 5
    table[field] = value
    assert choose(table, TO_CAMERA, **LIMITS) is None
    assert choose(table[:0], TO_CAMERA, **LIMITS) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_tool_is_a_rotation_with_x_along_the_part_and_z_down(seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=rng).as_matrix()
    covariance = turn @ np.diag(rng.uniform(1e-6, 1e-3, 3)) @ turn.T
    up = rng.normal(size=3)
    up /= np.linalg.norm(up)
    tool = tool_rotation(covariance, up)
    np.testing.assert_allclose(tool.T @ tool, np.eye(3), atol=1e-9)
    assert np.linalg.det(tool) == pytest.approx(1) and np.allclose(tool[:, 2], -up)
    x, y = tool[:, 0], tool[:, 1]
    assert x @ covariance @ x >= y @ covariance @ y - 1e-12 and abs(x @ covariance @ y) < 1e-9  # the axes of its shadow


def test_the_node_says_and_publishes_the_next_pick(spawn, ros_context):
    node = spawn("instseg_ros.nodes.grasp_planner", "--ros-args", "-r", "__ns:=/cell", "-p", "max_age:=20.0")
    node.wait_for("waiting for /cell/instseg/instances")
    client = Client(ros_context)
    try:
        client.create_subscription(PoseStamped, "/cell/grasp_planner/approach", client.heard["approach"].append, 10)
        publisher = client.create_publisher(PointCloud2, "/cell/instseg/instances", QoSProfile(depth=1))
        frame, labels = boxes(stamp_ns=time.time_ns())

        def answered():
            publisher.publish(instances_cloud(frame, answer(frame, labels)))
            return client.heard["approach"]

        wait_until(answered, "an approach")
        node.wait_for("next pick: part 6 of 6 at ")
        message = client.heard["approach"][0]
        pick = choose(instance_table(answer(frame, labels)), TO_CAMERA, **LIMITS)
        assert message.header.frame_id == FRAME_ID and message.pose.position.z == pytest.approx(pick.approach[2])
        assert node.stop(signal.SIGINT) == 0 and "Traceback" not in node.output
    finally:
        client.end()


def test_a_direction_that_is_none_is_refused(spawn):
    node = spawn("instseg_ros.nodes.grasp_planner", "--ros-args", "-p", "up:=[0.0, 0.0, 0.0]")
    assert node.wait() == 2 and "up must be a direction [x, y, z], got [0.0, 0.0, 0.0]" in node.output
