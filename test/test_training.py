"""Training ClusterNet end to end on tiny data: two steps, resume, and every way to ask for it wrongly."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny_config import write_config
from torch.optim.swa_utils import AveragedModel

from instseg_ros.bop import BopDataset
from instseg_ros.methods import load_segmenter

pytest.importorskip("pytorch_lightning")
pytest.importorskip("mujoco")

from instseg_ros.cli import main  # noqa: E402
from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.training.clusternet import ClusterNetModule  # noqa: E402
from instseg_ros.training.config import build, read_training_config  # noqa: E402
from instseg_ros.training.data import ClusterNetCrops, DataConfig, PackedViews, collate  # noqa: E402
from instseg_ros.training.supervised import moving_average  # noqa: E402

TINY = {
    "network": {
        "inputs": ["xyz", "depth"], "bottleneck": False, "blocks": [1, 1, 1, 1], "widths": [4, 4, 8, 8], "stem": 4, "stem_kernel": 3,
        "vgg_convs": [1, 1, 1, 1], "vgg_widths": [4, 4, 8, 8], "context": 8, "fused": 8, "rates": [1, 2], "decoder": [8, 8, 4, 4],
        "detail_skips": True, "feature_stride": 2, "mask_stride": 2,
    },
    "data": {"crop": 96},
    "optimizer": {"learning_rate": 1e-3, "warmup": 1, "decay": 0.5, "clip": 5.0},
    "trainer": {"batch_size": 2, "epochs": 2, "ema": 0.9, "workers": 0, "validation_images": 1, "checkpoint_every": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def bins(tmp_path_factory) -> Path:
    """Two piles of bolts to train on, one to validate on."""
    folder = tmp_path_factory.mktemp("bins")
    for split, scenes in (("train", 2), ("val", 1)):
        assert main(["synth", "bins", "--part", "bolt", "--scenes", str(scenes), "--instances", "3", "--camera", "insta10",
                     "--noise", "none", "--split", split, "--out", str(folder)]) == 0  # fmt: skip
    return folder


def test_two_steps_a_resume_and_the_model_runs(bins, tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", "clusternet", "--data", str(bins), "--out", str(out), "--config", write_config(tmp_path, TINY)]
    assert main([*command, "--steps", "1"]) == 0
    assert (out / "run" / "last.ckpt").exists() and (out / "run" / "config.yaml").exists()

    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err

    assert main([*command, "--resume"]) == 0
    saved = yaml.safe_load((out / "run" / "config.yaml").read_text())
    assert saved["network"]["widths"] == [4, 4, 8, 8] and saved["seed"] == 0
    model = yaml.safe_load((out / "model.yaml").read_text())
    assert model["training"]["parts"] == ["bolt"] and set(model["metrics"]) >= {"AP", "AP50"} and model["amodal"] is False

    frame = BopDataset(bins, "val").frame(0)
    answer = load_segmenter(out, "cpu").segment(frame)
    assert answer.labels.shape == frame.shape


def test_mixed_precision_trains_and_validates(bins, tmp_path):
    config = write_config(tmp_path, TINY, {"trainer": {"precision": "bf16-mixed", "epochs": 1}, "thresholds": {"mask": 0.01, "min_pixels": 1}})
    assert main(["train", "clusternet", "--data", str(bins), "--out", str(tmp_path / "model"), "--config", config]) == 0


def test_training_starts_from_a_model_and_says_how_much_of_it_fits(bins, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "clusternet", "--data", str(bins), "--steps", "1"]
    assert main([*command, "--out", str(first), "--config", write_config(tmp_path, TINY)]) == 0
    # A head of other width and no learning: what fits must come out as it went in.
    still = {"network": {"feature_stride": 1, "decoder": [8, 8, 4, 6]}, "optimizer": {"learning_rate": 0.0}, "trainer": {"ema": 0.0}}
    assert main([*command, "--out", str(second), "--config", write_config(tmp_path, TINY, still), "--init", str(first)]) == 0
    assert "starting from" in capsys.readouterr().out
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert torch.equal(before["decode4.0.weight"], after["decode4.0.weight"])
    assert before["feature_head.weight"].shape != after["feature_head.weight"].shape


def test_a_scorer_is_taught_beside_weights_that_stay(bins, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "clusternet", "--data", str(bins)]
    finds = {"thresholds": {"mask": 0.01, "min_pixels": 1}}
    assert main([*command, "--steps", "1", "--out", str(first), "--config", write_config(tmp_path, TINY, finds)]) == 0
    scored = {"network": {"scored": True}, "trainer": {"score_images": 2, "init": str(first)}}  # as good as --init
    config = write_config(tmp_path, TINY, finds | scored)
    assert main([*command, "--steps", "0", "--out", str(second), "--config", config]) == 0
    clusters = re.search(r"learned from (\d+) clusters of 2 training images", capsys.readouterr().out)
    assert clusters and int(clusters[1]) > 0
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert after["scorer.ready"] == 1 and after["scorer.deviation"].min() > 0
    load_segmenter(second, "cpu").segment(BopDataset(bins, "val").frame(0))


def test_a_refiner_is_taught_beside_weights_that_stay(bins, tmp_path, monkeypatch, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "clusternet", "--data", str(bins)]
    finds = {"network": {"inputs": ["rgb", "xyz", "depth"]}, "thresholds": {"mask": 0.01, "min_pixels": 1}}
    assert main([*command, "--steps", "1", "--out", str(first), "--config", write_config(tmp_path, TINY, finds)]) == 0
    finds["network"]["refined"] = True
    config = write_config(tmp_path, TINY, finds | {"refiner": {"epochs": 2, "batch_size": 1, "crop": 96}})
    validated = []
    monkeypatch.setattr(ClusterNetModule, "on_validation_epoch_start", lambda self: validated.append(float(self.network.refiner.ready)))
    monkeypatch.setattr(ClusterNetModule, "validation_step", lambda self, batch, index: None)
    monkeypatch.setattr(ClusterNetModule, "on_validation_epoch_end", lambda self: None)
    assert main([*command, "--steps", "0", "--init", str(first), "--out", str(second), "--config", config]) == 0
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert after["refiner.ready"] == 1
    assert validated == [0, 1]  # with the average of the network's run, then as it is shipped
    checkpoint = second / "run" / "refiner" / "run" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 4  # two epochs of two views
    for out in (first, second):  # neither the run of a network nor that of a refiner is written over
        assert main([*command, "--steps", "0", "--init", str(first), "--out", str(out), "--config", config]) == 2
        assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--steps", "0", "--init", str(first), "--out", str(second), "--config", config, "--resume"]) == 0
    again = load_file(second / "model.safetensors")
    assert [name for name, value in after.items() if not torch.equal(again[name], value)] == []
    load_segmenter(second, "cpu").segment(BopDataset(bins, "val").frame(0))


def test_a_finished_run_that_is_resumed_gives_the_same_averaged_weights(bins, tmp_path):
    command = ["train", "clusternet", "--data", str(bins), "--out", str(tmp_path / "model"), "--config", write_config(tmp_path, TINY)]
    assert main(command) == 0
    first = load_file(tmp_path / "model" / "model.safetensors")
    assert main([*command, "--resume"]) == 0
    again = load_file(tmp_path / "model" / "model.safetensors")
    assert [name for name, value in first.items() if not torch.equal(again[name], value)] == []


def test_training_lowers_the_loss(bins, tmp_path):
    out = tmp_path / "model"
    config = write_config(tmp_path, TINY, {"trainer": {"epochs": 12, "validation_images": 0}, "optimizer": {"learning_rate": 3e-3}})
    assert main(["train", "clusternet", "--data", str(bins), "--out", str(out), "--config", config]) == 0
    state = torch.load(out / "run" / "last.ckpt", weights_only=True, map_location="cpu")
    assert state["global_step"] == 12
    assert not (out / "run" / "cache").exists()


def test_samples_repeat_and_differ_between_epochs(bins, tmp_path):
    views = PackedViews(BopDataset(bins, "train"), tmp_path / "cache")
    crops = ClusterNetCrops(views, ("xyz", "depth"), True, DataConfig(crop=96), seed=3)
    first, again = crops[0], crops[0]
    assert all((first["images"][n] == again["images"][n]).all() for n in first["images"])
    crops.epoch.fill_(1)
    assert not (crops[0]["images"]["xyz"] == first["images"]["xyz"]).all()


def test_packed_views_equal_the_dataset(bins, tmp_path):
    dataset = BopDataset(bins, "train")
    views = PackedViews(dataset, tmp_path / "cache", color=True)
    for i in range(len(dataset)):
        frame, truth = dataset.frame(i), dataset.truth(i)
        sample = views.sample(i, min_visible=0.0)
        np.testing.assert_allclose(np.nan_to_num(sample.depth), np.nan_to_num(frame.depth), atol=1e-4)
        np.testing.assert_array_equal(sample.labels, truth.labels)
        np.testing.assert_array_equal(sample.color, frame.color)
    assert PackedViews(dataset, tmp_path / "without").sample(0, min_visible=0.0).color is None
    hidden = views.sample(1, min_visible=1.1)
    assert not hidden.labels.any() and len(hidden.centroid) == 0


def test_a_view_without_colour_is_named_when_colour_is_asked_for(bins, tmp_path):
    shutil.copytree(bins, tmp_path / "bins", ignore=shutil.ignore_patterns("rgb"))
    with pytest.raises(InputError, match="image 0 has no colour.*rgb in network.inputs"):
        PackedViews(BopDataset(tmp_path / "bins", "train"), tmp_path / "cache", color=True)
    assert not (tmp_path / "cache").exists()


def test_batches_number_parts_through(bins, tmp_path):
    crops = ClusterNetCrops(PackedViews(BopDataset(bins, "train"), tmp_path / "cache"), ("depth",), True, DataConfig(crop=224), seed=0)
    batch = collate([crops[0], crops[1]])
    first, second = batch["labels"]
    assert set(second.unique().tolist()) & set(first.unique().tolist()) == {0}
    assert batch["labels"].max() <= len(batch["features"]) == len(batch["radius"])
    # Every pixel's feature is the part that it shows: the part's centroid lies within its own extent of the pixel's point.
    part = batch["labels"] > 0
    distance = (batch["features"][batch["labels"][part] - 1, :3] - batch["points"].permute(0, 2, 3, 1)[part]).norm(dim=1)
    assert distance.median() < 0.05


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"inputs": ["thermal"]}}, "thermal"),
        ({"network": {"wdth": 3}}, "wdth"),
        ({"data": {"crop": 100}}, "100"),
        ({"data": {"anywhere": 1.5}}, "1.5"),
        ({"data": {"flips": True}}, "chiral"),
        ({"trainer": {"batch_size": "many"}}, "many"),
        ({"optimiser": {}}, "optimiser"),
        ({"trainer": {"init": "/nowhere/model"}}, "/nowhere/model"),
        ({"thresholds": {"mask": 0.5, "colour": 1}}, "colour"),
    ],
)
def test_bad_configuration_is_one_line_and_leaves_nothing(change, message, bins, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", "clusternet", "--data", str(bins), "--out", str(out), "--config", write_config(tmp_path, TINY, change)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no/such/place"], "no/such/place"),
        (["--config", "no_such_config"], "clusternet_compact"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--resume"], "nothing to resume"),
        (["--steps", "0"], "got 0; 0 is for clusternet with --init"),
        (["--steps", "-3", "--init", "clusternet-bin"], "got -3"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, bins, tmp_path, capsys):
    command = ["train", "clusternet", "--data", str(bins), "--out", str(tmp_path / "model"), *arguments]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_shipped_configurations_are_valid():
    from instseg_ros.methods.clusternet.network import ClusterNetConfig
    from instseg_ros.training.clusternet import LossConfig
    from instseg_ros.training.optimizer import OptimizerConfig
    from instseg_ros.training.config import SupervisedTrainerConfig

    for name in ("clusternet_compact", "clusternet_color", "clusternet_paper"):
        config = read_training_config(name)
        build(ClusterNetConfig, "network", config["network"])
        build(LossConfig, "loss", config["loss"])
        build(DataConfig, "data", config["data"])
        build(OptimizerConfig, "optimizer", config["optimizer"])
        build(SupervisedTrainerConfig, "trainer", config["trainer"])


def test_a_truncated_dataset_is_named(bins, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(bins, broken)
    depth = next((broken / "train").glob("*/depth/*.png"))
    depth.write_bytes(depth.read_bytes()[:100])
    assert main(["train", "clusternet", "--data", str(broken), "--out", str(tmp_path / "model"), "--config", write_config(tmp_path, TINY)]) == 2
    assert depth.name in capsys.readouterr().err


def test_noise_is_drawn_on_exact_depth_only(bins, tmp_path):
    views = PackedViews(BopDataset(bins, "train"), tmp_path / "cache")
    exact = ClusterNetCrops(views, ("depth",), True, DataConfig(crop=224, noise=False, patches=0, turns=False), seed=0)[0]
    noisy = ClusterNetCrops(views, ("depth",), True, DataConfig(crop=224, noise=True, patches=0, turns=False), seed=0)[0]
    assert (exact["images"]["depth"][2] == 1).all() and (noisy["images"]["depth"][2] == 0).any()


def test_a_short_run_ships_what_it_learned_and_a_long_one_its_average():
    weight = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(weight.weight)
    average = AveragedModel(weight, avg_fn=moving_average(0.998))
    average.update_parameters(weight)  # the first step
    torch.nn.init.ones_(weight.weight)
    for _ in range(50):
        average.update_parameters(weight)
    assert average.module.weight.item() > 0.999  # with a decay of 0.998 from the first step on: 0.1
    moved = moving_average(0.998)(torch.zeros(1), torch.ones(1), 100_000)
    assert moved.item() == pytest.approx(0.002)
