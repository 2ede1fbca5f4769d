"""Unlabelled depth → images of InSeGAN: the normalisation's geometry, the background that frames vote on, what is kept of a bag."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from depth_scenes import RIM, SHAPE, K, empty_bin, frame, pile, write_bag, write_bop
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import crop_intrinsics, deproject, project, scale_intrinsics
from instseg_ros.methods.insegan.displacement import displacement
from instseg_ros.methods.insegan.normalisation import Normalisation
from instseg_ros.region import Region
from instseg_ros.training.depth_images import DepthImages
from instseg_ros.training.depth_picture import depth_picture
from instseg_ros.training.survey import fit_normalisation

SIDE = 84


def known(size: int = 42, **changes: object) -> Normalisation:
    """The bin of ``depth_scenes`` exactly; its square lies within the image in x and reaches beyond it in y."""
    x, y = (SHAPE[1] - SIDE) // 2, (SHAPE[0] - SIDE) // 2
    grid = np.full((SIDE, SIDE), np.nan, np.float32)
    grid[-y : SHAPE[0] - y] = empty_bin()[:, x : x + SIDE]
    values = dict(K=K, image_size=SHAPE[::-1], roi=(x, y, SIDE), size=size, near=0.45, far=0.66, background=grid, margin=0.004)
    return Normalisation(**(values | changes))


# values and pixels


@settings(deadline=None)
@given(st.floats(0.1, 1.0), st.floats(0.02, 1.0), st.floats(0, 1))
def test_metres_to_value_and_back(near, height, share):
    n = known(near=near, far=near + height)
    depth = np.float32(near + share * height)
    assert n.to_metres(n.from_metres(depth)) == pytest.approx(depth, abs=1e-5)
    assert n.from_metres(depth) == pytest.approx(1 - 2 * share, abs=1e-3 + 1e-6 / height)


def test_near_is_bright_and_what_lies_outside_is_clipped():
    n = known(near=0.4, far=0.6)
    np.testing.assert_allclose(n.from_metres(np.array([0.4, 0.5, 0.6])), [1, 0, -1], atol=1e-5)
    np.testing.assert_array_equal(n.from_metres(np.array([0.3, 0.9])), [1, -1])
    assert np.isnan(n.from_metres(np.array([np.nan]))).all()


@settings(deadline=None)
@given(
    st.integers(-50, 50), st.integers(-50, 50), st.integers(20, 200), st.integers(8, 224),
    st.floats(0.3, 3), st.floats(-20, 20), st.floats(-30, 120), st.floats(-30, 120),
)  # fmt: skip
def test_pixels_to_working_pixels_and_back_along_the_same_rays(x, y, side, size, scale, shift, u, v):
    n = known(size=size, roi=(x, y, side))
    other = scale_intrinsics(crop_intrinsics(K, shift, -shift), scale, scale)
    for camera in (K, other):
        pixel = np.array([u, v])
        working = n.to_working(pixel, camera)
        np.testing.assert_allclose(n.to_image(working, camera), pixel, atol=1e-6)
        point = np.array([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], 1.0])
        np.testing.assert_allclose(project(point, n.working_K), working, atol=1e-6)
    # The square's corners are the working image's corners.
    corners = n.to_working(np.array([[x, y], [x + side, y + side]]) - 0.5)
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [size - 0.5, size - 0.5]], atol=1e-6)


# frames


def test_boxes_stand_out_with_their_own_depth_and_nothing_else_does():
    n = known()
    depth, part = pile(3)
    image = n.apply(Frame(depth, K))
    assert image.shape == (42, 42) and image.dtype == np.float32
    np.testing.assert_array_equal(n.foreground(Frame(depth, K)), part)
    # Two by two pixels lie in each working pixel; above and below the image there is nothing.
    whole = np.full((SIDE, SIDE), -1, np.float32)
    whole[6:-6] = np.where(part, n.from_metres(depth), -1)[:, 6:-6]
    np.testing.assert_allclose(image, whole.reshape(42, 2, 42, 2).mean((1, 3)), atol=1e-6)


def test_working_image_and_working_camera_give_the_points_of_the_scene():
    n = known()
    depth, _ = pile(4)
    image = n.apply(Frame(depth, K))
    points, full = deproject(n.to_metres(image), n.working_K), deproject(depth, K)
    # Pixels inside of a box: nothing else mixes in.
    solid = image > -1
    for row, column in [p for p in np.argwhere(solid) if solid[p[0] - 1 : p[0] + 2, p[1] - 1 : p[1] + 2].all()][::7]:
        u, v = n.to_image(np.array([column, row]))
        around = full[int(v) : int(v) + 2, int(u) : int(u) + 2].reshape(-1, 3)
        if np.ptp(around[:, 2]) < 1e-6:
            np.testing.assert_allclose(points[row, column], around.mean(0), atol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 1, 2, 3])
def test_other_resolutions_of_the_camera_give_the_same_image(scale):
    depth, _ = pile(5)
    resized = depth[::2, ::2] if scale == 0.5 else np.repeat(np.repeat(depth, int(scale), 0), int(scale), 1)
    n = known(size=21)
    image = n.apply(Frame(np.ascontiguousarray(resized), scale_intrinsics(K, scale, scale)))
    reference = n.apply(Frame(depth, K))
    assert np.abs(image - reference).mean() < (0.05 if scale == 0.5 else 0.01)


def test_a_cropped_frame_gives_the_same_image_and_mask():
    n = known()
    whole = frame(6)
    cropped = Region(x=4, y=0, width=90, height=72).apply(whole)
    np.testing.assert_array_equal(n.apply(cropped), n.apply(whole))
    np.testing.assert_array_equal(n.foreground(cropped), n.foreground(whole)[:, 4:94])


def test_images_go_back_to_the_frame():
    n = known()
    column = np.tile(np.arange(42, dtype=np.float32), (2, 42, 1)) / 42
    back = n.to_frame(column, frame(0))
    assert back.shape == (2, *SHAPE)
    u = np.arange(10, 86)
    np.testing.assert_allclose(back[0, 30, 10:86] * 42, n.to_working(np.stack([u, 0 * u + 30], -1))[:, 0], atol=0.02)
    assert (back[:, :, 0] == -1).all() and n.to_frame(column[:0], frame(0)).shape == (0, *SHAPE)


def test_missing_depth_is_background_but_for_small_holes_in_a_part():
    n = known(size=84)
    depth, part = pile(1, boxes=1)
    row, column = (int(v) for v in np.argwhere(part).mean(0))
    depth[row, column] = np.nan
    depth[RIM + 1 : RIM + 9, RIM + 1 : RIM + 9] = np.nan  # shadows are wider
    view = Frame(depth, K)
    assert n.foreground(view)[row, column] and np.isfinite(n.apply(view)).all()
    u, v = np.rint(n.to_working(np.array([column, row]))).astype(int)
    assert n.to_metres(n.apply(view)[v, u]) == pytest.approx(np.nanmean(depth[part]), abs=2e-3)
    blind = Frame(np.full(SHAPE, np.nan, np.float32), K)
    assert (n.apply(blind) == -1).all() and not n.foreground(blind).any()


def test_what_is_nearer_than_the_parts_is_none_of_them():
    depth = empty_bin()
    depth[20:50, 20:50] = 0.3
    assert (known().apply(Frame(depth, K)) == -1).all()


@pytest.mark.parametrize(
    ("intrinsics", "shape", "message"),
    [
        (np.array([[90.0, 0, 47.5], [0, 70.0, 35.5], [0, 0, 1]]), SHAPE, "fx/fy"),
        (np.array([[90.0, 0, 147.5], [0, 90.0, 35.5], [0, 0, 1]]), SHAPE, "region of interest"),
        (np.array([[400.0, 0, 47.5], [0, 400.0, 35.5], [0, 0, 1]]), SHAPE, "region of interest"),
    ],
)
def test_frames_of_another_camera_are_refused(intrinsics, shape, message):
    with pytest.raises(InputError, match=message):
        known().apply(Frame(np.full(shape, 0.5, np.float32), intrinsics))


def test_a_moved_camera_is_noticed_and_a_pile_is_not():
    n = known()
    for i in range(4):
        depth = frame(i).depth
        assert displacement(n, Frame(depth, K)) is None
        assert "behind the empty bin" in displacement(n, Frame(depth + np.float32(0.012), K))
        assert "higher than in training" in displacement(n, Frame(depth - np.float32(0.012), K))
        assert displacement(n, Frame(np.roll(depth, 8, axis=0), K)) is not None
    wide = scale_intrinsics(K, 2, 2)
    assert displacement(n, Frame(np.repeat(np.repeat(frame(0).depth, 2, 0), 2, 1), wide)) is None
    assert displacement(n, Frame(np.full(SHAPE, np.nan, np.float32), K)) is None  # nothing to go by


# model.yaml


def test_normalisation_survives_yaml():
    n = known()
    again = Normalisation.from_dict(yaml.safe_load(yaml.safe_dump(n.to_dict())))
    np.testing.assert_allclose(again.background, n.background, atol=0.51e-4)
    assert (again.roi, again.size, again.near, again.far, again.image_size) == (n.roi, n.size, n.near, n.far, n.image_size)
    np.testing.assert_allclose(again.apply(frame(2)), n.apply(frame(2)), atol=0.01)
    assert again.to_dict() == n.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"near": None}, "near"), ({"near": 0.9}, "far"), ({"near": float("nan")}, "near"), ({"roi": [1, 2]}, "roi"),
        ({"roi": [0, 0, 0]}, "roi"), ({"roi": [0.5, 0, 3]}, "roi"), ({"size": 4}, "size"), ({"size": "many"}, "size"),
        ({"K": [1, 2]}, "K"), ({"K": [[0, 0, 0]] * 3}, "K"), ({"margin": 0}, "margin"), ({"background_png": "…"}, "background_png"),
        ({"background_png": "aGVsbG8="}, "background_png"), ({"background_png": 5}, "background_png"), ({"colour": 1}, "colour"),
        ({"image_size": [0, 5]}, "image_size"),
    ],
)  # fmt: skip
def test_bad_normalisations_are_named(change, message):
    with pytest.raises(InputError, match=message):
        Normalisation.from_dict(known().to_dict() | change)
    with pytest.raises(InputError, match="far"):
        Normalisation.from_dict({key: value for key, value in known().to_dict().items() if key != "far"})
    with pytest.raises(InputError, match="must hold"):
        Normalisation.from_dict("nothing")


# the survey


def inside(array: np.ndarray) -> np.ndarray:
    return array[RIM + 2 : -RIM - 2, RIM + 2 : -RIM - 2]


@pytest.mark.parametrize("noise", [0.0, 0.0015])
def test_frames_vote_on_the_bin_though_parts_cover_most_of_it(noise):
    piles = [pile(i, boxes=26, noise=noise, noise_seed=i) for i in range(120)]
    assert np.mean([inside(part).mean() for _, part in piles]) > 0.6
    n = fit_normalisation((Frame(depth, K) for depth, _ in piles), Region(width=96, height=72), 42)
    assert n.roi == (0, -12, 96) and type(n.near) is type(n.far) is type(n.margin) is float
    error = n.background[12:84] - empty_bin()
    assert np.abs(inside(error)).max() < 0.001 + 3 * noise and np.isnan(n.background[:10]).all()
    assert n.margin == pytest.approx(max(0.002, 4 * noise), rel=0.3)
    highest = min(float(depth[part].min()) for depth, part in piles)
    assert n.near < highest and n.far == pytest.approx(inside(empty_bin()).max(), abs=0.01)
    for depth, part in piles[:10]:
        found = n.foreground(Frame(depth, K))
        assert (found & part).sum() > 0.95 * part.sum() and (found & ~part).sum() < 0.02 * part.sum()


def test_the_square_lies_where_parts_come_to_lie():
    area = np.s_[20:50, 40:80]
    images = []
    for i in range(80):
        depth, other = empty_bin(), pile(i, boxes=4)[0]
        depth[area] = other[area]
        images.append(Frame(depth, K))
    x, y, side = fit_normalisation(images, Region(), 42).roi
    assert 40 <= side <= 50 and abs(x + side / 2 - 60) < 4 and abs(y + side / 2 - 35) < 4


def test_the_floors_plane_stands_in_where_it_is_never_seen():
    """A crate stands in the middle in every frame, turned and stacked otherwise each time."""
    images = []
    for i in range(100):
        depth, _ = pile(i, boxes=4)
        depth[30:44, 40:56] = 0.50 + 0.06 * (i * 37 % 100) / 100
        images.append(Frame(depth, K))
    n = fit_normalisation(images, Region(width=96, height=72), 42)
    error = (n.background[12:84] - empty_bin())[32:42, 42:54]
    assert np.abs(error).max() < 0.004


def test_a_rim_that_flickers_is_no_part():
    """Stereo moves the outline of a rim of two pixels from frame to frame: a third of them shows the table behind it there."""
    rng, images = np.random.default_rng(0), []
    for i in range(100):
        depth = pile(i, boxes=4)[0]
        depth[:RIM], depth[-RIM:], depth[:, :RIM], depth[:, -RIM:] = 0.65, 0.65, 0.65, 0.65
        for line in (np.s_[RIM - 2 : RIM], np.s_[-RIM : 2 - RIM]):
            for view in (depth[line], depth[:, line]):
                view[rng.random(view.shape) < 0.65] = 0.5
        images.append(Frame(depth, K))
    n = fit_normalisation(images, Region(), 42)
    outside = np.ones(SHAPE, bool)
    outside[RIM:-RIM, RIM:-RIM] = False
    assert max((n.foreground(f) & outside).sum() for f in images[:20]) == 0
    assert np.mean([n.foreground(f).sum() / pile(i, boxes=4)[1].sum() for i, f in enumerate(images)]) > 0.93


def test_flat_parts_that_cover_most_of_the_floor_are_no_floor():
    """Plates of one height cover three quarters of the bin in one layer, so every pixel shows them most of the time."""
    plates, images = [], []
    for i in range(120):
        rng = np.random.default_rng([9, i])
        floor, part = empty_bin(), np.zeros(SHAPE, bool)
        for top in range(RIM, SHAPE[0] - RIM - 9, 10):
            for left in range(RIM, SHAPE[1] - RIM - 9, 10):
                if rng.random() < 0.8:
                    part[top + (i % 2) : top + 9, left : left + 9 + (i % 2)] = True
        images.append(Frame(np.where(part, floor - np.float32(0.008), floor), K))
        plates.append(part)
    n = fit_normalisation(images, Region(width=96, height=72), 42)
    assert np.mean([inside(part).mean() for part in plates]) > 0.6
    for f, part in zip(images[:10], plates):
        assert (n.foreground(f) & part).sum() > 0.9 * part.sum()


def test_a_far_limit_in_front_of_the_floor_takes_its_place():
    images = [frame(i, noise=0.001, noise_seed=i) for i in range(80)]
    n = fit_normalisation(images, Region(width=96, height=72, far=0.57), 42)
    assert n.far == pytest.approx(0.57, abs=1e-3)
    for i in range(5):
        depth, part = pile(i, noise=0.001, noise_seed=i)
        found = n.foreground(Frame(depth, K))
        assert (found & part & (depth < 0.56)).sum() > 0.9 * (part & (depth < 0.56)).sum() and not (found & (depth > 0.571)).any()


def test_an_arm_that_reaches_in_is_no_part():
    """It comes in over the rim in a fifth of the frames, high above the parts."""
    area = np.s_[20:50, 40:80]
    images, highest = [], 1.0
    for i in range(100):
        depth, other = empty_bin(), pile(i, boxes=4)[0]
        depth[area] = other[area]
        highest = min(highest, float(other[area].min()))
        if i % 5 == 0:
            depth[10:30, :60] = 0.25 + 0.001 * (i % 7)
        images.append(Frame(depth, K))
    n = fit_normalisation(images, Region(), 42)
    assert n.roi[2] <= 50 and 0.4 < n.near < highest
    assert n.intrusion(images[0]) > 0.1 and n.intrusion(images[1]) == 0


@pytest.mark.parametrize("kind", ["constant", "blind", "moved", "bumped", "sizes", "none"])
def test_recordings_that_say_nothing_are_refused(kind):
    rng = np.random.default_rng(0)
    frames, message = {
        "constant": ([frame(0)] * 50, "nothing moves"),
        "blind": ([Frame(np.full(SHAPE, np.nan, np.float32), K)] * 50, "depth reading"),
        "moved": ([Frame(pile(i)[0] + np.float32(0.2 * rng.random()), K) for i in range(50)], "moved"),
        "bumped": ([Frame(pile(i)[0] + np.float32(0.008 * (i > 35)), K) for i in range(50)], "moved"),
        "sizes": ([frame(0), Frame(np.full((40, 40), 0.5, np.float32), K)], "96 x 72 and 40 x 40"),
        "none": ([], "0 frames"),
    }[kind]
    with pytest.raises(InputError, match=message) as caught:
        fit_normalisation(frames, Region(), 42)
    assert "\n" not in str(caught.value)


# bags and datasets


def recording(distinct: int, repeats: int, noise: float = 0.001) -> list[np.ndarray]:
    """What a camera sees that runs on while the parts are stirred now and then."""
    return [pile(i // repeats, noise=noise, noise_seed=i)[0] for i in range(distinct * repeats)]


def test_a_still_bin_counts_once(tmp_path):
    bag = write_bag(tmp_path / "bag", recording(40, 5))
    images = DepthImages.from_bag(bag, None, tmp_path / "run" / "images", least=10)
    assert images.summary["frames"] == 200 and images.summary["duplicates"] == 160
    assert images.images.shape == (40, 64, 64) and images.images.dtype == np.float32
    assert -1 <= images.images.min() and 0 < images.images.max() <= 1 and np.isfinite(images.images).all()
    np.testing.assert_array_equal(images.K, K)


def test_a_pick_counts_as_a_new_frame(tmp_path):
    """One of four boxes goes away, later another one comes."""
    stream = [pile(i // 3, boxes=3 + (i % 3 == 1), noise=0.001, noise_seed=i)[0] for i in range(60)]
    summary = DepthImages.from_bag(write_bag(tmp_path / "bag", stream), None, tmp_path / "images", least=10).summary
    assert summary["distinct"] >= 54  # one that lies under the others hardly shows


def test_hands_empty_bins_and_blind_frames_are_left_out(tmp_path):
    stream = recording(60, 1)
    for i in (10, 20):
        stream[i] = stream[i].copy()
        stream[i][10:60, 30:60] = 0.25  # an arm
    stream[30] = np.full(SHAPE, np.nan, np.float32)
    stream[40] = empty_bin()
    bag = write_bag(tmp_path / "bag", stream)
    summary = DepthImages.from_bag(bag, None, tmp_path / "images", least=10).summary
    assert {key: summary[key] for key in ("frames", "distinct", "intruded", "invalid", "empty", "duplicates")} == {
        "frames": 60, "distinct": 56, "intruded": 2, "invalid": 1, "empty": 1, "duplicates": 0,
    }  # fmt: skip


def test_a_second_call_reads_the_images_and_gives_the_same(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", recording(30, 1))
    first = DepthImages.from_bag(bag, None, tmp_path / "a", least=10)
    again = DepthImages.from_bag(bag, None, tmp_path / "b", least=10)
    np.testing.assert_array_equal(first.images, again.images)
    assert first.normalisation.to_dict() == again.normalisation.to_dict() and first.summary == again.summary
    with monkeypatch.context() as patch:
        patch.setattr("instseg_ros.training.depth_sources.bundles", None)  # nothing may be read
        cached = DepthImages.from_bag(bag, None, tmp_path / "a", least=10)
    np.testing.assert_array_equal(first.images, cached.images)
    assert len(DepthImages.from_bag(bag, None, tmp_path / "a", size=32, least=10).images[0]) == 32


def test_the_picture_shows_the_empty_bin_and_the_images(tmp_path):
    bag = write_bag(tmp_path / "bag", recording(30, 1))
    images = DepthImages.from_bag(bag, None, tmp_path / "images", roi=(0, 0, 96, 72), least=10, size=32)
    sheet = depth_picture(images)
    assert sheet.shape == (4 * 164 - 4, 6 * 164 - 4) and sheet.dtype == np.uint8
    first, second = sheet[:160, :160], sheet[:160, 164:324]
    # 96 x 72 in a square: floor in the middle, brighter walls around it, nothing above and below.
    assert first[80, 80] < first[80, 4] and first[4, 80] == 0
    np.testing.assert_array_equal(second[2::5, 2::5], (255 * (images.images[0] + 1) / 2).astype(np.uint8))


def test_validation_images_keep_the_normalisation_of_the_training(tmp_path):
    write_bop(tmp_path / "set", 30)
    write_bop(tmp_path / "set", 3, "val")
    train = DepthImages.from_bop(tmp_path / "set", "train", tmp_path / "a", least=10, size=32)
    val = DepthImages.from_bop(tmp_path / "set", "val", tmp_path / "b", normalisation=train.normalisation, least=1)
    assert len(train) == 30 and val.images.shape == (3, 32, 32)
    np.testing.assert_array_equal(val.images, train.images[:3])


def test_no_label_is_ever_opened(tmp_path):
    """Every file that Python opens and every file that OpenCV could open: the masks are gone, the rest is watched."""
    root = write_bop(tmp_path / "set", 30)
    reference = DepthImages.from_bop(root, "train", tmp_path / "a", least=10)
    code = (
        "import sys\nopened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ('open', 'os.listdir', 'os.scandir') else None)\n"
        "import cv2\nread = cv2.imread\n"
        "cv2.imread = lambda path, *rest: (opened.append(str(path)), read(path, *rest))[1]\n"
        "from pathlib import Path\nfrom instseg_ros.training.depth_images import DepthImages\n"
        f"DepthImages.from_bop({str(root)!r}, 'train', Path({str(tmp_path / 'b')!r}), least=10)\n"
        f"import json\nprint(json.dumps([p for p in opened if p.startswith({str(root)!r})]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    opened = set(json.loads(result.stdout.splitlines()[-1]))
    folder = root / "train" / "000000"
    allowed = {str(root), str(root / "train"), str(folder / "scene_camera.json")} | {str(p) for p in (folder / "depth").iterdir()}
    assert opened and opened <= allowed, sorted(opened - allowed)
    for label in ("scene_gt.json", "scene_gt_info.json", "scene_gt_coco.json"):
        (folder / label).unlink(missing_ok=True)
    for label in ("mask", "mask_visib", "layers", "rgb"):
        shutil.rmtree(folder / label, ignore_errors=True)
    shutil.rmtree(root / "models")
    unlabelled = DepthImages.from_bop(root, "train", tmp_path / "c", least=10)
    np.testing.assert_array_equal(unlabelled.images, reference.images)


def test_no_truth_topic_is_ever_read(tmp_path, monkeypatch):
    from bag_scenes import write_bag as write_labelled

    from instseg_ros.bags import Bag

    asked, decoded = set(), set()
    messages, decode = Bag.messages, Bag.decode
    monkeypatch.setattr(Bag, "messages", lambda self, topics=None: (asked.update(topics), messages(self, topics))[1])
    monkeypatch.setattr(Bag, "decode", lambda self, message: (decoded.add(message.topic), decode(self, message))[1])
    bag = write_labelled(tmp_path / "bag", 16)
    with Bag(bag) as held:
        assert "/truth/masks" in held.types
    DepthImages.from_bag(bag, None, tmp_path / "images", least=5)
    names = {"/camera/camera/aligned_depth_to_color/image_raw", "/camera/camera/aligned_depth_to_color/camera_info"}
    assert asked == decoded == names


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (recording(30, 1), {"least": 200}, "30 distinct frames of the 200 needed"),
        (recording(1, 60), {}, "nothing moves"),
        (recording(30, 1), {"topic": "/depth"}, "has no depth topic /depth; it holds /camera/camera/aligned_depth_to_color/camera_info"),
        ([np.full(SHAPE, np.nan, np.float32)] * 30, {}, "depth reading"),
        (recording(30, 1), {"depth_range": (5.0, 6.0)}, "--depth-range"),
        (recording(30, 1), {"depth_range": (0.1, 0.2)}, "--depth-range"),
        (recording(30, 1), {"roi": (500, 0, 10, 10)}, "roi"),
    ],
)  # fmt: skip
def test_bad_bags_leave_nothing_behind(tmp_path, images, options, message):
    bag = write_bag(tmp_path / "bag", images)
    topic = options.pop("topic", None)
    with pytest.raises(InputError, match=message) as caught:
        DepthImages.from_bag(bag, topic, tmp_path / "out" / "run" / "images", **options)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_bag_without_a_single_message_is_refused_in_one_line(tmp_path):
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    types, topic = get_typestore(Stores.ROS2_HUMBLE), "/camera/camera/aligned_depth_to_color/"
    with Writer(tmp_path / "bag", version=9) as writer:
        for name, kind in (("image_raw", "Image"), ("camera_info", "CameraInfo")):
            writer.add_connection(topic + name, f"sensor_msgs/msg/{kind}", typestore=types)
    with pytest.raises(InputError, match=r"bag holds no message, only .*image_raw \(sensor_msgs/msg/Image, 0\).*: record it again") as caught:
        DepthImages.from_bag(tmp_path / "bag", None, tmp_path / "out" / "run" / "images")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_change_of_resolution_within_the_recording_is_refused(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / "bag", recording(30, 1))
    from instseg_ros.training.depth_sources import BagDepth

    frames = BagDepth.frames

    def changing(self, wanted=None):
        yield from frames(self, wanted)
        if wanted is None:  # where the survey does not look
            yield Frame(np.full((40, 40), 0.5, np.float32), K)

    monkeypatch.setattr(BagDepth, "frames", changing)
    with pytest.raises(InputError, match="96 x 72 and 40 x 40"):
        DepthImages.from_bag(bag, None, tmp_path / "out" / "run" / "images", least=10)
    assert not (tmp_path / "out").exists()


# the command


def fails(capsys, *words: object) -> str:
    """``instseg train`` that must end with status 2 and one line on stderr; returns the line."""
    assert main(["train", *map(str, words)]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("instseg train: ") and not any("Traceback" in line for line in lines)
    return lines[-1]


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    """A bag of 30 frames."""
    return write_bag(tmp_path_factory.mktemp("short") / "bag", recording(30, 1))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --bag FILE or --data DIR"),
        (["--bag", "BAG", "--data", "x"], "give --bag FILE or --data DIR"),
        (["--bag", "/absent"], "/absent does not exist"),
        (["--bag", "BAG"], "30 distinct frames of the 200 needed"),
        (["--bag", "BAG", "--topic", "/depth"], "no depth topic /depth"),
        (["--bag", "BAG", "--instances", "0"], "--instances must be a positive number"),
        (["--bag", "BAG", "--instances", "7-3"], "--instances must be a positive number"),
        (["--bag", "BAG", "--instances", "3-7", "--config", "insegan_faithful"], "give one number"),
        (["--bag", "BAG", "--roi", "1,2"], "--roi must be"),
        (["--bag", "BAG", "--roi", "0,0,-5,5"], "roi"),
        (["--bag", "BAG", "--depth-range", "0.5,0.4"], "depth_range"),
        (["--bag", "BAG", "--depth-range", "near,far"], "--depth-range must be"),
        (["--data", "/absent"], "/absent"),
        (["--data", "x", "--topic", "/depth"], "--bag"),
        (["--bag", "BAG", "--resume"], "nothing to resume"),
    ],
)
def test_bad_requests_to_train_leave_nothing_behind(short_bag, tmp_path, capsys, words, message):
    pytest.importorskip("pytorch_lightning")
    out = tmp_path / "model"
    line = fails(capsys, "insegan", "--out", out, *[short_bag if word == "BAG" else word for word in words])
    assert message in line and not out.exists()


def test_methods_with_labels_refuse_bags(tmp_path, capsys):
    assert "--bag is for methods that learn without labels" in fails(capsys, "clusternet", "--bag", "x", "--out", tmp_path / "m")
    assert "--data" in fails(capsys, "clusternet", "--out", tmp_path / "m")
