"""Answers in another frame than the camera's: the geometry, against known motions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from instseg_ros.errors import InputError
from instseg_ros.instances import Instances
from instseg_ros.placement import Placement, rigid

LOOKING_DOWN = rigid([0.5, 0.0, 1.2], [1.0, 0.0, 0.0, 0.0])
"""A camera 1.2 m above the base, its optical axis down: half a turn about x."""


def one_part(centroid, covariance) -> Instances:
    labels = np.ones((2, 2), np.uint16)
    row = {"score": 1.0, "centroid": centroid, "covariance": covariance, "visible_fraction": 1.0}
    arrays = {name: np.asarray([value], np.float32) for name, value in row.items()}
    return Instances(labels=labels, depth_order=np.zeros(1, np.int32), **arrays)


def test_a_camera_that_looks_down_on_the_table():
    placement = Placement("base", LOOKING_DOWN)
    # A rod along the camera's y axis, tilted towards z: half a turn about x keeps x and the yz block, and turns xy and xz.
    covariance = np.array([[1, 2, 3], [2, 9, 4], [3, 4, 4]]) * 1e-4
    moved = placement.instances(one_part([0.1, 0.2, 1.0], covariance))
    np.testing.assert_allclose(moved.centroid[0], [0.6, -0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(moved.covariance[0], np.array([[1, -2, -3], [-2, 9, 4], [-3, 4, 4]]) * 1e-4, atol=1e-9)
    np.testing.assert_allclose(placement.direction(np.array([0.0, 0.0, 1.0])), [0, 0, -1], atol=1e-12)
    assert moved.labels is not None and np.array_equal(moved.labels, [[1, 1], [1, 1]])


def test_the_camera_s_own_frame_changes_nothing():
    instances = one_part([0.1, 0.2, 1.0], np.eye(3) * 1e-4)
    points = np.ones((4, 3), np.float32)
    own = Placement("camera")
    assert own.instances(instances) is instances and own.points(points) is points


angles = st.floats(-np.pi, np.pi)
lengths = st.floats(-5, 5)


@settings(max_examples=50, deadline=None)
@given(st.tuples(angles, angles, angles), st.tuples(lengths, lengths, lengths), st.integers(0, 2**32 - 1))
def test_moments_of_moved_points_are_the_moved_moments(turn, translation, seed):
    points = np.random.default_rng(seed).normal([0.1, -0.2, 0.7], [0.01, 0.03, 0.02], (200, 3))
    placement = Placement("base", rigid(translation, Rotation.from_euler("xyz", turn).as_quat()))
    moved = placement.instances(one_part(points.mean(0), np.cov(points.T, bias=True)))
    there = placement.points(points)
    np.testing.assert_allclose(moved.centroid[0], there.mean(0), atol=2e-6)
    np.testing.assert_allclose(moved.covariance[0], np.cov(there.T, bias=True), atol=1e-9)
    back = Placement("camera", np.linalg.inv(placement.pose))
    np.testing.assert_allclose(back.points(there), points, atol=1e-9)
    assert placement.points(points.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("translation", "quaternion"),
    [([0, 0, 0], [0, 0, 0, 0]), ([0, 0, 0], [0, 0, 0, 1.1]), ([np.nan, 0, 0], [0, 0, 0, 1]), ([0, 0, 0], [np.nan, 0, 0, 1])],
)
def test_what_is_no_rigid_motion_is_refused(translation, quaternion):
    with pytest.raises(InputError, match="no rigid motion"):
        rigid(translation, quaternion)
