"""Classical baselines on scenes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.errors import InputError
from instseg_ros.evaluation.metrics import one_to_one, overlap
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject
from instseg_ros.methods import load_segmenter
from instseg_ros.methods.classical.edges import depth_edges, grow
from instseg_ros.methods.classical.foreground import find_foreground, fit_floor, smooth_depth, wall_lines
from instseg_ros.methods.classical.scene import Scene
from instseg_ros.methods.classical.segmenter import ALGORITHMS, ClassicalSegmenter, to_instances, write_classical_model

K = np.array([[300.0, 0, 99.5], [0, 300.0, 79.5], [0, 0, 1]])
SHAPE = (160, 200)
NEEDS = {name: "sklearn" for name in ("kmeans", "spectral", "grabcut")} | {name: "skimage" for name in ("graphcut", "ncut", "felzenszwalb")}


def domes(centres=((40, 40), (40, 110), (110, 60), (110, 150)), radius=22, seed=0, noise=2e-4):
    """Hemispheres on a floor at 0.6 m: depth (H, W) and labels (H, W)."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    depth, labels = np.full(SHAPE, 0.6), np.zeros(SHAPE, np.int64)
    for i, (r, c) in enumerate(centres, 1):
        square = radius**2 - (rows - r) ** 2 - (columns - c) ** 2
        inside = square > 0
        depth[inside] = 0.6 - 0.01 - np.sqrt(square[inside]) * 0.6 / 300 * 0.8
        labels[inside] = i
    depth += np.random.default_rng(seed).normal(0, noise, SHAPE)
    return depth.astype(np.float32), labels


def one_to_one_miou(true, found):
    return one_to_one(overlap(true, found, int(true.max()), int(found.max()))[1])[1].mean()


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("count", [4, None])
def test_finds_parts_that_lie_apart(name, count):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs the package {NEEDS[name]} (extra eval)")
    depth, labels = domes()
    instances = ClassicalSegmenter(name).segment(Frame(depth, K), count=count)
    if name == "felzenszwalb":  # it takes no count, and divides round parts
        assert one_to_one_miou(labels, instances.labels) > 0.3
    else:
        assert len(instances) == 4 and one_to_one_miou(labels, instances.labels) > 0.85
    again = ClassicalSegmenter(name).segment(Frame(depth, K), count=count)
    assert np.array_equal(instances.labels, again.labels)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_views_without_parts(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs the package {NEEDS[name]} (extra eval)")
    segmenter = ClassicalSegmenter(name)
    nothing = np.full(SHAPE, np.nan, np.float32)
    floor = np.full(SHAPE, 0.6, np.float32)
    for depth in (nothing, floor):
        assert len(segmenter.segment(Frame(depth, K))) == 0
    one = floor.copy()
    one[50:70, 50:80] = 0.57
    assert segmenter.segment(Frame(one, K), count=1).labels[60, 65] == 1


@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_given_foreground_is_survived(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason=f"needs the package {NEEDS[name]} (extra eval)")
    depth, _ = domes()
    depth[30:50, 30:60] = np.nan
    for foreground in (np.zeros(SHAPE, bool), np.ones(SHAPE, bool), np.eye(*SHAPE, dtype=bool)):
        instances = ClassicalSegmenter(name, min_pixels=1).segment(Frame(depth, K), count=3, foreground=foreground)
        assert not instances.labels[~foreground].any() or name == "grabcut"
    with pytest.raises(InputError, match="foreground must be"):
        ClassicalSegmenter(name).segment(Frame(depth, K), foreground=np.ones((3, 3), bool))


def test_components_divide_touching_parts_at_the_crease():
    depth, labels = domes(centres=((70, 60), (70, 102)))
    labels_found = ClassicalSegmenter("components").segment(Frame(depth, K)).labels
    assert one_to_one_miou(labels, labels_found) > 0.85


def test_holes_belong_to_the_part_around_them():
    depth, labels = domes()
    depth[np.random.default_rng(1).random(SHAPE) < 0.2] = np.nan
    found = ClassicalSegmenter("components").segment(Frame(depth, K)).labels
    assert one_to_one_miou(labels, found) > 0.85


@settings(max_examples=20, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.4, 1.5))
def test_floor_of_any_tilt(a, b, z):
    rng = np.random.default_rng(0)
    xy = rng.uniform(-0.2, 0.2, (3000, 2))
    floor = np.column_stack([xy, z + a * xy[:, 0] + b * xy[:, 1]])
    parts = floor[:900] - [0, 0, 0.03]
    plane = fit_floor(np.concatenate([floor, parts]).astype(np.float32))
    expected = np.array([a, b, -1]) / np.linalg.norm([a, b, 1])
    assert plane is not None and np.arccos(min(1.0, plane[:3] @ expected)) < 0.01
    assert np.abs(floor @ plane[:3] + plane[3]).max() < 0.003


def test_few_points_have_no_floor():
    assert fit_floor(np.zeros((10, 3), np.float32)) is None
    assert fit_floor(np.ones((100, 3), np.float32)) is None


def test_walls_are_found_and_rows_of_parts_are_not():
    rng = np.random.default_rng(0)
    along = rng.uniform(-0.1, 0.1, 800)
    walls = np.concatenate([np.column_stack([along, np.full(800, s * 0.1)]) for s in (-1, 1)])
    parts = rng.uniform(-0.03, 0.03, (800, 2))
    lines = wall_lines(np.concatenate([walls, walls[:, ::-1], parts]).astype(np.float32))
    assert len(lines) == 4
    for line in lines:
        assert abs(line[2] + 0.1) < 0.004 and max(abs(line[:2])) > 0.99
    blobs = np.concatenate([rng.normal(c, 0.006, (500, 2)) for c in ((-0.05, 0), (0, 0.01), (0.06, 0.0))])
    assert wall_lines(blobs.astype(np.float32)) == []


def test_bin_walls_are_no_parts():
    depth, labels = domes()
    depth[:, :5] = depth[:, -5:] = depth[:5] = depth[-5:] = 0.52  # 9 mm wide
    foreground = find_foreground(depth, np.ones(SHAPE, bool), K)
    assert (foreground & (labels == 0)).mean() < 0.02 and foreground[labels > 0].mean() > 0.9


def test_steep_surface_is_no_edge_and_a_step_is():
    depth = np.full((20, 20), 0.6, np.float32) + np.arange(20, dtype=np.float32) * 0.002  # 45° at 300 px
    assert depth_edges(depth, 300).max() < 1
    depth[:, 10:] += 0.012
    assert (depth_edges(depth, 300) >= 1).any(0).nonzero()[0].tolist() == [9, 10]


def test_grow_takes_the_nearest_label():
    labels = np.zeros((3, 9), np.int32)
    labels[1, 1], labels[1, 7] = 5, 2
    region = np.ones((3, 9), bool)
    region[0] = False
    grown = grow(labels, region)
    assert grown[0].tolist() == [0] * 9 and grown[2].tolist()[:4] == [5] * 4 and grown[2].tolist()[5:] == [2] * 4
    assert not grow(np.zeros((3, 3), int), np.ones((3, 3), bool)).any()


def test_smooth_depth_fills_holes_and_keeps_steps():
    depth = np.full((30, 30), 0.5, np.float32)
    depth[:, 15:] = 0.6
    holes = depth.copy()
    holes[5:9, 5:9] = np.nan
    assert np.array_equal(smooth_depth(holes), depth)


def test_cut_keeps_the_camera():
    depth, labels = domes()
    scene = Scene.build(depth, K, labels == 4, height=0.005, seed=0)
    assert np.allclose(scene.points, deproject(smooth_depth(depth), K)[scene.box], atol=1e-6)


def test_instances_of_any_numbering():
    labels = np.zeros((40, 40), int)
    labels[:10, :10], labels[20:40, :20], labels[0, 39] = 700, 9, 3
    depth = np.full((40, 40), 0.6, np.float32)
    depth[:10, :10] = 0.5
    instances = to_instances(labels, depth, deproject(depth, K), 60)
    assert len(instances) == 2 and instances.labels[30, 5] == 1 and instances.labels[5, 5] == 2
    assert instances.depth_order.tolist() == [1, 0] and instances.score[0] > instances.score[1]


def test_model_directory_round_trip(tmp_path):
    write_classical_model(tmp_path / "m", "components", slope=2.5)
    segmenter = load_segmenter(tmp_path / "m", "cpu")
    depth, _ = domes()
    assert segmenter.parameters == {"slope": 2.5} and len(segmenter.segment(Frame(depth, K))) == 4


@pytest.mark.parametrize(("name", "parameters"), [("magic", {}), ("components", {"speed": 3})])
def test_bad_model_is_named(tmp_path, name, parameters):
    write_classical_model(tmp_path / "m", name, **parameters)
    with pytest.raises(InputError, match="magic.*components|speed"):
        load_segmenter(tmp_path / "m", "cpu")
