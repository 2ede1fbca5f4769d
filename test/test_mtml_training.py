"""MTML's samples, its evaluation on the toy scenes, and a tiny training from command line to model directory."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml

from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.evaluation.voxels import evaluate_components, evaluate_semantics, evaluate_voxels
from instseg_ros.methods.model_directory import ModelDirectory
from instseg_ros.methods.mtml.network import MTML, MTMLConfig, Prediction
from instseg_ros.methods.mtml.voxel_segmenter import Thresholds, VoxelSegmenter
from instseg_ros.methods.segmenter import load_segmenter
from instseg_ros.synthesis.voxel_samples import Voxels, load_scenes, noisy_classes
from instseg_ros.synthesis.voxels import CLASSES, VoxelsRecipe
from instseg_ros.training.voxel_scenes import VoxelSet, collate, turn, usual_sizes

TINY = {
    "network": {"stem": 2, "middle": 2, "width": 2, "up": 4, "head": 8, "embedding": 2},
    "trainer": {"batch_size": 2, "epochs": 1, "workers": 0, "checkpoint_every": 1, "validation_images": 2},
}


@pytest.fixture(scope="module")
def scenes() -> list[Voxels]:
    recipe = VoxelsRecipe(scenes=6, seed=3)
    return [Voxels.of(recipe.build(i)) for i in range(6)]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_turns_move_voxels_and_centres_alike(scenes, quarters, flip):
    scene = scenes[0]
    voxels, centre, size = turn(scene.voxels, scene.centre, (64, 70, 16), quarters=quarters, flip=flip)
    for k in range(len(centre)):
        np.testing.assert_allclose((voxels[scene.instance == k] + 0.5).mean(0), centre[k], atol=1e-3)
    assert (voxels >= 0).all() and (voxels < size).all() and sorted(size[:2]) == [64, 70]
    assert len(np.unique(voxels, axis=0)) == len(voxels)


def test_four_quarter_turns_change_nothing(scenes):
    scene = scenes[0]
    voxels, centre, size = scene.voxels, scene.centre, scene.size
    for _ in range(4):
        voxels, centre, size = turn(voxels, centre, size, quarters=1, flip=False)
    np.testing.assert_array_equal(voxels, scene.voxels)
    np.testing.assert_allclose(centre, scene.centre, atol=1e-4)


def test_noise_changes_whole_blocks_and_their_share(scenes):
    scene = scenes[0]
    noisy = noisy_classes(scene.classes, scene.voxels, 5, 0.3, np.random.default_rng(0))
    wrong = noisy != scene.classes
    blocks, inverse = np.unique(scene.voxels // 3, axis=0, return_inverse=True)
    in_block = np.bincount(inverse.reshape(-1), wrong), np.bincount(inverse.reshape(-1))
    assert set((in_block[0] / in_block[1]).tolist()) == {0.0, 1.0}
    assert (in_block[0] > 0).mean() == pytest.approx(0.3, abs=0.08)
    assert ((noisy >= 0) & (noisy < 5)).all()
    assert noisy_classes(scene.classes, scene.voxels, 5, 0.0, np.random.default_rng(0)) is scene.classes


def test_batches_hold_every_scene_once(scenes):
    data = VoxelSet(scenes, len(CLASSES), 0.0, seed=1)
    batch = collate([data[0], data[1]])
    b, x, y, z = batch["voxels"].unbind(1)
    assert batch["grid"].shape == (2, 5, 64, 64, 16)
    assert torch.equal(batch["grid"].sum((1, 2, 3, 4)).long(), torch.bincount(b))
    assert (batch["grid"][b, :, x, y, z].sum(1) == 1).all()
    assert [len(i) for i in batch["instance"]] == torch.bincount(b).tolist()
    again, other = data[0], VoxelSet(scenes, len(CLASSES), 0.0, seed=2)
    assert torch.equal(again["voxels"], data[0]["voxels"])
    assert any(not torch.equal(data[i]["voxels"], other[i]["voxels"]) for i in range(6))


class Oracle(MTML):
    """Knows the scene: embeddings far apart, directions right."""

    def __init__(self, scene: Voxels) -> None:
        super().__init__(MTMLConfig(stem=1, middle=1, width=1, up=1, head=1))
        self.scene = scene

    def forward(self, grid, voxels):
        towards = torch.from_numpy(self.scene.centre)[self.scene.instance] - voxels[:, 1:] - 0.5
        code = torch.from_numpy(np.random.default_rng(0).permutation(len(self.scene.centre)) * 4.0)
        embedding = torch.stack([code[self.scene.instance]] * 2, 1)
        return Prediction(embedding, torch.nn.functional.normalize(towards, dim=1))


def test_perfect_embeddings_score_one_hundred_percent(scenes):
    usual = usual_sizes(scenes, len(CLASSES))
    for scene in scenes[:2]:
        segmenter = VoxelSegmenter(Oracle(scene), Thresholds(usual=usual), torch.device("cpu"))
        table = evaluate_voxels(segmenter, [scene])
        assert table["mean"] == pytest.approx({"AP": 1, "AP50": 1, "AP25": 1})


def test_touching_boxes_are_what_components_fail_on(scenes):
    recipe = VoxelsRecipe(scenes=1, instances=(1, 1), seed=5)
    alone = [Voxels.of(recipe.build(0))]
    assert evaluate_components(alone)["mean"]["AP50"] == pytest.approx(1)
    assert evaluate_components(scenes)["mean"]["AP50"] < 1
    assert evaluate_semantics(scenes)["mean"]["AP50"] < evaluate_components(scenes)["mean"]["AP50"]


@pytest.fixture(scope="module")
def voxel_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("voxels")
    for split, count in (("train", 3), ("val", 2)):
        assert main(["synth", "voxels", "--scenes", str(count), "--split", split, "--out", str(root)]) == 0
    return root


def test_two_steps_write_a_model_and_resume_goes_on(voxel_set, tmp_path, capsys):
    config, out = tmp_path / "tiny.yaml", tmp_path / "model"
    config.write_text(yaml.safe_dump(TINY))
    command = ["train", "mtml", "--data", str(voxel_set), "--out", str(out), "--config", str(config)]
    assert main([*command, "--steps", "1", "--json", str(tmp_path / "a.json")]) == 0
    assert set(json.loads((tmp_path / "a.json").read_text())) >= {"AP", "AP50", "AP25"}
    first = ModelDirectory.read(out)
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    config.write_text(yaml.safe_dump({**TINY, "trainer": {**TINY["trainer"], "epochs": 2}}))
    assert main([*command, "--resume"]) == 0
    second = ModelDirectory.read(out)
    assert any(not torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    assert second.config["training"]["scenes"] == 3 and len(second.config["thresholds"]["usual"]) > 0


def test_bad_data_and_configurations_are_refused(voxel_set, tmp_path, capsys):
    with pytest.raises(InputError, match="instseg synth voxels"):
        load_scenes(tmp_path, "train")
    for change, text in (({"data": {"noise": 2.0}}, "noise"), ({"networks": {}}, "unknown section"), ({"thresholds": {"x": 1}}, "unknown key")):
        config = tmp_path / "bad.yaml"
        config.write_text(yaml.safe_dump({**TINY, **change}))
        assert main(["train", "mtml", "--data", str(voxel_set), "--out", str(tmp_path / "no"), "--config", str(config)]) == 2
        assert text in capsys.readouterr().err
    assert main(["train", "mtml", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_a_model_and_both_baselines_are_scored_from_the_command_line(voxel_set, tmp_path, capsys):
    config, out, result = tmp_path / "tiny.yaml", tmp_path / "model", tmp_path / "r.json"
    config.write_text(yaml.safe_dump({**TINY, "trainer": {**TINY["trainer"], "validation_images": 0}}))
    assert main(["train", "mtml", "--data", str(voxel_set), "--out", str(out), "--config", str(config), "--steps", "1"]) == 0
    command = ["evaluate", "--voxels", str(voxel_set), "--split", "val", "--model", str(out)]
    assert main([*command, "--baseline", "components", "--baseline", "semantics", "--noise", "0.2", "--json", str(result)]) == 0
    found = json.loads(result.read_text())
    assert found["method"] == "model" and found["scenes"] == 2 and list(found["methods"]) == ["model", "components", "semantics"]
    held_out = load_scenes(voxel_set, "val")
    assert found["methods"]["components"]["mean"] == pytest.approx(evaluate_components(held_out, noise=0.2)["mean"])
    assert found["methods"]["semantics"]["mean"] == pytest.approx(evaluate_semantics(held_out, noise=0.2)["mean"])
    for change, text in ((["--noise", "2"], "--noise"), (["--baseline", "kmeans"], "kmeans"), (["--keep", "x"], "--keep")):
        assert main([*command, *change]) == 2
        assert text in capsys.readouterr().err
    with pytest.raises(InputError, match="not camera frames"):
        load_segmenter(out, "cpu")
