"""The toy sets of Layered Embeddings and MTML."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from instseg_ros.bop import BopDataset
from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.geometry import deproject, label_moments
from instseg_ros.synthesis.runner import generate
from instseg_ros.synthesis.shapes import SHAPES, ShapesRecipe
from instseg_ros.synthesis.voxels import CLASSES, GRID, VOXEL, VoxelsRecipe, load_scene


def test_shapes_are_the_papers() -> None:
    """Whole shapes have the sizes of the paper, and each class its number."""
    area = {"circle": np.pi * 32**2, "triangle": np.sqrt(3) / 4 * 76.8**2, "rectangle": 25.6 * 204.8}
    seen: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for i in range(40):
        record = ShapesRecipe(40, 3).draw(i)
        assert record.object_id.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
        for mask, (x, y, w, h), k in zip(record.masks, record.box, record.object_id):
            if x > 0 and y > 0 and x + w < 256 and y + h < 256:
                seen[int(k)].append(mask.sum())
    for number, name in enumerate(SHAPES, 1):
        assert np.median(seen[number]) == pytest.approx(area[name], rel=0.05), name


def test_shapes_are_white_with_outlines_and_the_nearer_covers_the_farther() -> None:
    record = ShapesRecipe(1, 6).draw(0)
    assert set(np.unique(record.color)) == {0, 255} and 0.02 < (record.color == 0).mean() < 0.3
    order = record.depth_order
    front = np.where(record.masks, order[:, None, None], 99)
    expected = np.where(record.masks.any(0), front.argmin(0) + 1, 0)
    assert np.array_equal(record.layers[0], expected)
    assert np.array_equal((record.layers > 0).sum(0), record.masks.sum(0))
    top = record.masks[order.argmin()]
    inner = cv2.erode(top.view(np.uint8), np.ones((13, 13), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0).view(bool)
    assert (record.color[inner] == 255).all(), "nothing shows through the topmost shape"
    rim = top & ~cv2.erode(top.view(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).view(bool)
    assert (record.color[rim] == 0).mean() > 0.95


def test_ceilings_of_few_layers_are_the_reference_sets() -> None:
    """Perfect masks cut to the first L layers: AR over IoU 0.5…0.95 at 64², as measured on the reference set (paper-facts):
    N = 6: 0.874 with two layers, 0.978 with three; N = 12: 0.665 and 0.876. Fixes the density of the piles."""
    for n, ceilings in ((6, {2: 0.874, 3: 0.978}), (12, {2: 0.665, 3: 0.876})):
        shares: dict[int, list[float]] = {layers: [] for layers in ceilings}
        for i in range(60):
            record = ShapesRecipe(60, n, seed=1).draw(i)
            masks = record.masks[:, 2::4, 2::4]
            above = np.zeros(masks.shape[1:], int)
            for k in np.argsort(record.depth_order):
                if (masks[k] & (above == 0)).any():  # only shapes that show at all
                    for layers, values in shares.items():
                        values.append((masks[k] & (above < layers)).sum() / masks[k].sum())
                above += masks[k]
        for layers, ceiling in ceilings.items():
            recall = np.mean([np.array(shares[layers]) >= t for t in np.arange(0.5, 1, 0.05)])
            assert recall == pytest.approx(ceiling, abs=0.02), (n, layers)


def test_shapes_set_reads_back_with_moments(tmp_path: Path) -> None:
    assert main(["synth", "shapes", "--scenes", "2", "--instances", "2", "--seed", "3", "--out", str(tmp_path / "s")]) == 0
    data = BopDataset(tmp_path / "s")
    assert len(data) == 2 and data.part_names == {1: "circle", 2: "triangle", 3: "rectangle"}
    checked = 0
    for i in range(2):
        frame, truth = data.frame(i), data.truth(i, amodal=True, layers=True)
        record = ShapesRecipe(2, 2, seed=3).draw(i)
        assert np.array_equal(truth.masks, record.masks) and np.array_equal(frame.color, record.color)
        assert (frame.depth == 1).all()
        points = deproject(frame.depth, frame.K)
        for k, mask in enumerate(truth.masks):
            x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
            if x > 0 and y > 0 and x + w < 256 and y + h < 256:  # whole: its pixels' moments are its own
                mean, second, _ = label_moments(mask.astype(int), points, 1)
                assert np.allclose(mean[0], truth.centroid[k], atol=0.5 / 256)
                assert np.allclose(second[0], truth.covariance[k], atol=0.04 * np.trace(truth.covariance[k]))
                checked += 1
    assert checked > 3


def test_voxel_scenes(tmp_path: Path) -> None:
    recipe = VoxelsRecipe(40)
    touching = total = 0
    for i in range(40):
        scene = recipe.build(i)
        n = len(scene.object_class)
        assert scene.semantic.shape == scene.instance.shape == GRID and 1 <= n <= 14
        assert set(np.unique(scene.instance)) == set(range(n + 1)), "every box has voxels of its own"
        for k, kind in enumerate(scene.object_class):
            voxels = np.argwhere(scene.instance == k + 1)
            assert (scene.semantic[scene.instance == k + 1] == kind).all()
            edges = list(CLASSES.values())[kind - 1]
            assert len(voxels) == pytest.approx(np.prod(edges), rel=0.15)
            assert voxels[:, 2].min() == 0 and voxels[:, 2].max() == edges[2] - 1
            assert np.allclose((voxels.mean(0) + 0.5) * VOXEL, scene.centre[k], atol=1e-5)
            grown = cv2.dilate((scene.instance == k + 1).any(2).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
            touching += len(np.unique(scene.instance.max(2)[grown])) > 1 + bool((scene.instance.max(2)[grown] == 0).any())
            total += 1
    assert 0.25 < touching / total < 0.85


def test_voxel_files(tmp_path: Path) -> None:
    generate(VoxelsRecipe(3, seed=2), tmp_path / "a", workers=1)
    assert main(["synth", "voxels", "--scenes", "3", "--seed", "2", "--out", str(tmp_path / "b")]) == 0
    for i in range(3):
        a, b = tmp_path / f"a/train/{i:06d}.npz", tmp_path / f"b/train/{i:06d}.npz"
        assert a.read_bytes() == b.read_bytes()
        scene, built = load_scene(a), VoxelsRecipe(3, seed=2).build(i)
        assert np.array_equal(scene.instance, built.instance) and np.array_equal(scene.semantic, built.semantic)
    a.write_bytes(a.read_bytes()[:50])
    with pytest.raises(InputError, match="is not a voxel scene"):
        load_scene(a)
    with pytest.raises(InputError, match="does not exist"):
        load_scene(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes", "--classes", "star"], "unknown class 'star'"),
        (["shapes", "--instances", "0"], "--instances must lie in 1…60"),
        (["voxels", "--instances", "30"], "--instances must lie in 1…20"),
        (["voxels", "--scenes", "-1"], "--scenes must be positive"),
        (["voxels", "--workers", "0"], "--workers must be positive"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str) -> None:
    scenes = [] if "--scenes" in arguments else ["--scenes", "1"]
    assert main(["synth", *arguments, *scenes, "--out", str(tmp_path / "o")]) == 2
    assert message in capsys.readouterr().err


def test_view_writes_contact_sheets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generate(ShapesRecipe(8, 2), tmp_path / "s")
    assert main(["view", str(tmp_path / "s"), "--count", "7", "--out", str(tmp_path / "sheets"), "--json", str(tmp_path / "v.json")]) == 0
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert [p.name for p in sheets] == ["train_000.png", "train_001.png"]
    sheet = cv2.imread(str(sheets[0]))
    assert sheet.shape == (6 * (320 + 22), 4 * 320, 3) and sheet.std() > 20
    assert main(["view", str(tmp_path / "nothing"), "--out", str(tmp_path / "x")]) == 2
    assert "is not a folder" in capsys.readouterr().err
