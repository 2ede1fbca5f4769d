"""ScanNet's format on self-made scans: reading, the benchmark's files, the score by class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.evaluation.average_precision_3d import Scene3D, average_precision
from instseg_ros.evaluation.scannet import CLASSES, read_names, read_scan, scan_folders
from instseg_ros.evaluation.scannet_benchmark import read_answer, read_numbers, read_truth, score_answers, write_answer, write_truth
from instseg_ros.evaluation.scannet_voxels import IDS, scan_voxels, write_proposals
from instseg_ros.methods.mtml.network import MTML, MTMLConfig, Prediction
from instseg_ros.methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter

pytest.importorskip("trimesh")

CHAIR, TABLE, FLOOR = 5, 7, 2
HEADER = """ply
format binary_little_endian 1.0
comment VCGLIB generated
element vertex {vertices}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
property uchar alpha
{label}element face 1
property list uchar int vertex_indices
end_header
"""
VERTEX = [(axis, "<f4") for axis in "xyz"] + [(c, "u1") for c in ("red", "green", "blue", "alpha")]


def write_ply(file: Path, points: np.ndarray, label: np.ndarray | None) -> None:
    """As ScanNet's: binary, colours, and a ushort label a vertex in the second file."""
    table = np.zeros(len(points), VERTEX + ([("label", "<u2")] if label is not None else []))
    for axis, column in zip("xyz", points.T):
        table[axis] = column
    if label is not None:
        table["label"] = label
    face = np.array([(3, [0, 1, 2])], [("n", "u1"), ("i", "<i4", 3)])
    header = HEADER.format(vertices=len(points), label="property ushort label\n" if label is not None else "")
    file.write_bytes(header.encode() + table.tobytes() + face.tobytes())


def write_scan(root: Path, name: str = "scene0000_00") -> Path:
    """Two chairs and a table of 8³ voxels of 10 cm on a floor, two segments each, 200 vertices each; one is not annotated."""
    rng = np.random.default_rng(4)
    folder = root / name
    folder.mkdir(parents=True)
    corners = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [3, 3, 0]])
    points = np.concatenate([corner + rng.random((200, 3)) * 0.8 + [0, 0, 0.1] for corner in corners] + [rng.random((300, 3)) * [4, 4, 0.05]])
    label = np.repeat([CHAIR, CHAIR, TABLE, CHAIR, FLOOR], [200, 200, 200, 200, 300])
    label[:20] = 0
    segment = np.repeat(np.arange(9) * 7, [100] * 8 + [300])
    write_ply(folder / f"{name}_vh_clean_2.ply", points, None)
    write_ply(folder / f"{name}_vh_clean_2.labels.ply", points, label)
    (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"sceneId": name, "segIndices": segment.tolist()}))
    groups = [
        {"id": 0, "objectId": 0, "segments": [0, 7], "label": "office chair"},
        {"id": 1, "objectId": 1, "segments": [14, 21], "label": "chair"},
        {"id": 2, "objectId": 2, "segments": [28, 35], "label": "desk with drawers"},
        {"id": 3, "objectId": 3, "segments": [56], "label": "floor"},
    ]
    (folder / f"{name}.aggregation.json").write_text(json.dumps({"sceneId": name, "segGroups": groups}))
    return folder


def test_a_scan_is_read_with_its_objects_and_classes(tmp_path):
    folder = write_scan(tmp_path)
    assert scan_folders(tmp_path) == [folder]
    scan = read_scan(folder)
    assert scan.name == "scene0000_00" and scan.points.shape == (1100, 3) and scan.points[:, 2].max() > 0.8
    np.testing.assert_array_equal(scan.instance, np.repeat([1, 2, 3, 0, 4], [200, 200, 200, 200, 300]))
    assert scan.object_class.tolist() == [CHAIR, CHAIR, TABLE, FLOOR]
    (tmp_path / "names.tsv").write_text("id\traw_category\tnyu40id\n1\toffice chair\t5\n2\tchair\t5\n3\tdesk with drawers\t14\n4\tfloor\t2\n")
    assert read_scan(folder, read_names(tmp_path / "names.tsv")).object_class.tolist() == [CHAIR, CHAIR, 14, FLOOR]


def test_files_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(InputError, match="holds no scene"):
        scan_folders(tmp_path)
    folder = write_scan(tmp_path)
    segments = folder / "scene0000_00_vh_clean_2.0.010000.segs.json"
    segments.write_text(json.dumps({"segIndices": [1, 2]}))
    with pytest.raises(InputError, match="1100, 1100 and 2 vertices"):
        read_scan(folder)
    segments.write_text("{}")
    with pytest.raises(InputError, match="segIndices"):
        read_scan(folder)
    (folder / "scene0000_00_vh_clean_2.labels.ply").write_bytes(b"ply\n")
    with pytest.raises(InputError, match="labels.ply cannot be read as PLY"):
        read_scan(folder)
    (folder / "scene0000_00_vh_clean_2.labels.ply").unlink()
    with pytest.raises(InputError, match="does not exist"):
        read_scan(folder)
    with pytest.raises(InputError, match="table of labels"):
        read_names(segments)


def test_truth_and_answers_come_back_as_they_were_written(tmp_path):
    scan = read_scan(write_scan(tmp_path))
    write_truth(tmp_path / "gt", scan)
    lines = (tmp_path / "gt" / "scene0000_00.txt").read_text().splitlines()
    assert lines[0] == "5001" and lines[399] == "5002" and lines[400] == "7003" and lines[600] == "0" and lines[-1] == "2004"
    instance, kinds = read_truth(tmp_path / "gt" / "scene0000_00.txt")
    for k in range(1, 5):  # numbered anew in the order of the codes
        own = np.unique(instance[scan.instance == k])
        assert len(own) == 1 and kinds[own[0] - 1] == scan.object_class[k - 1] and (instance == own[0]).sum() == (scan.instance == k).sum()
    masks = np.random.default_rng(0).random((3, 1100)) < 0.3
    write_answer(tmp_path / "found", scan.name, masks, np.array([5, 7, 39]), np.array([0.5, 1.0, 0.123456]))
    text = (tmp_path / "found" / "scene0000_00.txt").read_text()
    assert text.splitlines()[0] == "predicted_masks/scene0000_00_000.txt 5 0.500000"
    again = read_answer(tmp_path / "found" / "scene0000_00.txt", 1100)
    np.testing.assert_array_equal(again[0], masks)
    assert again[1].tolist() == [5, 7, 39] and again[2].tolist() == pytest.approx([0.5, 1.0, 0.123456])
    with pytest.raises(InputError, match="1100 vertices, the scene 7"):
        read_answer(tmp_path / "found" / "scene0000_00.txt", 7)
    (tmp_path / "found" / "scene0000_00.txt").write_text("nothing\n")
    with pytest.raises(InputError, match="line 1"):
        read_answer(tmp_path / "found" / "scene0000_00.txt", 1100)


def test_the_score_by_class(tmp_path):
    """One chair right, one cut in half and below 100 vertices, a table called a chair; floor and unannotated things do not count."""
    scan = read_scan(write_scan(tmp_path))
    write_truth(tmp_path / "gt", scan)
    masks = np.stack([scan.instance == 1, (scan.instance == 2) & (np.arange(1100) % 3 == 0), scan.instance == 3, scan.instance == 0])
    answer = tmp_path / "found"
    write_answer(answer, scan.name, masks, np.array([CHAIR, CHAIR, CHAIR, CHAIR]), np.array([0.9, 0.8, 0.7, 0.6]))
    table = score_answers([tmp_path / "gt" / "scene0000_00.txt"], answer)
    # Of two chairs the surest answer is right; the next has 66 vertices and is not looked at; the third is false; the last lies on
    # what no one annotated. Points of precision over recall: (½, ½), (½, 1), (0, 1), weighted by half the recall around them.
    assert table["chair"]["AP50"] == pytest.approx(0.0 * 0.5 + 0.25 * 1 + 0.25 * 1)
    assert table["table"]["AP50"] == 0 and np.isnan(table["sofa"]["AP50"])
    assert table["mean"]["AP50"] == pytest.approx(table["chair"]["AP50"] / 2)
    write_answer(answer, scan.name, np.stack([scan.instance == k for k in (1, 2, 3)]), np.array([5, 5, 7]), np.ones(3))
    assert score_answers([tmp_path / "gt" / "scene0000_00.txt"], answer)["mean"] == pytest.approx({"AP": 1, "AP50": 1, "AP25": 1})


def test_answers_below_the_least_size_are_not_looked_at():
    """The benchmark skips them; a false one would otherwise cost precision."""
    instance = np.repeat([1, 0], [10, 10])
    masks = np.stack([np.arange(20) < 10, np.arange(20) < 3])
    scene = Scene3D(instance, np.array([5]), masks, np.array([5, 5]), np.array([0.5, 0.9]), least=5)
    assert average_precision([scene], 5, 0.5) == 1


# ---- voxels


def test_voxels_of_a_scan_hold_classes_instances_and_centres(tmp_path):
    scan = read_scan(write_scan(tmp_path))
    seen = scan_voxels(scan)
    v = seen.voxels
    counted = np.isin(scan.semantic, IDS)
    np.testing.assert_array_equal(seen.row >= 0, counted)
    low = scan.points[counted].min(0)
    np.testing.assert_array_equal(v.voxels[seen.row[counted]], np.floor((scan.points[counted] - low) / 0.1).astype(int))
    assert len(v.object_class) == 4  # three objects, and the chair that no one annotated
    assert sorted(IDS[v.object_class].tolist()) == [CHAIR, CHAIR, CHAIR, TABLE]
    for k in (1, 2, 3):
        own = np.unique(v.instance[seen.row[(scan.instance == k) & counted]])
        assert len(own) == 1
        np.testing.assert_allclose(v.centre[own[0]], (v.voxels[v.instance == own[0]] + 0.5).mean(0), atol=1e-5)
    wrong = np.where(scan.semantic == CHAIR, TABLE, scan.semantic)
    assert set(IDS[scan_voxels(scan, wrong).voxels.classes]) == {TABLE}
    with pytest.raises(InputError, match="another mesh"):
        scan_voxels(scan, wrong[:5])
    with pytest.raises(InputError, match="no vertex of a class"):
        scan_voxels(scan, np.full(1100, FLOOR))


def test_a_perfect_network_finds_all(tmp_path, monkeypatch):
    """From scan to voxels, proposals, files and score, with semantics from files as a segmentation gives them. One vertex in ten
    of the first chair has no class, so it is found at overlaps below 0.9 only."""
    scan = read_scan(write_scan(tmp_path))
    (tmp_path / "semantics").mkdir()
    np.savetxt(tmp_path / "semantics" / "scene0000_00.txt", scan.semantic, fmt="%d")
    seen = scan_voxels(scan, read_numbers(tmp_path / "semantics" / "scene0000_00.txt"))
    network = MTML(MTMLConfig(channels=18, stem=1, middle=1, width=1, up=1, head=1))
    segmenter = VoxelSegmenter(network, Thresholds(usual=((4.0, 5.0),), direction=False), torch.device("cpu"))
    code = 4.0 * torch.from_numpy(seen.voxels.instance)[:, None].float().expand(-1, 2)
    monkeypatch.setattr(segmenter, "predict_grid", lambda grid, voxels: Prediction(code, torch.zeros(len(voxels), 3)))
    assert write_proposals(tmp_path / "found", scan, seen, segmenter) == 4
    write_truth(tmp_path / "gt", scan)
    table = score_answers([tmp_path / "gt" / "scene0000_00.txt"], tmp_path / "found")
    assert table["mean"]["AP50"] == table["mean"]["AP25"] == table["table"]["AP"] == 1 and set(table) == {*CLASSES.values(), "mean"}
    (tmp_path / "bad.txt").write_text("5\nchair\n")
    with pytest.raises(InputError, match="a whole number a line"):
        read_numbers(tmp_path / "bad.txt")


def test_training_on_scans_and_their_score_from_the_command_line(tmp_path, capsys):
    """Two steps, then answers and score in the benchmark's files; the numbers mean nothing."""
    pytest.importorskip("pytorch_lightning")
    for split in ("train", "val"):
        write_scan(tmp_path / "scans" / split)
    config = {
        "network": {"stem": 2, "middle": 2, "width": 2, "up": 4, "head": 8, "embedding": 2},
        "trainer": {"batch_size": 1, "epochs": 1, "workers": 0, "checkpoint_every": 1},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    model, scans = str(tmp_path / "mtml-scannet"), tmp_path / "scans"
    assert main(["train", "mtml", "--data", str(scans), "--out", model, "--config", str(tmp_path / "tiny.yaml")]) == 0
    command = ["evaluate", "--scannet", str(scans / "val"), "--keep", str(tmp_path / "kept"), "--json", str(tmp_path / "r.json")]
    assert main([*command, "--model", model]) == 0
    assert (tmp_path / "kept" / "answers" / "scene0000_00.txt").is_file()
    first = json.loads((tmp_path / "r.json").read_text())
    assert first["scans"] == 1 and 0 <= first["mean"]["AP50"] <= 1
    assert main(command) == 0  # the files alone give the same
    assert json.loads((tmp_path / "r.json").read_text())["mean"] == first["mean"]
    capsys.readouterr()
    assert main(command[:3]) == 2 and "--keep" in capsys.readouterr().err
    assert main([*command, "--model", model, "--semantics", str(tmp_path)]) == 2 and "cannot be read" in capsys.readouterr().err
