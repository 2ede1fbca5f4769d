"""Datasets in BOP format: what is written comes back, and what is broken is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instseg_ros.bop import BopDataset, build_layers
from instseg_ros.bop_writer import BopWriter, ModelInfo, SceneRecord
from instseg_ros.errors import InputError

SHAPE = (40, 50)
K = np.array([[100.0, 0, 24.5], [0, 101, 19.5], [0, 0, 1]])


def square(top: int, left: int, size: int = 12) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + size, left : left + size] = True
    return mask


def record(seed: int = 0, color: bool = True) -> SceneRecord:
    """Three squares: the second covers part of the first, the third lies outside of the view."""
    rng = np.random.default_rng(seed)
    masks = np.stack([square(5, 5), square(10, 10), np.zeros(SHAPE, bool)])
    layers = np.zeros((4, *SHAPE), np.uint16)
    layers[0][masks[0]], layers[0][masks[1]] = 1, 2
    layers[1][masks[0] & masks[1]] = 1
    depth = rng.uniform(0.4, 0.8, SHAPE).astype(np.float32)
    depth[0, :7] = np.nan
    pose = np.tile(np.eye(4), (3, 1, 1))
    pose[:, :3, 3] = rng.uniform(-0.1, 0.6, (3, 3))
    pose[0, :3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    return SceneRecord(
        K=K,
        depth=depth,
        color=rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8) if color else None,
        cam_T_world=np.eye(4),
        object_id=np.array([3, 3, 3]),
        pose=pose,
        masks=masks,
        layers=layers,
        pixels=np.array([144, 144, 60]),
        box=np.array([[5, 5, 12, 12], [10, 10, 12, 12], [-30, 0, 6, 10]]),
        depth_order=np.array([1, 0, 2]),
    )


def tetrahedron() -> ModelInfo:
    vertices = np.array([[0, 0, 0], [0.04, 0, 0], [0, 0.03, 0], [0, 0, 0.02]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    centroid, covariance = moments_by_sampling(vertices, faces)
    return ModelInfo("wedge", vertices, faces, 0.05, False, centroid, covariance)


def moments_by_sampling(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface moments from many small sub-triangles: independent of the closed form."""
    triangles = vertices[faces]
    for _ in range(5):
        a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        triangles = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    centre = triangles.mean(1)
    mean = area @ centre / area.sum()
    d = centre - mean
    return mean, (d * area[:, None]).T @ d / area.sum()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    writer = BopWriter(tmp_path / "set", "val")
    writer.write_models({3: tetrahedron()})
    writer.write_scene(0, [record(0), record(1)])
    writer.write_scene(7, [record(2)])
    return tmp_path / "set"


def test_round_trip(root: Path) -> None:
    data = BopDataset(root)
    assert data.keys == [(0, 0), (0, 1), (7, 0)] and len(data) == 3 and data.split == "val"
    assert data.part_names == {3: "wedge"} and data.chiral == {3: False}
    for i, seed in enumerate((0, 1, 2)):
        wrote, frame = record(seed), data.frame(i)
        assert np.array_equal(frame.K, K) and np.array_equal(frame.color, wrote.color)
        assert np.array_equal(np.isnan(frame.depth), np.isnan(wrote.depth))
        assert np.nanmax(np.abs(frame.depth - wrote.depth)) <= 0.000051
        truth = data.truth(i, amodal=True, layers=True)
        assert np.array_equal(truth.labels, wrote.layers[0]) and truth.labels.dtype == np.uint16
        assert np.array_equal(truth.masks, wrote.masks) and truth.masks.dtype == bool
        assert np.array_equal(truth.layers, wrote.layers)
        assert np.allclose(truth.visible_fraction, [(144 - 49) / 144, 1, 0])
        assert truth.part == ["wedge"] * 3 and truth.depth_order.tolist() == [1, 0, 2]
        assert np.allclose(truth.pose, wrote.pose, atol=1e-12)
        model = tetrahedron()
        R, t = wrote.pose[0, :3, :3], wrote.pose[0, :3, 3]
        assert np.allclose(truth.centroid[0], R @ model.surface_centroid + t)
        assert np.allclose(truth.covariance[0], R @ model.surface_covariance @ R.T)


def test_only_what_is_asked_for_is_read(root: Path) -> None:
    for folder in ("mask", "mask_visib", "rgb"):
        shutil.rmtree(root / "val" / "000000" / folder)
    data = BopDataset(root, "val")
    assert data.frame(0, color=False).color is None
    truth = data.truth(0)
    assert truth.masks is None and truth.layers is None and truth.labels.max() == 2


def test_info_file_follows_bop(root: Path) -> None:
    info = json.loads((root / "val/000000/scene_gt_info.json").read_text())["0"]
    assert info[0]["bbox_obj"] == [5, 5, 12, 12] and info[0]["bbox_visib"] == [5, 5, 12, 12]
    assert info[2]["bbox_visib"] == [-1, -1, -1, -1] and info[2]["px_count_visib"] == 0
    assert [row["px_count_all"] for row in info] == [144, 144, 60]
    assert info[0]["px_count_valid"] == 144 and info[1]["visib_fract"] == 1.0
    camera = json.loads((root / "val/000000/scene_camera.json").read_text())["0"]
    assert camera["depth_scale"] == 0.1 and camera["cam_K"] == K.ravel().tolist() and len(camera["cam_R_w2c"]) == 9


def test_foreign_set_without_our_extras(root: Path) -> None:
    """No layers/, no names, no moments, no order: labels from mask_visib, moments from the PLY, order from the distance."""
    pytest.importorskip("trimesh")
    shutil.rmtree(root / "val/000000/layers")
    path = root / "models/models_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({"3": {"diameter": info["3"]["diameter"]}}))
    path = root / "val/000000/scene_gt_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({k: [{"visib_fract": row["visib_fract"]} for row in rows] for k, rows in info.items()}))
    own, truth = record(0), BopDataset(root).truth(0, amodal=True, layers=True)
    assert truth.part == ["obj_000003"] * 3
    assert np.array_equal(truth.labels, own.layers[0]) and np.array_equal(truth.masks, own.masks)
    assert np.array_equal(truth.layers, own.layers)
    assert np.argsort(truth.depth_order).tolist() == np.argsort(np.linalg.norm(truth.centroid, axis=1)).tolist()
    model = tetrahedron()
    R, t = own.pose[0, :3, :3], own.pose[0, :3, 3]
    assert np.allclose(truth.centroid[0], R @ model.surface_centroid + t, atol=1e-7)
    assert np.allclose(truth.covariance[0], R @ model.surface_covariance @ R.T, atol=1e-6 * 2e-1)


def test_jpeg_gray_and_no_colour(root: Path) -> None:
    scene = root / "val/000000"
    image = cv2.imread(str(scene / "rgb/000000.png"))
    (scene / "rgb/000000.png").unlink()
    cv2.imwrite(str(scene / "rgb/000000.jpg"), image)
    assert BopDataset(root).frame(0).color.shape == (*SHAPE, 3)
    shutil.rmtree(scene / "rgb")
    assert BopDataset(root).frame(0).color is None
    (scene / "gray").mkdir()
    cv2.imwrite(str(scene / "gray/000000.png"), image[..., 0])
    assert (np.ptp(BopDataset(root).frame(0).color, axis=2) == 0).all()


def test_split_folder_given_directly_and_choice_of_splits(root: Path) -> None:
    assert len(BopDataset(root / "val")) == 3
    BopWriter(root, "train").write_scene(0, [record(5)])
    assert len(BopDataset(root, "train")) == 1
    with pytest.raises(InputError, match="train, val: choose one"):
        BopDataset(root)
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        BopDataset(root, "test")


def test_image_without_instances(root: Path) -> None:
    empty = record(0)
    none = np.zeros(0, int)
    empty = SceneRecord(
        K, empty.depth, None, np.eye(4), none, np.zeros((0, 4, 4)), np.zeros((0, *SHAPE), bool),
        np.zeros((4, *SHAPE), np.uint16), none, np.zeros((0, 4), int), none,
    )  # fmt: skip
    BopWriter(root, "test").write_scene(0, [empty])
    truth = BopDataset(root, "test").truth(0, amodal=True, layers=True)
    assert len(truth) == 0 and truth.masks.shape == (0, *SHAPE) and not truth.labels.any()
    shutil.rmtree(root / "test/000000/layers")
    truth = BopDataset(root, "test").truth(0, amodal=True, layers=True)
    assert truth.labels.shape == SHAPE and truth.layers.shape == (4, *SHAPE)


def break_depth_bits(root: Path) -> None:
    cv2.imwrite(str(root / "val/000000/depth/000000.png"), np.zeros(SHAPE, np.uint8))


def break_depth_bytes(root: Path) -> None:
    path = root / "val/000000/depth/000000.png"
    path.write_bytes(path.read_bytes()[:40])


def break_color_size(root: Path) -> None:
    cv2.imwrite(str(root / "val/000000/rgb/000000.png"), np.zeros((10, 10, 3), np.uint8))


def break_layers_values(root: Path) -> None:
    cv2.imwrite(str(root / "val/000000/layers/000000.png"), np.full((*SHAPE, 4), 9, np.uint8))


def break_mask_size(root: Path) -> None:
    shutil.rmtree(root / "val/000000/layers")
    cv2.imwrite(str(root / "val/000000/mask_visib/000000_000001.png"), np.zeros((10, 10), np.uint8))


def edit(name: str, change: object) -> object:
    def apply(root: Path) -> None:
        path = root / "val/000000" / name
        value = json.loads(path.read_text())
        change(value)
        path.write_text(json.dumps(value))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "val/000000/depth/000000.png").unlink(), r"depth/000000\.png does not exist"),
        (break_depth_bits, r"depth/000000\.png must be a 16-bit image"),
        (break_depth_bytes, r"depth/000000\.png is not a readable image"),
        (break_color_size, r"rgb/000000\.png is \(10, 10\), the depth image \(40, 50\)"),
        (break_layers_values, r"layers/000000\.png must be 8-bit .* up to 9"),
        (break_mask_size, r"mask_visib/000000_000001\.png is \(10, 10\)"),
        (lambda root: (root / "val/000000/scene_gt.json").write_text("{"), r"scene_gt\.json is not readable JSON"),
        (lambda root: (root / "val/000000/scene_gt.json").unlink(), r"scene_gt\.json does not exist"),
        (edit("scene_gt.json", lambda v: v.pop("0")), r"scene_gt\.json has no image 0"),
        (edit("scene_gt.json", lambda v: v["0"].pop()), r"scene_gt_info\.json: image 0 must have 2 instances"),
        (edit("scene_gt.json", lambda v: v["0"][0].pop("cam_R_m2c")), r"scene_gt\.json: image 0 lacks cam_R_m2c"),
        (edit("scene_gt.json", lambda v: v["0"][0].update(cam_t_m2c=[1, 2])), r"cam_t_m2c of image 0 must be 3 finite numbers"),
        (edit("scene_gt.json", lambda v: v["0"][0].update(obj_id=1e300)), r"obj_id of image 0 must be a whole number"),
        (edit("scene_camera.json", lambda v: v["0"].update(depth_scale=0)), r"depth_scale of image 0 must be positive"),
        (edit("scene_camera.json", lambda v: v["0"].update(depth_scale="x")), r"depth_scale of image 0 must be 1 finite number"),
        (edit("scene_camera.json", lambda v: v["0"].update(cam_K=[0] * 9)), r"K must be finite with positive focal"),
        (edit("scene_camera.json", lambda v: v.update(x={})), r"entry 'x' must be an image number"),
        (edit("scene_gt_info.json", lambda v: v["0"][0].update(visib_fract=2)), r"visib_fract of image 0 must lie in \[0, 1\]"),
        (edit("scene_gt_info.json", lambda v: v["0"][0].update(depth_order=0)), r"depth_order of image 0 must be a permutation"),
        (lambda root: shutil.rmtree(root / "models"), r"has no models/models_info\.json"),
        (lambda root: (root / "models/models_info.json").write_text("[]"), r"models_info\.json must map object numbers"),
        (lambda root: shutil.rmtree(root / "val"), "holds no BOP scenes"),
        (lambda root: shutil.rmtree(root), "is not a folder"),
    ],
)
def test_damage_is_named(root: Path, damage: object, message: str) -> None:
    damage(root)
    with pytest.raises(InputError, match=message):
        data = BopDataset(root)
        data.frame(0)
        data.truth(0, amodal=True)


KEYS = ["0", "1", "cam_K", "depth_scale", "obj_id", "cam_R_m2c", "cam_t_m2c", "visib_fract"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["scene_camera.json", "scene_gt.json", "scene_gt_info.json", "models_info.json"]), value=JSON)
def test_any_json_gives_data_or_one_clear_error(root: Path, name: str, value: object) -> None:
    path = root / "models" / name if name.startswith("models") else root / "val/000000" / name
    original = path.read_bytes()
    path.write_text(json.dumps(value))
    try:
        data = BopDataset(root)
        data.frame(0)
        data.truth(0, amodal=True)
    except InputError as error:
        assert "\n" not in str(error) and str(error)
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_corrupt_images_give_data_or_one_clear_error(root: Path, where: float, byte: int, cut: bool) -> None:
    for folder in ("depth", "rgb", "layers"):
        path = root / "val/000000" / folder / "000000.png"
        original = path.read_bytes()
        i = int(where * (len(original) - 1))
        path.write_bytes(original[:i] if cut else original[:i] + bytes([byte]) + original[i + 1 :])
        try:
            data = BopDataset(root)
            data.frame(0)
            data.truth(0)
        except InputError as error:
            assert "\n" not in str(error)
        finally:
            path.write_bytes(original)


def test_layers_from_masks_and_order() -> None:
    masks = np.stack([square(5, 5), square(8, 8), square(10, 6)])
    labels = np.zeros(SHAPE, np.uint16)
    for i in (0, 1, 2):  # 2 on top, then 1, then 0
        labels[masks[i]] = i + 1
    layers = build_layers(labels, masks, np.array([2, 1, 0]))
    triple = masks.all(0)
    assert triple.any() and (layers[:, triple] == np.array([3, 2, 1, 0])[:, None]).all()
    assert np.array_equal(layers[0], labels)
    assert np.array_equal((layers > 0).sum(0), masks.sum(0))


def test_layers_as_deep_as_the_pile(tmp_path: Path) -> None:
    """Six squares on top of each other at one place: two files of layers; without the second, as older sets have it, four."""
    masks = np.stack([square(5, 5, 20), *(square(5 + k, 5 + k, 10) for k in range(5))])
    labels = np.zeros(SHAPE, np.uint16)
    for i in range(6):  # the last on top
        labels[masks[i]] = i + 1
    layers = build_layers(labels, masks, np.arange(6)[::-1])
    assert layers.shape == (6, *SHAPE) and np.array_equal((layers > 0).sum(0), masks.sum(0))
    one = replace(
        record(0), object_id=np.full(6, 3), pose=np.tile(np.eye(4), (6, 1, 1)), masks=masks, layers=layers,
        pixels=masks.sum((1, 2)), box=np.zeros((6, 4), int), depth_order=np.arange(6)[::-1],
    )  # fmt: skip
    writer = BopWriter(tmp_path, "train")
    writer.write_models({3: tetrahedron()})
    writer.write_scene(0, [one, record(0)])
    folder = tmp_path / "train/000000/layers"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000000_1.png", "000001.png"]
    data = BopDataset(tmp_path)
    assert np.array_equal(data.truth(0, layers=True).layers, layers) and data.truth(1, layers=True).layers.shape[0] == 4
    cv2.imwrite(str(folder / "000000_1.png"), np.zeros((10, 10, 4), np.uint8))
    with pytest.raises(InputError, match=r"000000_1\.png is \(10, 10\), 000000\.png \(40, 50\)"):
        data.truth(0, layers=True)
    (folder / "000000_1.png").unlink()
    truth = data.truth(0, layers=True, amodal=True)
    assert np.array_equal(truth.layers, layers[:4]) and np.array_equal(truth.masks, masks)


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield record(0)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        BopWriter(tmp_path, "train").write_scene(0, broken())
    assert not list((tmp_path / "train").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        BopWriter(tmp_path / "file", "train").write_scene(0, [record(0)])


def test_another_part_under_the_same_number_is_refused(root: Path) -> None:
    model = tetrahedron()
    BopWriter(root, "val").write_models({3: model})
    other = ModelInfo("other", model.vertices * 2, model.faces, 0.1, True, model.surface_centroid, model.surface_covariance)
    with pytest.raises(InputError, match="another part 'wedge' as number 3"):
        BopWriter(root, "val").write_models({3: other})


def test_symmetries_are_written_as_bop_has_them(tmp_path: Path) -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    writer, plain = BopWriter(tmp_path, "train"), tetrahedron()
    writer.write_models({3: plain})
    path = tmp_path / "models/models_info.json"
    assert not [key for key in json.loads(path.read_text())["3"] if key.startswith("symmetries")]  # absent, not empty
    writer.write_models({3: replace(plain, rotations=turn[None], axes=np.array([[0.0, 0, 1]]))})  # an older set is completed
    entry = json.loads(path.read_text())["3"]
    assert entry["symmetries_discrete"] == [[0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]
    assert entry["symmetries_continuous"] == [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]
    path.write_text("[]")
    with pytest.raises(InputError, match="models_info.json is not a list of parts"):
        writer.write_models({3: plain})
