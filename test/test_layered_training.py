"""Training Layered Embeddings: losses against arithmetic by hand, targets, two steps, resume, and every way to ask for it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import small_bop
import torch
import yaml
from tiny_config import write_config

pytest.importorskip("pytorch_lightning")

from instseg_ros.bop import BopDataset  # noqa: E402
from instseg_ros.cli import main  # noqa: E402
from instseg_ros.methods import load_segmenter  # noqa: E402
from instseg_ros.methods.layered.network import Prediction  # noqa: E402
from instseg_ros.methods.layered.stack import without_hidden  # noqa: E402
from instseg_ros.synthesis.shapes import SHAPES, ShapesRecipe  # noqa: E402
from instseg_ros.training.augment import Sample  # noqa: E402
from instseg_ros.training.config import read_training_config  # noqa: E402
from instseg_ros.training.data import CropConfig, PackedViews, augmented  # noqa: E402
from instseg_ros.training.fit_layered import RunConfig  # noqa: E402
from instseg_ros.training.layered import LossConfig, embedding_losses, layered_losses, semantic_loss  # noqa: E402
from instseg_ros.training.layered_data import DataConfig, LayeredCrops, LayeredShapes, LayeredViews, collate, layer_targets  # noqa: E402

TINY = {
    "network": {
        "classes": list(SHAPES), "layers": 3, "embedding": 4, "backbone": "small", "width": 16, "blocks": [1, 1, 1], "rates": [1],
        "context": 8, "skip": 8, "eighth": 8, "decoder": 8, "head": [], "joint_heads": True,
    },
    "data": {"images": 2},
    "optimizer": {"learning_rate": 1e-3, "warmup": 1, "decay": 0.5, "clip": 5.0},
    "trainer": {"batch_size": 2, "epochs": 2, "ema": 0.9, "workers": 0},
}  # fmt: skip


@pytest.fixture(scope="module")
def bins(tmp_path_factory) -> Path:
    """Two piles of bolts."""
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("bins")
    assert main(["synth", "bins", "--part", "bolt", "--scenes", "2", "--instances", "6", "--camera", "insta10", "--noise", "none",
                 "--split", "train", "--out", str(folder)]) == 0  # fmt: skip
    return folder


# --- losses


def by_hand() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One image of 1 × 4 cells, two layers, two channels: instances 1 and 2 of one class, 3 of another."""
    labels = torch.tensor([[[[1, 1, 2, 3]], [[2, 0, 0, 0]]]])
    embedding = torch.zeros(1, 2, 2, 1, 4, dtype=torch.float64)
    embedding[0, 0, :, 0, 0] = torch.tensor([0.0, 0.0])  # 1
    embedding[0, 0, :, 0, 1] = torch.tensor([2.0, 0.0])  # 1: mean (1, 0), both 1 away
    embedding[0, 0, :, 0, 2] = torch.tensor([1.0, 1.0])  # 2
    embedding[0, 1, :, 0, 0] = torch.tensor([2.0, 2.0])  # 2, hidden: mean (1.5, 1.5), both 1 away in L1
    embedding[0, 0, :, 0, 3] = torch.tensor([1.0, 0.0])  # 3: where 1 is, but of another class
    return embedding, labels, torch.zeros(3, dtype=torch.int64), torch.tensor([1, 1, 2])


def test_losses_are_those_computed_by_hand():
    losses = embedding_losses(*by_hand())
    # Eq. 1: (1 − 0.5)² for instances 1 and 2, 0 for 3; mean of the three.
    assert losses["variance"].item() == pytest.approx(2 * 0.25 / 3)
    # Eq. 2: means are |0.5| + |1.5| = 2 apart, (3 − 2)² for both orders of the only pair of a class, over 2 · 1.
    assert losses["distance"].item() == pytest.approx(1.0)
    # Eq. 3: |1| + |0|, |1.5| + |1.5|, |1| + |0|.
    assert losses["regularization"].item() == pytest.approx((1 + 3 + 1) / 3)


def test_losses_of_a_batch_are_the_means_of_its_images():
    embedding, labels, image, kind = by_hand()
    other = embedding.roll(1, dims=2) * 0.7
    labels2 = torch.where(labels == 3, 0, labels)  # two instances only
    both = embedding_losses(
        torch.cat([embedding, other]), torch.cat([labels, torch.where(labels2 > 0, labels2 + 3, 0)]),
        torch.tensor([0, 0, 0, 1, 1]), torch.tensor([1, 1, 2, 1, 1]),
    )  # fmt: skip
    first = embedding_losses(embedding, labels, image, kind)
    second = embedding_losses(other, labels2, image[:2], kind[:2])
    for name, value in both.items():
        assert value.item() == pytest.approx((first[name] + second[name]).item() / 2), name


def test_semantic_loss_adds_a_cross_entropy_a_layer():
    _, labels, _, kind = by_hand()
    semantic = torch.randn(1, 2, 3, 1, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[1, 1, 1, 2], [1, 0, 0, 0]])
    expected = sum(-semantic[0, j].log_softmax(0)[target[j, i], 0, i] for j in range(2) for i in range(4)) / 4
    assert semantic_loss(semantic, labels, kind).item() == pytest.approx(expected.item(), rel=1e-6)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(2, 2, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    semantic = torch.randn(2, 2, 3, 2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1, 2, 1, 0, 2, 1, 2, 0, 0, 1, 0, 0, 3, 3, 4, 4, 4, 0, 0, 3, 0, 0, 0, 0]).view(2, 2, 2, 3)
    image, kind = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 2, 2])

    def total(semantic: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(layered_losses(Prediction(semantic, embedding), labels, image, kind, LossConfig()).values()))

    assert torch.autograd.gradcheck(total, (semantic, embedding))


def test_an_image_without_instances_has_no_embedding_loss():
    embedding = torch.ones(1, 2, 3, 2, 2, requires_grad=True)
    losses = embedding_losses(embedding, torch.zeros(1, 2, 2, 2, dtype=torch.int64), *[torch.zeros(0, dtype=torch.int64)] * 2)
    sum(losses.values()).backward()
    assert all(value == 0 for value in losses.values()) and not embedding.grad.any()


# --- data


def test_targets_are_what_lies_at_the_middle_of_each_cell():
    record = ShapesRecipe(1, 5, seed=1).draw(0)
    labels, kind = layer_targets(record.layers, record.object_id, 3)
    n = len(kind)
    assert labels.shape == (3, 64, 64) and set(np.unique(labels)) == set(range(n + 1)) == {0, *np.unique(labels[0])} | {0}
    # Every instance that shows keeps class and visible cells; the layers hold each cell's first three from the front.
    front = record.layers[0, 2::4, 2::4]
    old = [np.unique(front[labels[0] == k]) for k in range(1, n + 1)]
    assert all(len(one) == 1 for one in old)
    assert [record.object_id[one[0] - 1] for one in old] == kind.tolist()
    for k, (one,) in enumerate(old, 1):
        amodal = record.masks[one - 1, 2::4, 2::4]
        assert not ((labels == k).any(0) & ~amodal).any()
    assert ((labels[1:] > 0) <= (labels[:-1] > 0)).all(), "nothing lies behind emptiness"


def test_what_does_not_show_is_no_target():
    stack = np.zeros((3, 8, 8), np.uint16)
    stack[0], stack[1], stack[2] = 2, 1, 3  # 1 and 3 are wholly hidden,
    stack[2, :4], stack[0, :4], stack[1, :4] = 0, 3, 2  # but 3 shows in the upper half
    labels, kind = layer_targets(stack, np.array([1, 2, 3]), 2)
    assert kind.tolist() == [2, 3]
    assert labels[:, 0, 0].tolist() == [2, 1] and labels[:, 1, 0].tolist() == [1, 2]


def test_drawn_samples_repeat_and_differ_between_epochs_and_runs():
    config = DataConfig(images=5, instances=(1, 2))
    shapes, again = (LayeredShapes(config, ("rgb",), 2, seed=3) for _ in range(2))
    first = shapes[0]["images"]["rgb"]
    assert torch.equal(first, again[0]["images"]["rgb"])
    again.epoch.fill_(1)
    assert not torch.equal(first, again[0]["images"]["rgb"])
    assert not torch.equal(first, LayeredShapes(config, ("rgb",), 2, seed=4)[0]["images"]["rgb"])
    assert {len(LayeredShapes(config, ("rgb",), 4, seed=0)[i]["kind"]) for i in range(5)} & {3, 6} == {3, 6}, "both numbers are drawn"


def test_lessons_come_before_what_is_asked_for():
    config = DataConfig(images=2, instances=(6,), lessons=[[1], [2, 3]], lesson_epochs=2)
    assert [config.instances_at(epoch) for epoch in range(6)] == [[1], [1], [2, 3], [2, 3], (6,), (6,)]
    shapes = LayeredShapes(config, ("rgb",), 2, seed=0)
    assert len(shapes[0]["kind"]) == 3
    shapes.epoch.fill_(4)
    assert len(shapes[0]["kind"]) > 12


def test_a_dataset_of_shapes_gives_the_samples_that_are_drawn(tmp_path):
    assert main(["synth", "shapes", "--scenes", "2", "--instances", "2", "--seed", "3", "--out", str(tmp_path)]) == 0
    views = LayeredViews(BopDataset(tmp_path, "train"), ("rgb",), tuple(SHAPES), 3)
    drawn = LayeredShapes(DataConfig(instances=(2,)), ("rgb",), 3, seed=3)
    for i in range(2):
        for name in ("labels", "kind"):
            assert torch.equal(views[i][name], drawn[i][name])
        assert torch.equal(views[i]["images"]["rgb"], drawn[i]["images"]["rgb"])
    batch = collate([drawn[0], drawn[1]])
    count = len(drawn[0]["kind"])
    assert batch["labels"][1].max() == len(batch["kind"]) and batch["image"].tolist() == [0] * count + [1] * (len(batch["kind"]) - count)
    assert torch.equal(batch["labels"][1] - count * (batch["labels"][1] > 0), drawn[1]["labels"])


def test_crops_keep_every_layer_where_it_belongs():
    """Each layer is a function of the pixel's own depth, before and after."""
    rng = np.random.default_rng(0)
    depth = rng.integers(1, 200, (90, 120)).astype(np.float32)
    labels = depth.astype(np.uint16)
    whole = Sample(depth, np.eye(3), None, labels, np.zeros((0, 3)), np.zeros((0, 3, 3)), np.stack([labels + 1, 2 * labels], -1))
    for _ in range(8):
        config = CropConfig(crop=96, noise=False, patches=0, flips=True)
        sample, _ = augmented(whole, config, rng)
        inside = np.isfinite(sample.depth)
        assert sample.depth.shape == (96, 96) and sample.hidden.shape == (96, 96, 2) and inside.any()
        known = sample.depth[inside]
        for layer, expected in ((sample.labels, known), (sample.hidden[..., 0], known + 1), (sample.hidden[..., 1], 2 * known)):
            assert np.array_equal(layer[inside], expected) and not layer[~inside].any()


def test_crops_of_bins_hold_the_amodal_truth(bins, tmp_path):
    dataset = BopDataset(bins, "train")
    views = PackedViews(dataset, tmp_path / "cache", layers=3)
    truth = dataset.truth(1, layers=True)
    sample = views.sample(1, min_visible=0.0)
    stack = np.concatenate([sample.labels[None], np.moveaxis(sample.hidden, -1, 0)])
    assert stack.any((1, 2))[:2].all() and np.array_equal(stack, without_hidden(truth.layers)[:3])
    plain = CropConfig(crop=256, noise=False, turns=False, patches=0, jitter=0.0)  # larger than the image: the whole of it
    crops = LayeredCrops(views, ("xyz", "depth"), ("part",), plain, seed=0)
    labels, kind = layer_targets(np.pad(truth.layers, [(0, 0), (0, 32), (0, 32)]), np.ones(len(truth)), 3)
    assert torch.equal(crops[1]["labels"], torch.from_numpy(labels)) and crops[1]["kind"].tolist() == kind.tolist()

    noisy = LayeredCrops(views, ("xyz", "depth"), ("part",), CropConfig(crop=128), seed=0)
    first = noisy[0]
    assert torch.equal(first["images"]["depth"], noisy[0]["images"]["depth"]) and first["labels"].shape == (3, 32, 32)
    noisy.epoch.fill_(1)
    assert not torch.equal(first["images"]["depth"], noisy[0]["images"]["depth"])


# --- runs


def test_bins_train_in_crops_and_the_model_gives_layers_and_order(bins, tmp_path):
    change = {
        "network": {"classes": ["part"], "inputs": ["xyz", "depth"], "position": 4.0, "position_side": 96}, "crops": {"crop": 96},
        "thresholds": {"bandwidth": 3.0},
    }  # fmt: skip
    out = tmp_path / "model"
    command = ["train", "layered", "--data", str(bins), "--out", str(out), "--config", write_config(tmp_path, TINY, change)]
    assert main([*command, "--steps", "2"]) == 0
    assert yaml.safe_load((out / "run" / "config.yaml").read_text())["crops"]["crop"] == 96 and not list((out / "run").glob("cache*"))
    frame = BopDataset(bins, "train").frame(0)
    found = load_segmenter(out, "cpu").segment(frame)
    assert found.layers.shape == (3, *frame.shape)
    figures = tmp_path / "figures.json"
    assert main(["evaluate", "--model", str(out), "--data", str(bins), "--json", str(figures), "--no-intervals"]) == 0
    result = json.loads(figures.read_text())
    assert {"amodal_AP", "amodal_AP50", "order_accuracy", "visible_error_mean"} <= set(result) and result["amodal_AP"] is not None


def test_two_steps_a_resume_and_the_model_runs(tmp_path, capsys):
    out = tmp_path / "model"
    command = ["train", "layered", "--shapes", "1,2", "--out", str(out), "--config", write_config(tmp_path, TINY)]
    assert main([*command, "--steps", "1"]) == 0
    assert main(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert torch.load(out / "run" / "last.ckpt", weights_only=True, map_location="cpu")["global_step"] == 2
    saved = yaml.safe_load((out / "run" / "config.yaml").read_text())
    assert saved["data"]["instances"] == [1, 2] and saved["seed"] == 0
    model = yaml.safe_load((out / "model.yaml").read_text())
    assert model["amodal"] is True and model["training"]["parts"] == list(SHAPES)
    assert main(["evaluate", "--model", str(out), "--shapes", "1", "--limit", "2"]) == 0


def test_a_dataset_trains_too(tmp_path):
    data = tmp_path / "shapes"
    assert main(["synth", "shapes", "--scenes", "2", "--instances", "1", "--out", str(data)]) == 0
    change = {"network": {"classes": ["part"], "inputs": ["rgb", "depth"]}, "trainer": {"precision": "bf16-mixed", "epochs": 1}}
    out = tmp_path / "model"
    assert main(["train", "layered", "--data", str(data), "--out", str(out), "--config", write_config(tmp_path, TINY, change)]) == 0
    frame = BopDataset(data, "train").frame(0)
    found = load_segmenter(out, "cpu").segment(frame)
    assert found.layers.shape == (3, *frame.shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": {"backbone": "vgg"}}, "'vgg'"),
        ({"network": {"classes": ["circle"]}}, "must agree"),
        ({"network": {"wdth": 3}}, "wdth"),
        ({"data": {"images": 0}}, "data.images must be positive, got 0"),
        ({"data": {"lessons": [[1], []]}}, "got none"),
        ({"loss": {"variance": "much"}}, "much"),
        ({"optimiser": {}}, "optimiser"),
        ({"crops": {"crop": 100}}, "crop must be a positive multiple of 32, got 100"),
        ({"crops": {"center_fraction": 0.1}}, "center_fraction"),
        ({"thresholds": {"min_cels": 1}}, "min_cels"),
    ],
)
def test_bad_configuration_is_one_line_and_leaves_nothing(change, message, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", "layered", "--shapes", "2", "--out", str(out), "--config", write_config(tmp_path, TINY, change)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1 and not out.exists()


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("layered", [], "--data DIR or --shapes N"),
        ("layered", ["--shapes", "6", "--data", "x"], "--data DIR or --shapes N"),
        ("layered", ["--shapes", "few"], "'few'"),
        ("layered", ["--shapes", "61"], "1…60"),
        ("layered", ["--shapes", "2", "--resume"], "nothing to resume"),
        ("layered", ["--shapes", "2", "--bag", "x"], "--bag is for methods that learn without labels"),
        ("clusternet", ["--shapes", "2"], "--shapes is for layered"),
        ("insegan", ["--shapes", "2"], "--shapes is for layered"),
    ],
)
def test_bad_arguments_are_one_line(method, arguments, message, tmp_path, capsys):
    assert main(["train", method, "--out", str(tmp_path / "model"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("height", "change", "message"),
    [
        (90, {"network": {"classes": ["part"]}}, "128 × 90 pixels, training takes multiples of 16"),
        (96, {"network": {"classes": ["nut", "washer"]}}, "lacks 'bolt'"),
    ],
)
def test_a_dataset_that_does_not_fit_is_named(height, change, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(small_bop, "SHAPE", (height, 128))
    data, out = small_bop.write_small_bop(tmp_path / "data", "train"), tmp_path / "model"
    assert main(["train", "layered", "--data", str(data), "--out", str(out), "--config", write_config(tmp_path, TINY, change)]) == 2
    assert message in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("name", ["layered_shapes", "layered_paper", "layered_bin"])
def test_shipped_configurations_are_valid(name):
    run = RunConfig.read(read_training_config(name))
    assert (run.crops is not None) == (name == "layered_bin")
    assert run.network.layers == (2 if name == "layered_paper" else 4)


@pytest.mark.parametrize(("source", "expected"), [("--data", "layered_bin"), ("--shapes", "layered_shapes")])
def test_bins_and_shapes_have_their_own_configuration_by_default(tmp_path, monkeypatch, source, expected):
    asked = []
    monkeypatch.setattr("instseg_ros.training.config.read_training_config", lambda name: asked.append(name) or {"nonsense": {}})
    assert main(["train", "layered", source, "6", "--out", str(tmp_path / "model")]) == 2
    assert asked == [expected]
