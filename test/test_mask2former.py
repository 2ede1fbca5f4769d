"""Mask2Former's runtime: queries → labels by hand, the configuration, and what is said without the package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.methods import load_segmenter, write_model
from instseg_ros.methods.mask2former.network import LossConfig, Mask2Former, NetworkConfig, Prediction, require_transformers
from instseg_ros.methods.mask2former.queries import resolve
from instseg_ros.methods.mask2former.segmenter import Mask2FormerSegmenter, Thresholds

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="needs requirements/peer.txt: transformers")
SIZES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
TINY = {
    "backbone": {"model_type": "resnet", "layer_type": "basic", **SIZES},
    "hidden": 32, "feedforward": 32, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "queries": 5,
}  # fmt: skip
RULES = {"part_threshold": 0.5, "mask_threshold": 0.5, "overlap": 0.5, "min_pixels": 1}


def rectangle(top: int, left: int, bottom: int, right: int, inside: float = 0.9) -> torch.Tensor:
    mask = torch.full((8, 10), 0.1)
    mask[top:bottom, left:right] = inside
    return mask


# --- queries → labels


def test_two_queries_apart_become_two_labels_in_order_of_their_score():
    masks = torch.stack([rectangle(0, 0, 4, 4, 0.8), rectangle(5, 5, 8, 10, 0.9), rectangle(0, 0, 8, 10)])
    found = resolve(torch.tensor([0.9, 0.95, 0.2]), masks, **RULES)  # the third is no part
    expected = np.zeros((8, 10), int)
    expected[5:8, 5:10], expected[0:4, 0:4] = 1, 2
    np.testing.assert_array_equal(found.labels, expected)
    # Probability of the class times the mean probability of the mask.
    np.testing.assert_allclose(found.score, [0.95 * 0.9, 0.9 * 0.8], rtol=1e-6)
    assert found.query.tolist() == [1, 0]


def test_contested_pixels_go_to_the_larger_product_of_class_and_mask():
    masks = torch.stack([rectangle(0, 0, 8, 6, 0.7), rectangle(0, 4, 8, 10, 0.8)])
    found = resolve(torch.tensor([0.99, 0.6]), masks, **RULES)  # .693 against .48: columns 4 and 5 go to the first
    assert found.query.tolist() == [0, 1]
    np.testing.assert_array_equal(found.labels[0], [1] * 6 + [2] * 4)


def test_a_double_goes_and_leaves_no_hole():
    masks = torch.stack([rectangle(1, 1, 7, 9), rectangle(1, 1, 7, 8, 0.6)])
    found = resolve(torch.tensor([0.9, 0.9]), masks, **RULES)
    assert found.query.tolist() == [0] and int((found.labels == 1).sum()) == 6 * 8


def test_small_instances_go_and_labels_stay_without_gaps():
    masks = torch.stack([rectangle(0, 0, 1, 2, 0.99), rectangle(3, 0, 8, 5), rectangle(3, 6, 8, 10, 0.8)])
    found = resolve(torch.tensor([0.9, 0.9, 0.9]), masks, **(RULES | {"min_pixels": 3}))
    assert found.query.tolist() == [1, 2] and set(found.labels.unique().tolist()) == {0, 1, 2}


def test_no_query_no_label():
    found = resolve(torch.tensor([0.4, 0.1]), torch.stack([rectangle(0, 0, 4, 4)] * 2), **RULES)
    assert not found.labels.any() and len(found.score) == 0


class Analytic(torch.nn.Module):
    """Stands in for the network: two rectangles at a quarter of the image's size, as logits."""

    def forward(self, images: torch.Tensor) -> Prediction:
        masks = torch.full((1, 3, images.shape[2] // 4, images.shape[3] // 4), -8.0)
        masks[0, 0, 2:6, 2:6] = masks[0, 1, 2:6, 10:14] = 8.0
        return Prediction(torch.tensor([[[4.0, -4.0], [3.0, -3.0], [-4.0, 4.0]]]), masks)


def test_centroid_covariance_and_order_are_those_of_the_visible_points():
    K = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])
    depth = np.full((44, 60), 0.5, np.float32)  # padded to 64 × 64
    depth[:, 30:] = 0.4
    depth[10, 10] = np.nan
    answer = Mask2FormerSegmenter(Analytic(), Thresholds(), torch.device("cpu")).segment(Frame(depth, K))
    assert len(answer) == 2 and answer.labels.shape == (44, 60)
    assert answer.depth_order.tolist() == [1, 0]  # the second lies nearer
    for k, z in ((1, 0.5), (2, 0.4)):
        rows, columns = np.nonzero((answer.labels == k) & np.isfinite(depth))
        points = np.stack([(columns - 31.5) / 100 * z, (rows - 23.5) / 100 * z, np.full(len(rows), z)], 1)
        np.testing.assert_allclose(answer.centroid[k - 1], points.mean(0), atol=1e-6)
        np.testing.assert_allclose(answer.covariance[k - 1], np.cov(points.T, bias=True), atol=1e-8)
        # Cells 2…5 of 4 pixels: bilinear logits cross 0 at the cells' borders.
        assert 8 <= rows.min() <= 9 and 22 <= rows.max() <= 23
    assert np.isnan(answer.visible_fraction).all()


def test_a_frame_without_depth_has_no_parts():
    frame = Frame(np.full((32, 32), np.nan, np.float32), np.diag([100.0, 100.0, 1.0]))
    assert len(Mask2FormerSegmenter(Analytic(), Thresholds(), torch.device("cpu")).segment(frame)) == 0


# --- network


@needs_transformers
def test_blocks_of_pixels_become_channels_and_masks_come_at_a_quarter_of_the_blocks():
    for block, side in ((1, 16), (2, 8)):
        prediction = Mask2Former(NetworkConfig(**TINY, block=block)).eval()(torch.zeros(2, 3, 64, 64))
        assert prediction.masks.shape == (2, 5, side, side) and prediction.classes.shape == (2, 5, 2)
        assert len(prediction.earlier) == TINY["decoder_layers"]


@needs_transformers
def test_the_loss_is_zero_for_the_truth_and_high_for_its_opposite():
    torch.manual_seed(0)  # the loss is taken at random points, and varies from .6 to 2.7 over six seeds
    network = Mask2Former(NetworkConfig(**TINY), LossConfig(points=64))
    truth = torch.zeros(2, 64, 64)
    truth[0, :32], truth[1, 32:] = 1, 1
    logits = (quarter(truth) * 2 - 1) * 30
    classes = torch.tensor([[[20.0, -20.0], [20.0, -20.0], [-20.0, 20.0]]])
    swapped = [truth.flip(0)]  # matching finds the order
    right = network.losses(Prediction(classes, torch.cat([logits, logits[:1] * 0 - 30])[None]), swapped)
    wrong = network.losses(Prediction(-classes, -torch.cat([logits[:1], logits[:1], logits[:1]])[None]), swapped)
    assert set(right) == {"loss_cross_entropy", "loss_mask", "loss_dice"}
    # What is left is the border: uncertain points are sought there, where bilinear logits lie between the cells.
    assert float(sum(right.values())) < 1.5 and float(sum(wrong.values())) > 20


def quarter(masks: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(masks[None], 4)[0]


@needs_transformers
def test_images_without_parts_can_be_trained_on():
    network = Mask2Former(NetworkConfig(**TINY), LossConfig(points=64))
    losses = network.losses(network(torch.randn(2, 3, 64, 64)), [torch.zeros(0, 64, 64), torch.zeros(0, 64, 64)])
    sum(losses.values()).backward()
    assert float(losses["loss_mask"].detach()) == 0 and network.model.class_predictor.weight.grad.abs().sum() > 0


@needs_transformers
def test_a_model_directory_gives_the_same_answer(tmp_path):
    torch.manual_seed(0)
    network = Mask2Former(NetworkConfig(**TINY, block=2)).eval()
    config = {"method": "mask2former", "network": asdict(network.config), "input": {}, "thresholds": {"part": 0.3, "min_pixels": 1}}
    write_model(tmp_path / "model", config=config, weights=network.state_dict(), card="a card\n")
    loaded = load_segmenter(tmp_path / "model", "cpu")
    assert isinstance(loaded, Mask2FormerSegmenter) and not loaded.needs_color
    depth = 0.5 + 0.02 * np.random.default_rng(0).random((50, 70), np.float32)
    frame = Frame(depth, np.array([[100.0, 0, 35], [0, 100.0, 25], [0, 0, 1]]))
    own = Mask2FormerSegmenter(network, Thresholds(part=0.3, min_pixels=1), torch.device("cpu"))
    for here, there in zip(own.predict(frame), loaded.predict(frame), strict=True):
        assert torch.equal(here, there)
    np.testing.assert_array_equal(own.segment(frame).labels, loaded.segment(frame).labels)


@needs_transformers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"model_type": "vgg"}}, "vgg"),
        ({"backbone": {"model_type": "resnet", "dephts": [1]}}, "dephts"),
        ({"backbone": {"model_type": "resnet", "num_channels": 4}}, "num_channels"),
        ({"backbone": {"model_type": "resnet", "layer_type": "cubic"}}, "cubic"),
        ({"hidden": 48}, "48"),
        ({"queries": 0}, "network.queries"),
    ],
)
def test_a_bad_network_is_one_sentence(change, message):
    with pytest.raises(InputError, match=message):
        Mask2Former(NetworkConfig(**(TINY | change)))


def test_without_the_package_one_sentence_names_it_and_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)  # what import finds when there is none
    with pytest.raises(InputError, match="transformers.*pip install"):
        require_transformers()


def test_the_package_is_only_imported_when_asked_for():
    code = (
        "import sys, instseg_ros, instseg_ros.cli, instseg_ros.methods.segmenter, instseg_ros.methods.mask2former.segmenter\n"
        "print('transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert done.stdout.strip() == "False"


@needs_transformers
def test_the_network_asks_nothing_of_the_internet_and_needs_no_torchvision():
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from instseg_ros.methods.mask2former.network import *\n"
        f"Mask2Former(NetworkConfig(**{TINY!r}))\n"
        "assert not {'torchvision', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
