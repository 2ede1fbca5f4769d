"""MTML on bins: a network that knows the truth, samples against it, a tiny training from dataset to segmenter."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from small_bop import record, write_small_bop

from instseg_ros.bop import BopDataset, BopWriter
from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject, label_moments
from instseg_ros.methods.model_directory import ModelDirectory
from instseg_ros.methods.mtml.network import MTML, MTMLConfig, Prediction
from instseg_ros.methods.mtml.segmenter import MTMLSegmenter
from instseg_ros.methods.mtml.views import VoxelInput, find_floor, voxelize_views
from instseg_ros.methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter
from instseg_ros.methods.segmenter import load_segmenter
from instseg_ros.training.voxel_bins import BinVoxels, collate_grids, mirror, voxel_instances

INPUT = VoxelInput(voxel=0.008, above=0.12)
SLIM = {"stem": 2, "middle": 2, "width": 2, "up": 4, "head": 8, "embedding": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> BopDataset:
    root = tmp_path_factory.mktemp("bop")
    write_small_bop(root, "train")
    return BopDataset(root, "train")


class Oracle(VoxelSegmenter):
    """Embeddings far apart, no matter what the network says."""

    def __init__(self, instance: np.ndarray) -> None:
        network = MTML(MTMLConfig(channels=INPUT.channels, part=True, **SLIM))
        super().__init__(network, Thresholds(usual=((6.0, 5.0),), direction=False), torch.device("cpu"))
        self.instance = torch.from_numpy(instance)

    def predict_grid(self, grid, voxels):
        embedding = 4.0 * self.instance[:, None].float().expand(-1, 2)
        return Prediction(embedding, torch.zeros(len(voxels), 3), torch.where(self.instance < 0, -5.0, 5.0))


@pytest.mark.parametrize("i", range(4))
def test_the_truth_comes_back_with_its_moments(dataset, i):
    frame, truth = dataset.frame(i), dataset.truth(i)
    scene = voxelize_views([(frame, None)], INPUT)
    np.testing.assert_allclose(find_floor([(frame, None)]), [0, 0, -1, 0.6], atol=1e-3)
    answer = MTMLSegmenter(Oracle(voxel_instances(scene, truth.labels)), INPUT).segment(frame)
    assert len(answer) == len(truth)
    for k in range(1, len(truth) + 1):
        own = truth.labels == k
        found = np.bincount(answer.labels[own], minlength=len(answer) + 1).argmax()
        mask = answer.labels == found
        assert (own & mask).sum() / (own | mask).sum() == 1  # boxes stand apart: no voxel holds two
    centroid, covariance, _ = label_moments(answer.labels, deproject(frame.depth, frame.K), len(answer))
    np.testing.assert_allclose(answer.centroid, centroid, atol=1e-6)
    np.testing.assert_allclose(answer.covariance, covariance, atol=1e-8)
    assert sorted(answer.depth_order) == list(range(len(answer)))


def test_overlapping_proposals_are_resolved_in_the_order_of_their_scores(dataset):
    """Two clusters at the small bandwidth, one at the large: the surer ones win, no pixel has two labels."""
    frame, truth = dataset.frame(0), dataset.truth(0)
    oracle = Oracle(voxel_instances(voxelize_views([(frame, None)], INPUT), truth.labels))
    prediction = oracle.predict_grid(None, np.zeros((len(oracle.instance), 3)))
    near = Prediction(prediction.embedding / 4, prediction.direction, prediction.part)  # 1 apart: 1.5 and 2.25 join them
    oracle.predict_grid = lambda grid, voxels: near
    voxels = voxelize_views([(frame, None)], INPUT).occupied.voxels
    part = near.part > 0
    proposals = oracle.propose(near.select(part), torch.from_numpy(voxels)[part])
    assert (proposals.score.diff() <= 0).all()
    answer = MTMLSegmenter(oracle, INPUT).segment(frame)
    assert len(answer) == len(truth) and answer.score.min() > 0.5


def test_two_views_have_the_same_rows(dataset):
    frame, truth = dataset.frame(1), dataset.truth(1)
    moved = np.eye(4)
    moved[0, 3] = 0.3
    oracle = Oracle(np.tile(voxel_instances(voxelize_views([(frame, None)], INPUT), truth.labels), 1))
    first, second = MTMLSegmenter(oracle, INPUT).segment_views([(frame, moved), (frame, moved)])
    np.testing.assert_array_equal(first.labels, second.labels)
    assert len(first) == len(truth)
    alone = MTMLSegmenter(oracle, INPUT).segment(frame)
    np.testing.assert_array_equal(first.labels, alone.labels)


@pytest.fixture
def moved(tmp_path) -> tuple[BopDataset, np.ndarray]:
    """Five boxes seen by two cameras, the second one 2.6 cm to the left: the boxes shift by 6 pixels; and the step of the camera (m)."""
    here = record(5, 1, 2)
    step = 6 * 0.52 / 120
    masks = np.roll(here.masks, 6, axis=2)
    layers = np.roll(here.layers, 6, axis=2)
    depth = np.where(masks.any(0), np.float32(0.52), np.float32(0.6))
    pose, camera = here.pose.copy(), np.eye(4)
    pose[:, 0, 3] += step
    camera[0, 3] = step
    write_small_bop(tmp_path)
    writer = BopWriter(tmp_path, "moved")
    writer.write_scene(0, [here, replace(here, depth=depth, pose=pose, cam_T_world=camera, masks=masks, layers=layers)])
    return BopDataset(tmp_path, "moved"), np.array([-step, 0, 0])


def test_a_part_has_the_same_label_in_both_of_two_cameras(moved):
    dataset, place = moved
    pose = np.eye(4)
    pose[:3, 3] = place
    views = [(dataset.frame(0), np.eye(4)), (dataset.frame(1), pose)]
    truth = [dataset.truth(i).labels for i in range(2)]
    scene = voxelize_views(views, INPUT)
    of_both = np.concatenate([labels.ravel() for labels in truth]).astype(np.int64)
    answers = MTMLSegmenter(Oracle(scene.occupied.majority(of_both, 6) - 1), INPUT).segment_views(views)
    for k in range(1, 6):
        found = {int(label) for labels, answer in zip(truth, answers) for label in np.unique(answer.labels[labels == k])}
        assert len(found) == 1 and found != {0}
    assert [len(answer) for answer in answers] == [5, 5]
    # The same points, in the frame of each camera.
    np.testing.assert_allclose(answers[1].centroid, answers[0].centroid - place, atol=1e-5)
    # Without the pose the boxes do not lie on each other.
    assert len(voxelize_views([views[0], (views[1][0], None)], INPUT).occupied.voxels) > len(scene.occupied.voxels)


def test_frames_without_depth_or_floor():
    oracle = Oracle(np.zeros(0, int))
    K = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])
    empty = MTMLSegmenter(oracle, INPUT).segment(Frame(np.full((48, 64), np.nan, np.float32), K))
    assert len(empty) == 0 and empty.labels.shape == (48, 64)
    few = np.full((48, 64), np.nan, np.float32)
    few[3, :7] = 0.5
    frame = Frame(few, K)
    assert find_floor([(frame, None)]) == pytest.approx([0, 0, -1, 0.5])
    voxels = len(voxelize_views([(frame, None)], INPUT).occupied.voxels)
    oracle.instance = torch.full((voxels,), -1)
    assert len(MTMLSegmenter(oracle, INPUT).segment(frame)) == 0


# ---- samples


@pytest.mark.parametrize("window", [0, 24])
def test_samples_hold_parts_where_they_are(dataset, window):
    data = BinVoxels(dataset, INPUT, window, False, seed=3)
    for i in range(len(data)):
        sample = data[i]
        grid, voxels, instance, centre = (sample[k].numpy() for k in ("grid", "voxels", "instance", "centre"))
        assert (grid[(0, *voxels.T)] == 1).all() and grid[0].sum() == len(voxels)
        assert set(instance) >= set(range(len(centre))) and (window == 0 or max(grid.shape[1:3]) <= window)
        assert window or len(centre) == len(dataset.truth(i))
        for k in range(len(centre)):
            own = voxels[instance == k] + 0.5
            inside = ((own[:, :2] > 1) & (own[:, :2] < np.array(grid.shape[1:3]) - 1)).all()
            if inside:  # seen from straight above, whole: the middle of its upper face is the middle of its voxels
                np.testing.assert_allclose(own.mean(0)[:2], centre[k, :2], atol=0.6)
            assert abs(own[:, 2].mean() - centre[k, 2]) < 0.6
    again = data[0]
    assert torch.equal(again["grid"], data[0]["grid"])
    data.epoch.fill_(1)
    assert again["grid"].shape != data[0]["grid"].shape or not torch.equal(again["grid"], data[0]["grid"])


def test_noise_is_drawn_anew_and_moves_no_centre(dataset):
    exact, noisy = (BinVoxels(dataset, INPUT, 0, False, seed=3, sensor_noise=noise) for noise in (False, True))
    first, plain = noisy[0], exact[0]
    between = [torch.cdist(sample["centre"], sample["centre"]) for sample in (first, plain)]
    torch.testing.assert_close(*between, atol=0.05, rtol=0)
    assert len(first["voxels"]) != len(plain["voxels"]) and torch.equal(first["grid"], noisy[0]["grid"])
    noisy.epoch.fill_(1)
    assert first["grid"].shape != noisy[0]["grid"].shape or not torch.equal(first["grid"], noisy[0]["grid"])


def test_mirroring_twice_changes_nothing_and_once_all_that_it_should(dataset):
    scene = voxelize_views([(dataset.frame(0), None)], INPUT)
    grid, voxels = scene.features, scene.occupied.voxels
    centre = scene.occupied.grid.place(dataset.truth(0).centroid)
    once = mirror(grid, voxels, centre, INPUT.features)
    for a, b in zip(mirror(*once, INPUT.features), (grid, voxels, centre)):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert (once[0][0][tuple(once[1].T)] == 1).all()
    at, there = tuple(voxels.T), tuple(once[1].T)
    np.testing.assert_array_equal(once[0][(2, *there)], -grid[(2, *at)])  # occupancy, tsdf, then the normal's x
    np.testing.assert_array_equal(once[0][(slice(3, None), *there)], grid[(slice(3, None), *at)])
    np.testing.assert_allclose(once[2][:, 0], grid.shape[1] - centre[:, 0])


def test_batches_pad_smaller_samples(dataset):
    data = BinVoxels(dataset, INPUT, 24, False, seed=1)
    samples = [data[0], data[1]]
    batch = collate_grids(samples)
    b, x, y, z = batch["voxels"].unbind(1)
    assert (batch["grid"][b, 0, x, y, z] == 1).all() and batch["grid"][:, 0].sum() == len(b)
    assert [len(i) for i in batch["instance"]] == torch.bincount(b).tolist()


# ---- training


@pytest.fixture
def command(dataset, tmp_path) -> list[str]:
    config = {
        "network": {**SLIM, "part": True},
        "input": {"voxel": 0.008, "above": 0.12},
        "data": {"window": 24},
        "trainer": {"batch_size": 2, "epochs": 1, "workers": 0, "checkpoint_every": 1, "validation_images": 2},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    return ["train", "mtml", "--data", str(dataset.root), "--out", str(tmp_path / "mtml-bin"), "--config", str(tmp_path / "tiny.yaml")]


def test_two_steps_on_a_bop_set_give_a_model_that_segments_frames(command, dataset, tmp_path):
    write_small_bop(dataset.root, "val")
    assert main([*command, "--steps", "2", "--json", str(tmp_path / "m.json")]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert set(metrics) == {"AP", "AP50", "mIoU"}
    model = ModelDirectory.read(tmp_path / "mtml-bin")
    assert model.config["input"]["modalities"] == ["depth"] and model.config["input"]["voxel"] == 0.008
    assert model.config["network"]["channels"] == 6 and model.config["training"]["steps"] == 2
    assert model.config["training"]["parts"] == ["bolt", "nut"] and len(model.config["thresholds"]["usual"]) == 2
    segmenter = load_segmenter(tmp_path / "mtml-bin", "cpu")
    assert isinstance(segmenter, MTMLSegmenter)
    frame = dataset.frame(0)
    first, second = segmenter.segment(frame), segmenter.segment(frame)
    assert first.labels.shape == frame.shape
    np.testing.assert_array_equal(first.labels, second.labels)


def test_views_are_fused_from_the_command_line(command, moved, tmp_path, capsys):
    assert main([*command, "--steps", "1"]) == 0
    folder = moved[0].root / "moved" / "000000"
    files = sorted(map(str, (folder / "depth").glob("*.png")))
    segment = ["segment", *files, "--fuse", "--model", str(tmp_path / "mtml-bin"), "--out", str(tmp_path / "out")]
    assert main([*segment, "--json", str(tmp_path / "s.json")]) == 0
    first, second = json.loads((tmp_path / "s.json").read_text())["images"]
    labels = lambda image: [row["label"] for row in image["instances"]]  # noqa: E731
    assert len(files) == 2 and labels(first) == labels(second) and first["seconds"] == second["seconds"]
    assert len(list((tmp_path / "out").glob("*_labels.png"))) == 2

    def refused(words: list[str], text: str) -> None:
        capsys.readouterr()
        assert main(words) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and text in lines[0]

    np.save(tmp_path / "depth.npy", np.full((8, 8), 0.5, np.float32))
    refused(["segment", str(tmp_path / "depth.npy"), *segment[3:], "--intrinsics", "9,9,4,4"], "pose")
    shutil.copytree(folder, tmp_path / "pile")
    named = [str(tmp_path / "pile" / "depth" / "000000.png")]
    refused(["segment", *named, *segment[3:]], "must be the image number")  # asked of the folder before it is read as a scene
    refused(["segment", *named, *[word for word in segment[3:] if word != "--fuse"]], "must be the image number")
    refused([*segment, "--model", "clusternet-bin"], "leave --fuse out")
    cameras = json.loads((folder / "scene_camera.json").read_text())
    cameras["1"]["cam_R_w2c"][0] = 2.0
    (folder / "scene_camera.json").write_text(json.dumps(cameras))
    refused(segment, "no rotation")
    del cameras["1"]["cam_R_w2c"]
    (folder / "scene_camera.json").write_text(json.dumps(cameras))
    refused(segment, "lacks cam_R_w2c")


def test_what_does_not_fit_together_is_one_line(command, dataset, tmp_path, capsys):
    config = yaml.safe_load((tmp_path / "tiny.yaml").read_text())
    for change, text in (
        ({"input": {"voxel": 0.0}}, "input.voxel"), ({"input": {"features": ["colour"]}}, "features"), ({"data": {"noise": 0.1}}, "data.noise"),
        ({"data": {"window": -1}}, "data.window"),
    ):  # fmt: skip
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**config, **change}))
        assert main(command) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1 and text in lines[0]
    with pytest.raises(InputError, match="network.channels"):
        network = MTML(MTMLConfig(channels=5, **SLIM))
        MTMLSegmenter(VoxelSegmenter(network, Thresholds(), torch.device("cpu")), INPUT)
