"""Training Mask2Former end to end on boxes: steps, resume, data, and every way to ask for it wrongly."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import small_bop
import torch
import yaml
from safetensors.torch import load_file
from tiny_config import write_config

pytest.importorskip("pytorch_lightning", reason="needs requirements/train.txt")
pytest.importorskip("transformers", reason="needs requirements/peer.txt")

from instseg_ros.bop import BopDataset  # noqa: E402
from instseg_ros.cli import main  # noqa: E402
from instseg_ros.methods import load_segmenter  # noqa: E402
from instseg_ros.training.config import read_training_config  # noqa: E402
from instseg_ros.training.data import PackedViews  # noqa: E402
from instseg_ros.training.fit_mask2former import SECTIONS, Thresholds  # noqa: E402
from instseg_ros.training.mask2former_data import DataConfig, ManyDatasets, MaskViews, collate  # noqa: E402
from instseg_ros.training.supervised import build_sections  # noqa: E402

SIZES = {"embedding_size": 16, "hidden_sizes": [16, 16, 32, 32], "depths": [1, 1, 1, 1]}
TINY = {
    "network": {
        "backbone": {"model_type": "resnet", "layer_type": "basic", **SIZES},
        "hidden": 32, "feedforward": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "queries": 8,
    },
    "loss": {"points": 256},
    "data": {"crop": 96},
    "optimizer": {"learning_rate": 1e-3, "warmup": 1, "decay": 0.5, "clip": 1.0},
    "trainer": {"batch_size": 2, "epochs": 2, "ema": 0.9, "workers": 0, "validation_images": 2, "precision": "32-true"},
}  # fmt: skip


@pytest.fixture(scope="module")
def boxes(tmp_path_factory) -> Path:
    """Four images of boxes to train on and the same four to validate on."""
    folder = tmp_path_factory.mktemp("boxes")
    for split in ("train", "val"):
        small_bop.write_small_bop(folder, split)
    return folder


def test_two_steps_a_resume_and_the_model_runs(boxes, tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", "mask2former", "--data", str(boxes), "--out", str(out), "--config", write_config(tmp_path, TINY)]
    assert main([*command, "--steps", "1"]) == 0  # half of the first epoch
    assert "AP50" in yaml.safe_load((out / "model.yaml").read_text())["metrics"]
    assert (out / "run" / "last.ckpt").exists() and not list((out / "run").glob("cache*"))
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err

    assert main([*command, "--resume"]) == 0
    assert torch.load(out / "run" / "last.ckpt", weights_only=True, map_location="cpu")["global_step"] == 4
    saved = yaml.safe_load((out / "run" / "config.yaml").read_text())
    assert saved["network"]["backbone"]["depths"] == [1, 1, 1, 1] and saved["loss"]["points"] == 256
    model = yaml.safe_load((out / "model.yaml").read_text())
    facts = model["training"]
    assert (facts["images"], facts["steps"], facts["batch_size"], facts["seed"]) == (4, 4, 2, 0)
    assert facts["parts"] == ["bolt", "nut"] and set(model["metrics"]) >= {"AP", "AP50"}
    frame = BopDataset(boxes, "val").frame(0)
    assert load_segmenter(out, "cpu").segment(frame).labels.shape == frame.shape


def test_training_starts_from_a_model_and_says_how_much_of_it_fits(boxes, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "mask2former", "--data", str(boxes), "--steps", "1"]
    assert main([*command, "--out", str(first), "--config", write_config(tmp_path, TINY)]) == 0
    still = {"network": {"queries": 6}, "optimizer": {"learning_rate": 0.0}, "trainer": {"ema": 0.0}}
    assert main([*command, "--out", str(second), "--config", write_config(tmp_path, TINY, still), "--init", str(first)]) == 0
    assert "starting from" in capsys.readouterr().out
    before, after = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    assert torch.equal(before["model.class_predictor.weight"], after["model.class_predictor.weight"])


# --- data


def test_a_folder_of_datasets_is_read_as_one_and_each_may_be_cut(boxes, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(boxes, tmp_path / "all" / name)
    one, both = ManyDatasets.open(boxes, "train"), ManyDatasets.open(tmp_path / "all", "train")
    assert (len(one), len(both), len(ManyDatasets.open(tmp_path / "all", "train", 3))) == (4, 8, 6)
    assert len(set(both.keys)) == 8 and both.part_names == ["bolt", "nut"]
    np.testing.assert_array_equal(both.frame(5).depth, one.frame(1).depth)
    np.testing.assert_array_equal(both.truth(6).labels, one.truth(2).labels)


def test_masks_are_the_parts_and_move_with_the_image(boxes, tmp_path):
    source = ManyDatasets.open(boxes, "train")
    views = PackedViews(source, tmp_path / "cache")
    plain = MaskViews(views, source, DataConfig(crop=128, turns=False, flips=False, jitter=0.0), seed=0)[2]
    assert plain["masks"].shape == (5, 128, 128) and (plain["masks"].sum((1, 2)) == 400).all()
    for seed in range(8):  # turned, mirrored
        sample = MaskViews(views, source, DataConfig(crop=128, jitter=0.0), seed=seed)[2]
        # Boxes lie 8 cm above the floor: the first channel, depth in units of 0.1 m, is lower exactly there.
        high = sample["image"][0] < -0.4
        assert torch.equal(high, sample["masks"].any(0)) and len(sample["masks"]) == 5


def test_chiral_parts_are_not_mirrored(boxes, tmp_path):
    source = ManyDatasets.open(boxes, "train")
    views = PackedViews(source, tmp_path / "cache")
    config = DataConfig(crop=128, turns=False, flips=True, jitter=0.0)
    images = {chiral: [] for chiral in (False, True)}
    for chiral, found in images.items():
        source.chiral = lambda i, chiral=chiral: chiral
        found += [MaskViews(views, source, config, seed=seed)[0]["image"] for seed in range(8)]
    assert all(torch.equal(image, images[True][0]) for image in images[True])
    assert not all(torch.equal(image, images[False][0]) for image in images[False])


def test_samples_repeat_and_differ_between_epochs(boxes, tmp_path):
    source = ManyDatasets.open(boxes, "train")
    samples = MaskViews(PackedViews(source, tmp_path / "cache"), source, DataConfig(crop=96), seed=3)
    first = samples[0]["image"]
    assert torch.equal(first, samples[0]["image"])
    samples.epoch.fill_(1)
    assert not torch.equal(first, samples[0]["image"])
    batch = collate([samples[0], samples[2]])
    assert batch["images"].shape == (2, 3, 96, 96) and len(batch["masks"]) == 2


# --- asked for wrongly


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"quries": 3}}, "quries"),
        ({"network": {"backbone": {"model_type": "timm"}}}, "timm"),
        ({"network": {"hidden": 40}}, "40"),
        ({"loss": {"focal": 1.0}}, "focal"),
        ({"data": {"crop": 100}}, "100"),
        ({"data": {"images": -1}}, "-1"),
        ({"thresholds": {"overlap": 2.0}}, "overlap"),
        ({"thresholds": {"colour": 1}}, "colour"),
        ({"optimiser": {}}, "optimiser"),
        ({"trainer": {"init": "/nowhere/model"}}, "/nowhere/model"),
    ],
)
def test_bad_configuration_is_one_line_and_leaves_nothing(change, message, boxes, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", "mask2former", "--data", str(boxes), "--out", str(out), "--config", write_config(tmp_path, TINY, change)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "no/such/place"], "no/such/place"),
        (["--resume"], "nothing to resume"),
        (["--shapes", "6"], "--shapes"),
        (["--bag", "x"], "--bag"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, boxes, tmp_path, capsys):
    assert main(["train", "mask2former", "--data", str(boxes), "--out", str(tmp_path / "model"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_without_the_package_training_says_so_in_one_line(boxes, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["train", "mask2former", "--data", str(boxes), "--out", str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert "pip install" in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["mask2former", "mask2former_paper"])
def test_shipped_configurations_build(name):
    from instseg_ros.methods.mask2former.network import Mask2Former

    config = read_training_config(name)
    sections = build_sections(config, SECTIONS)
    Thresholds.from_dict(config.get("thresholds", {}))
    with torch.device("meta"):
        network = Mask2Former(sections["network"], sections["loss"])
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    assert millions < 10 if name == "mask2former" else 40 < millions < 50  # 47 M in the paper with Swin-T
