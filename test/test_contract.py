"""Frame, Instances and geometry against known truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import (
    crop_intrinsics,
    deproject,
    depth_order,
    label_moments,
    principal_axes,
    project,
    quaternion_from_matrix,
    scale_intrinsics,
    sqrt_covariance,
)
from instseg_ros.instances import Instances

K = np.array([[600.0, 0, 31.5], [0, 590.0, 23.5], [0, 0, 1]])


def plane(shape=(48, 64), z=0.6):
    return np.full(shape, z, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": np.zeros((0, 3), np.float32)}, "non-empty"),
        ({"depth": plane().astype(np.float64)}, "float64"),
        ({"depth": plane()[None]}, r"\(1, 48, 64\)"),
        ({"depth": -plane()}, "-0.6"),
        ({"depth": np.full((4, 4), np.inf, np.float32)}, "inf"),
        ({"K": np.eye(4)}, r"\(4, 4\)"),
        ({"K": np.diag([0.0, 600, 1])}, "fx = 0.0"),
        ({"K": np.diag([np.nan, 600, 1])}, "fx = nan"),
        ({"color": np.zeros((48, 60, 3), np.uint8)}, r"\(48, 60, 3\)"),
        ({"color": np.zeros((48, 64, 3), np.float32)}, "float32"),
    ],
)
def test_frame_names_the_bad_value(change, message):
    with pytest.raises(InputError, match=message):
        Frame(**({"depth": plane(), "K": K} | change))


def test_from_raw_follows_rep_118():
    raw = np.array([[0, 1000], [65535, 500]], np.uint16)
    frame = Frame.from_raw(raw, K, depth_scale=1e-3)
    assert np.isnan(frame.depth[0, 0])
    np.testing.assert_allclose(frame.depth[[0, 1, 1], [1, 0, 1]], [1.0, 65.535, 0.5])
    assert np.isnan(Frame.from_raw(np.array([[np.inf, -1, np.nan, 0]], np.float32), K).depth).all()


@given(arrays(np.float64, (7, 3), elements=st.floats(-0.3, 0.3)), st.floats(0.3, 2))
def test_project_inverts_deproject(offsets, z):
    points = offsets + [0, 0, 1 + z]
    pixels = project(points, K)
    rays = np.concatenate([(pixels - K[:2, 2]) / [K[0, 0], K[1, 1]], np.ones((7, 1))], 1)
    np.testing.assert_allclose(rays * points[:, 2:], points, atol=1e-9)


def test_deproject_keeps_nan_and_puts_the_principal_point_on_the_axis():
    depth = plane((5, 5), 2.0)
    depth[0, 0] = np.nan
    points = deproject(depth, np.array([[100.0, 0, 2], [0, 100, 3], [0, 0, 1]]))
    np.testing.assert_allclose(points[3, 2], [0, 0, 2])
    np.testing.assert_allclose(points[3, 4], [0.04, 0, 2], rtol=1e-6)
    assert np.isnan(points[0, 0]).all()


@given(st.floats(0.25, 4), st.floats(0.25, 4), st.integers(0, 30), st.integers(0, 30))
def test_intrinsics_follow_the_image(sx, sy, left, top):
    point = np.array([0.05, -0.02, 0.7])
    x, y = project(point, K)
    # Pixel centres sit at integers: the image's corner is at −0.5.
    np.testing.assert_allclose(project(point, scale_intrinsics(K, sx, sy)), [(x + 0.5) * sx - 0.5, (y + 0.5) * sy - 0.5])
    np.testing.assert_allclose(project(point, crop_intrinsics(K, left, top)), [x - left, y - top])


def test_moments_of_a_rectangle_seen_head_on():
    labels = np.zeros((48, 64), np.uint16)
    labels[10:20, 5:45] = 1
    labels[30:40, 30:40] = 3
    points = deproject(plane(), K)
    mean, cov, count = label_moments(labels, points, 3)
    assert count.tolist() == [400, 0, 100]
    np.testing.assert_allclose(mean[0], [(24.5 - 31.5) * 0.6 / 600, (14.5 - 23.5) * 0.6 / 590, 0.6], atol=1e-7)
    pixel = 0.6 / 600
    np.testing.assert_allclose(cov[0, 0, 0], pixel**2 * (40**2 - 1) / 12, rtol=1e-4)  # variance of 40 equidistant values
    assert np.isnan(mean[1]).all()


@given(arrays(np.float64, (3, 3), elements=st.floats(-0.1, 0.1)))
def test_root_and_axes_rebuild_the_covariance(a):
    covariance = a @ a.T
    root = sqrt_covariance(covariance)
    np.testing.assert_allclose(root @ root, covariance, atol=1e-12)
    rotation, sigma = principal_axes(covariance)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert (np.diff(sigma) <= 1e-12).all()
    np.testing.assert_allclose(rotation @ np.diag(sigma**2) @ rotation.T, covariance, atol=1e-12)
    assert np.linalg.norm(quaternion_from_matrix(rotation[None])) == pytest.approx(1)


def test_quaternion_of_a_quarter_turn_about_z():
    q = quaternion_from_matrix(np.array([[[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]]))
    np.testing.assert_allclose(q, [[0, 0, np.sqrt(0.5), np.sqrt(0.5)]])


def test_depth_order_is_nearest_first_and_ignores_holes():
    labels = np.array([[1, 1, 2, 2, 3, 0]], np.uint16)
    depth = np.array([[0.6, 0.6, np.nan, 0.5, np.nan, 0.1]], np.float32)
    assert depth_order(labels, depth, 3).tolist() == [1, 0, 2]


def three_instances():
    labels = np.array([[1, 2, 2, 3]], np.uint16)
    layers = np.stack([labels, np.array([[2, 3, 0, 0]], np.uint16)])
    eye = np.repeat(np.eye(3, dtype=np.float32)[None], 3, 0)
    return Instances(
        labels, np.array([0.9, 0.2, 0.8], np.float32), np.zeros((3, 3), np.float32), eye,
        np.ones(3, np.float32), np.array([0, 1, 2], np.int32), layers,
    )  # fmt: skip


def test_select_drops_relabels_and_closes_gaps():
    kept = three_instances().select(np.array([True, False, True]))
    assert kept.layers.tolist() == [[[1, 2, 0, 2]], [[0, 0, 0, 0]]]
    assert kept.depth_order.tolist() == [0, 1]
    assert kept.pixels.tolist() == [1, 2]


def test_what_a_wall_hides_stays_hidden_when_another_instance_is_dropped():
    layers = np.array([[[0, 1, 2]], [[1, 2, 0]], [[2, 0, 0]]], np.uint16)
    fields = (np.ones(2, np.float32), np.zeros((2, 3), np.float32), np.zeros((2, 3, 3), np.float32), np.ones(2, np.float32))
    kept = Instances(layers[0], *fields, np.arange(2, dtype=np.int32), layers).select(np.array([False, True]))
    assert kept.layers.tolist() == [[[0, 1, 1]], [[1, 0, 0]], [[0, 0, 0]]]


def test_instances_refuse_what_breaks_the_contract():
    good = three_instances()
    fields = {name: getattr(good, name) for name in ("labels", "score", "centroid", "covariance", "visible_fraction", "depth_order", "layers")}
    for name, value, message in (
        ("labels", good.labels.astype(np.uint8), "uint8"),
        ("score", np.array([1.5, 0, 0], np.float32), "1.5"),
        ("depth_order", np.array([0, 0, 1], np.int32), "permutation"),
        ("centroid", np.zeros((2, 3), np.float32), r"\(2, 3\)"),
        ("layers", good.layers[::-1].copy(), "layers"),
        ("visible_fraction", np.array([2, 0, 0], np.float32), "visible_fraction"),
    ):
        with pytest.raises(InputError, match=message):
            Instances(**(fields | {name: value}))
    with pytest.raises(InputError, match="label 3 has no row"):
        Instances(good.labels, *(fields[n][:2] for n in ("score", "centroid", "covariance", "visible_fraction")), fields["depth_order"][:2])


def test_more_than_255_instances_keep_their_ids():
    n = 300
    labels = np.arange(1, n + 1, dtype=np.uint16)[None]
    many = Instances(labels, np.ones(n, np.float32), np.zeros((n, 3), np.float32), np.zeros((n, 3, 3), np.float32),
                     np.ones(n, np.float32), np.arange(n, dtype=np.int32))  # fmt: skip
    assert len(many.select(np.ones(n, bool))) == n and many.pixels.tolist() == [1] * n


@given(arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 4)))
def test_pixels_are_counted(labels):
    found = replace(three_instances(), labels=labels.clip(max=3), layers=labels.clip(max=3)[None])
    assert found.pixels.tolist() == [(found.labels == label).sum() for label in (1, 2, 3)]
    assert found.pixels.dtype == np.int64


def test_empty():
    assert len(Instances.empty((4, 5))) == 0 and Instances.empty((4, 5)).layers.shape == (1, 4, 5)
