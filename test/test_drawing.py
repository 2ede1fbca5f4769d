"""Pictures of labels and depth, and the region of interest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.drawing import colorize_depth, draw_overlay, label_colors, outlines
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject
from instseg_ros.instances import Instances
from instseg_ros.region import Region

LABELS = np.zeros((40, 60), np.uint16)
LABELS[5:20, 5:25] = 1
LABELS[10:35, 30:55] = 2
GRAY = np.full((40, 60, 3), 100, np.uint8)
K = np.array([[50.0, 0, 29.5], [0, 50.0, 19.5], [0, 0, 1]])


def test_a_label_keeps_its_color_however_many_there_are():
    np.testing.assert_array_equal(label_colors(5), label_colors(300)[:6])
    assert (label_colors(3)[0] == 0).all()


def test_colors_of_forty_labels_differ_visibly():
    colors = label_colors(40)[1:].astype(int)
    distance = np.abs(colors[:, None] - colors[None]).sum(-1) + 1000 * np.eye(40, dtype=int)
    assert distance.min() > 20
    assert (np.abs(np.diff(colors, axis=0)).sum(-1) > 100).all()  # neighbours differ much


def test_outlines_run_inside_each_label():
    edge = outlines(LABELS)
    assert edge[5, 5:25].all() and edge[19, 5:25].all() and edge[5:20, 5].all() and edge[5:20, 24].all()
    assert not edge[6:19, 6:24].any() and not edge[LABELS == 0].any()


def test_overlay_blends_inside_and_leaves_the_background():
    picture = draw_overlay(GRAY, LABELS, alpha=0.5, outline=False)
    colors = label_colors(2)
    np.testing.assert_allclose(picture[10, 10], (100 + colors[1].astype(float)) / 2, atol=1)
    np.testing.assert_array_equal(picture[LABELS == 0], GRAY[LABELS == 0])
    np.testing.assert_array_equal(draw_overlay(GRAY, LABELS)[5, 10], colors[1])
    assert (GRAY == 100).all()


def test_ids_are_written_on_their_labels():
    ring = np.zeros((60, 60), np.uint16)
    ring[10:50, 10:50] = 1
    ring[22:38, 22:38] = 0
    plain, written = draw_overlay(np.full((60, 60, 3), 100, np.uint8), ring), draw_overlay(np.full((60, 60, 3), 100, np.uint8), ring, ids=True)
    rows, cols = np.nonzero((plain != written).any(-1))
    assert rows.size and ring[int(rows.mean().round()), int(cols.mean().round())] == 1


def test_overlay_refuses_a_background_of_another_size():
    with pytest.raises(InputError, match="background"):
        draw_overlay(GRAY[:10], LABELS)


@pytest.mark.parametrize("gray", [False, True])
def test_depth_pictures_tell_near_from_far_and_missing(gray):
    depth = np.linspace(0.5, 1.0, 2400, dtype=np.float32).reshape(40, 60)
    depth[0, 0] = np.nan
    picture = colorize_depth(depth, gray=gray).astype(int)
    assert picture.shape == (40, 60, 3) and (picture[0, 0] == 0).all()
    near, far = picture[0, 1], picture[-1, -1]
    assert near[0] > far[0]  # warm, or bright
    assert (far > 0).any()
    assert not colorize_depth(np.full((4, 4), np.nan, np.float32), gray=gray).any()
    np.testing.assert_array_equal(colorize_depth(depth, near=0.2, far=3.0)[5, 5], colorize_depth(depth[5:6, 5:6], near=0.2, far=3.0)[0, 0])


def test_the_same_scale_gives_the_same_color_to_flat_scenes():
    assert len(np.unique(colorize_depth(np.full((5, 5), 0.7, np.float32)).reshape(-1, 3), axis=0)) == 1


# ---- region of interest


def frame() -> Frame:
    depth = np.full((40, 60), 0.8, np.float32)
    depth[LABELS == 1], depth[LABELS == 2] = 0.7, 0.6
    return Frame(depth, K, np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_a_region_of_everything_changes_nothing():
    view = frame()
    assert Region().apply(view) is view


def test_cut_pixels_keep_their_place_in_space():
    view = frame()
    cut = Region(20, 8, 30, 25).apply(view)
    assert cut.shape == (25, 30)
    np.testing.assert_allclose(deproject(cut.depth, cut.K), deproject(view.depth, view.K)[8:33, 20:50], atol=1e-6)
    np.testing.assert_array_equal(cut.color, view.color[8:33, 20:50])


def test_depth_outside_the_range_counts_as_missing():
    depth = Region(near=0.65, far=0.75).apply(frame()).depth
    np.testing.assert_array_equal(np.isfinite(depth), LABELS == 1)
    np.testing.assert_array_equal(np.isfinite(Region(far=0.75).apply(frame()).depth), LABELS > 0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 59), st.integers(0, 39), st.integers(0, 80), st.integers(0, 80))
def test_answers_return_to_where_they_were_seen(x, y, width, height):
    region = Region(x, y, width, height)
    cut = region.apply(frame())
    labels = np.ones(cut.shape, np.uint16)
    layers = np.stack([labels, np.zeros_like(labels)])
    one = Instances(labels, *(np.zeros(s, np.float32) for s in (1, (1, 3), (1, 3, 3), 1)), np.zeros(1, np.int32), layers)
    whole = region.restore(one, (40, 60))
    expected = np.zeros((40, 60), np.uint16)
    expected[y : y + height if height else None, x : x + width if width else None] = 1
    np.testing.assert_array_equal(whole.labels, expected)
    np.testing.assert_array_equal(whole.layers[0], expected)


@pytest.mark.parametrize(
    "values",
    [{"x": -1}, {"width": -5}, {"near": -0.1}, {"near": 1.0, "far": 0.5}, {"far": float("inf")}, {"near": float("nan")}],
)
def test_regions_that_make_no_sense_are_refused(values):
    with pytest.raises(InputError):
        Region(**values)


def test_a_region_outside_the_image_is_refused():
    with pytest.raises(InputError, match="outside"):
        Region(x=60).apply(frame())
