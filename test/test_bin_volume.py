"""The bin volume: planes, boxes and the learned background against scenes whose geometry is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from instseg_ros.background import FEWEST, Background
from instseg_ros.bin_volume import EDGE, BinVolume, depth_limits, half_spaces
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject
from instseg_ros.instances import Instances

SHAPE = (90, 120)
K = np.array([[140.0, 0, 59.5], [0, 140.0, 44.5], [0, 0, 1]])
ANYWHERE = np.zeros((0, 4))


def rays() -> np.ndarray:
    """(H, W, 3) points at depth 1."""
    return deproject(np.ones(SHAPE, np.float32), K).astype(np.float64)


def plane_depth(normal: np.ndarray, offset: float) -> np.ndarray:
    """(H, W) depth at which each ray meets normal · p + offset = 0."""
    return -offset / (rays() @ normal)


FLOOR_NORMAL = Rotation.from_euler("xy", [14, -9], degrees=True).apply([0, 0, -1])
"""Of a floor that the camera does not look at straight; towards the camera."""
FLOOR = 0.6
"""Distance of the floor from the camera, m."""
BOXES = {"low": (0.012, np.s_[20:40, 25:50]), "high": (0.06, np.s_[45:70, 60:85])}
"""Height over the floor (m) and pixels of flat parts on it."""
WALL = np.s_[:, :12]
"""Pixels of a wall that stands 10 cm above the floor."""


def tilted_bin(*, parts: bool = True, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) float32 m and labels: a tilted floor, a wall at the left, two parts; with noise of 1 mm and lost pixels."""
    depth, labels = plane_depth(FLOOR_NORMAL, FLOOR), np.zeros(SHAPE, np.uint16)
    depth[WALL] = plane_depth(FLOOR_NORMAL, FLOOR - 0.1)[WALL]
    for label, (height, area) in enumerate(BOXES.values() if parts else (), 1):
        depth[area] = plane_depth(FLOOR_NORMAL, FLOOR - height)[area]
        labels[area] = label
    if rng is not None:
        depth = depth + rng.normal(0, 1e-3, SHAPE)
        depth[rng.random(SHAPE) < 0.05] = np.nan
    return depth.astype(np.float32), labels


def frame(depth: np.ndarray, **options: object) -> Frame:
    return Frame(depth, options.pop("K", K), **options)


def empty_frames(count: int = 15, seed: int = 0) -> list[Frame]:
    rng = np.random.default_rng(seed)
    return [frame(tilted_bin(parts=False, rng=rng)[0]) for _ in range(count)]


def instances(labels: np.ndarray, layers: np.ndarray | None = None) -> Instances:
    n = int(labels.max())
    return Instances(
        labels=labels,
        score=np.linspace(1, 0.5, n, dtype=np.float32),
        centroid=np.zeros((n, 3), np.float32),
        covariance=np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)),
        visible_fraction=np.full(n, np.nan, np.float32),
        depth_order=np.arange(n, dtype=np.int32),
        layers=layers,
    )


# ---- planes and boxes

NUMBER = st.floats(-1, 1, allow_nan=False)


@settings(deadline=None, max_examples=50)
@given(st.lists(NUMBER, min_size=4, max_size=4), st.integers(0, 2**32 - 1))
def test_a_plane_keeps_the_points_on_its_positive_side(numbers, seed):
    if np.linalg.norm(numbers[:3]) < 1e-3:
        return
    depth = np.random.default_rng(seed).uniform(0.1, 2, SHAPE).astype(np.float32)
    distance = (deproject(depth, K).astype(np.float64) @ numbers[:3] + numbers[3]) / np.linalg.norm(numbers[:3])
    inside = BinVolume(half_spaces(numbers)).inside(frame(depth))
    clear = np.abs(distance) > 1e-5
    np.testing.assert_array_equal(inside[clear], (distance > 0)[clear])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_a_box_keeps_the_points_within_it(seed):
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform([-0.2, -0.2, 0.3], [0.2, 0.2, 1.0]), rng.uniform(0.05, 0.5, 3)
    turn = Rotation.random(rng=rng) if seed % 2 else Rotation.identity()
    depth = rng.uniform(0.1, 1.5, SHAPE).astype(np.float32)
    local = turn.inv().apply(deproject(depth, K).reshape(-1, 3).astype(np.float64) - centre).reshape(*SHAPE, 3)
    margin = (size / 2 - np.abs(local)).min(-1)
    numbers = [*centre, *(turn.as_quat() * rng.uniform(0.5, 2)), *size]  # a quaternion need not be of unit length
    inside = BinVolume(half_spaces(numbers)).inside(frame(depth))
    clear = np.abs(margin) > 1e-5
    np.testing.assert_array_equal(inside[clear], (margin > 0)[clear])


def test_a_plane_in_front_of_a_tilted_floor_leaves_the_parts():
    depth, labels = tilted_bin(rng=np.random.default_rng(1))
    volume = BinVolume(half_spaces([*FLOOR_NORMAL, FLOOR - 0.006]))  # 6 mm above the floor
    inside = volume.inside(frame(depth))
    expected = (labels > 0) & np.isfinite(depth)
    expected[WALL] = np.isfinite(depth)[WALL]
    assert (inside != expected).mean() < 1e-3


def test_all_zero_or_nothing_is_no_limit():
    depth, _ = tilted_bin(rng=np.random.default_rng(1))
    for numbers in ((), [0.0] * 4, [0.0] * 10):
        volume = BinVolume(half_spaces(numbers))
        assert not volume
        np.testing.assert_array_equal(volume.inside(frame(depth)), np.isfinite(depth))


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([0.0, 0.0, 0.0, 1.0], "no normal"),
        ([1.0] * 7, "4 numbers .* or 10 .*, got 7"),
        ([0.0, 0.0, -1.0, float("nan")], "finite"),
        ([0, 0, 1, 0, 0, 0, 0, 1, 1, 1], "quaternion"),
        ([0, 0, 1, 0, 0, 0, 1, 1, 0, 1], "positive size"),
    ],
)
def test_numbers_that_make_no_volume(numbers, text):
    with pytest.raises(InputError, match=text):
        half_spaces(numbers)


def test_rays_that_miss_the_volume_have_no_depth():
    near, far = depth_limits(half_spaces([0.15, 0, 0.5, 0, 0, 0, 1, 0.1, 2, 0.2]), K, SHAPE)
    assert (near > far)[:, :60].all() and (near <= far).any()
    assert near[:, 0].min() >= 0


# ---- the learned background


def test_only_parts_are_in_front_of_the_background():
    rng = np.random.default_rng(5)
    background = Background.learn(empty_frames())
    for _ in range(3):
        depth, labels = tilted_bin(rng=rng)
        inside = BinVolume(ANYWHERE, background).inside(frame(depth))
        assert not inside[np.isnan(depth)].any()
        assert inside[labels == 0].mean() < 0.003
        middle = np.zeros(SHAPE, bool)
        for _, area in BOXES.values():
            middle[area] = True
        assert inside[middle & np.isfinite(depth)].mean() > 0.99  # the lower part is 12 mm high


def test_median_and_noise_are_those_of_the_surface():
    background = Background.learn(empty_frames(40))
    truth, _ = tilted_bin(parts=False)
    assert np.isfinite(background.depth).all()
    assert np.abs(background.depth - truth).max() < 1.5e-3
    assert np.median(background.sigma) == pytest.approx(1e-3, rel=0.1)


def test_a_hand_in_a_few_frames_and_holes_that_come_and_go_do_no_harm():
    frames = empty_frames(20)
    for hand in frames[3:7]:
        hand.depth[20:60, 30:80] = 0.3
    for k, holed in enumerate(frames):
        holed.depth[:, 5 * (k % 4) :: 20] = np.nan
    background = Background.learn(frames)
    assert np.nanmax(np.abs(background.depth - tilted_bin(parts=False)[0])) < 5e-3


def test_where_the_empty_bin_was_never_seen_parts_are_kept():
    frames = empty_frames()
    for one in frames:
        one.depth[45:70, 60:85] = np.nan  # under the high part
        one.depth[5:9, 8:16] = np.nan  # the shadow of the wall
    background = Background.learn(frames)
    assert np.isnan(background.depth[50, 70])
    depth, _ = tilted_bin()
    inside = BinVolume(ANYWHERE, background).inside(frame(depth))
    assert inside[45:70, 60:85].all()
    assert not inside[5:9, 12:16].any()  # the floor beside the wall


def test_background_and_plane_together():
    background = Background.learn(empty_frames())
    depth, labels = tilted_bin()
    volume = BinVolume(half_spaces([*-FLOOR_NORMAL, 0.03 - FLOOR]), background)  # no more than 3 cm above the floor
    inside = volume.inside(frame(depth))
    assert inside[BOXES["low"][1]].mean() > 0.99 and not inside[BOXES["high"][1]].any() and not inside[labels == 0].any()


def test_a_background_moved_is_noticed():
    background = Background.learn(empty_frames())
    depth, _ = tilted_bin(rng=np.random.default_rng(9))
    assert background.behind(frame(depth), 0.005) < 0.01
    assert background.behind(frame(depth + np.float32(0.03)), 0.005) > 0.9
    assert background.behind(frame(np.roll(depth, 15, 1)), 0.005) > 0.1


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda frames: frames[: FEWEST - 1], "at least 5 frames, got 4"),
        (lambda frames: [*frames, frame(frames[0].depth[:50].copy())], "size .* is 120 x 90, that of a later one 120 x 50"),
        (lambda frames: [*frames, replace(frames[0], frame_id="other")], "frame_id"),
        (lambda frames: [*frames, replace(frames[0], K=K * 1.01)], "intrinsics"),
        (lambda frames: [frame(np.where(np.arange(120) < 10, f.depth, np.float32(np.nan))) for f in frames], "8% of the pixels"),
        (lambda frames: [frame(f.depth + np.float32(0.02 * k)) for k, f in enumerate(frames)], "100% of the view changes"),
    ],
    ids=["few", "size", "frame_id", "intrinsics", "blind", "moving"],
)
def test_frames_from_which_nothing_is_learned(spoil, text):
    with pytest.raises(InputError, match=text):
        Background.learn(spoil(empty_frames(8)))


# ---- the file


def test_a_file_brings_the_background_back(tmp_path):
    background = Background.learn(empty_frames())
    path = tmp_path / "deep" / "bin"  # numpy must not add a suffix
    background.save(path)
    again = Background.load(path)
    for name in ("depth", "sigma", "K"):
        np.testing.assert_array_equal(getattr(again, name), getattr(background, name))
    assert again.frame_id == background.frame_id and again.summary == background.summary
    assert [p.name for p in path.parent.iterdir()] == ["bin"]
    again.check(empty_frames(1)[0])


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (frame(np.ones((60, 80), np.float32)), "size of the background is 120 x 90, that of the camera now 80 x 60"),
        (frame(np.ones(SHAPE, np.float32), K=K * [[1.02], [1], [1]]), "intrinsics of the background is fx 140.000"),
        (frame(np.ones(SHAPE, np.float32), frame_id="left_camera"), "frame_id .* left_camera: empty the bin and call"),
    ],
    ids=["size", "intrinsics", "frame_id"],
)
def test_another_camera_is_refused_with_the_remedy(other, text):
    with pytest.raises(InputError, match=text):
        BinVolume(ANYWHERE, Background.learn(empty_frames())).inside(other)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def _drop_key(path):
    with np.load(path) as file:
        values = {name: file[name] for name in file.files if name != "sigma"}
    np.savez(path.open("wb"), **values)


def _change(name, value):
    def change(path):
        with np.load(path) as file:
            values = dict(file)
        with path.open("wb") as out:
            np.savez(out, **{**values, name: value})

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        _truncate,
        _drop_key,
        lambda path: path.write_text("depth: 3"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        _change("format", 99),
        _change("depth", np.full(SHAPE, -1, np.float32)),
        _change("depth", np.full((3, 3), 1.0)),
        _change("sigma", np.zeros((2, 2), np.float32)),
        _change("K", np.array([{"a": 1}], object)),
    ],
    ids=["truncated", "a key missing", "text", "missing", "folder", "version", "negative", "dtype", "shapes", "pickle"],
)
def test_files_that_are_no_background(spoil, tmp_path):
    path = tmp_path / "bin.npz"
    Background.learn(empty_frames(5)).save(path)
    spoil(path)
    with pytest.raises(InputError, match="bin.npz.*learn_background"):
        Background.load(path)


# ---- what it does to an answer


def test_walls_are_dropped_borders_are_cut_and_parts_stay():
    depth, labels = tilted_bin(rng=np.random.default_rng(3))
    found = labels.copy()
    found[WALL][found[WALL] == 0] = 3  # a wall, found as a part
    found[:, 90:] = 4  # floor
    found[40:52, 25:50] = 1  # the low part with a strip of floor
    background = Background.learn(empty_frames())
    volume = BinVolume(ANYWHERE, background)
    seen = frame(depth)
    clipped = volume.clip(instances(found), seen, volume.inside(seen))
    assert len(clipped) == 2 and clipped.score.tolist() == pytest.approx([1, 1 - 0.5 / 3])
    expected = np.where(np.isnan(depth) & (found < 3), found, labels)  # what has no reading stays
    expected[40 : 40 + EDGE, 25:50] = 1
    assert (clipped.labels != expected).mean() < 0.003


def test_hidden_layers_stay_behind_what_is_cut():
    depth, labels = tilted_bin()
    hidden = np.zeros(SHAPE, np.uint16)
    hidden[20:60, 0:30] = 1  # reaches below the wall
    found = instances(labels, np.stack([labels, np.where(labels == 1, 0, hidden).astype(np.uint16)]))
    background = Background.learn(empty_frames())
    seen = frame(depth)
    volume = BinVolume(ANYWHERE, background)
    clipped = volume.clip(found, seen, volume.inside(seen))
    np.testing.assert_array_equal(clipped.layers[1], found.layers[1])


def test_an_answer_that_is_all_inside_is_passed_on_as_it_is():
    depth, labels = tilted_bin()
    found, seen = instances(labels), frame(depth)
    volume = BinVolume(half_spaces([0, 0, -1, 5.0]))
    assert volume.clip(found, seen, volume.inside(seen)) is found
    nothing = Instances.empty(SHAPE)
    assert volume.clip(nothing, seen, volume.inside(seen)) is nothing
