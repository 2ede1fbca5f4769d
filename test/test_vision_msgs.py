"""``~/detections`` over DDS, with the real vision_msgs (runs where that is installed)."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")
pytest.importorskip("vision_msgs", reason="vision_msgs is not installed")

from node_rig import TYPES, Rig  # noqa: E402
from ros_scenes import FRAME_ID, KnownAnswer, answer, boxes  # noqa: E402
from vision_msgs.msg import Detection3DArray  # noqa: E402

from instseg_ros.geometry import principal_axes  # noqa: E402


def test_detections_arrive_with_pose_covariance_score_and_box(ros_domain, monkeypatch):
    monkeypatch.setitem(TYPES, "detections", Detection3DArray)
    rig = Rig(ros_domain, lambda *_: KnownAnswer())
    try:
        rig.client.hear("detections")
        rig.client.connect()
        message = rig.client.wait_for_stamp(rig.client.send_frame(boxes(stamp_ns=time.time_ns())[0]), "detections")
    finally:
        rig.end()
    expected = answer(*boxes())
    assert message.header.frame_id == FRAME_ID and [d.id for d in message.detections] == list("123456")
    for i, detection in enumerate(message.detections):
        assert detection.header == message.header
        (result,) = detection.results
        assert (result.hypothesis.class_id, result.hypothesis.score) == ("part", pytest.approx(expected.score[i]))
        position = result.pose.pose.position
        np.testing.assert_allclose([position.x, position.y, position.z], expected.centroid[i], atol=1e-6)
        covariance = np.reshape(result.pose.covariance, (6, 6))
        np.testing.assert_allclose(covariance[:3, :3], expected.covariance[i], atol=1e-12)
        assert not covariance[3:].any() and not covariance[:, 3:].any()
        assert detection.bbox.center == result.pose.pose
        sigma = principal_axes(expected.covariance[i].astype(float))[1]
        size = detection.bbox.size
        np.testing.assert_allclose([size.x, size.y, size.z], np.sqrt(12) * sigma, rtol=1e-6, atol=1e-9)
