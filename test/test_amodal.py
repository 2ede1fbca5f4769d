"""Layers of one model for the answers of another: consistent with its labels, whatever either says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_truth import answer, squares, truth_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.cli import main
from instseg_ros.errors import InputError
from instseg_ros.frame import Frame
from instseg_ros.instances import Instances
from instseg_ros.methods.amodal import AmodalSegmenter, match, with_layers
from instseg_ros.methods.layered.network import LayeredConfig, LayeredEmbeddings
from instseg_ros.methods.layered.segmenter import LayeredSegmenter, Thresholds
from instseg_ros.methods.segmenter import Segmenter

SHAPE = (4, 8)


def bars(order: list[int]) -> tuple[Instances, Instances]:
    """What is seen of a bar under another (columns 0–4 under 3–7), and its layers with the labels of ``order``."""
    labels = np.zeros(SHAPE, np.uint16)
    labels[:, :3], labels[:, 3:] = 1, 2
    layers = np.zeros((2, *SHAPE), np.uint16)
    layers[0, :, :3], layers[0, :, 3:], layers[1, :, 3:5] = order[0], order[1], order[0]
    centroid = np.array([[0.1, 0, 0.5], [0.2, 0, 0.4]], np.float32)
    seen = answer(labels, centroid=centroid, depth_order=[0, 1], visible_fraction=[np.nan, np.nan])
    return seen, answer(layers[0], layers=layers, centroid=centroid[np.argsort(order)], depth_order=np.argsort(order))


@pytest.mark.parametrize("order", [[1, 2], [2, 1]])
def test_hidden_extents_take_the_labels_of_the_answer(order):
    seen, layered = bars(order)
    both = with_layers(seen, layered)
    expected = np.zeros((2, *SHAPE), np.uint16)
    expected[0], expected[1, :, 3:5] = seen.labels, 1
    assert np.array_equal(both.layers, expected)
    assert both.visible_fraction.tolist() == pytest.approx([12 / 20, 1.0])
    assert both.depth_order.tolist() == [1, 0], "the layers say that 2 lies on 1, whatever was said before"
    for name in ("labels", "score", "centroid", "covariance"):
        assert getattr(both, name) is getattr(seen, name)


def test_what_only_one_of_them_sees():
    seen, layered = bars([1, 2])
    labels = layered.layers.copy()
    labels[:, :, 3:][labels[:, :, 3:] == 2] = 0  # the layered model misses the front bar,
    labels[0, 0, 3:6] = 1  # takes some of it for the other, which does not lie behind for that,
    labels[1, 1, 3] = 0
    lost = answer(labels[0], layers=labels, centroid=[[0.1, 0, 0.5]], depth_order=[0])
    both = with_layers(seen, lost)
    assert np.array_equal(both.labels, seen.labels) and both.visible_fraction[0] == pytest.approx(12 / (12 + 7))
    assert np.isnan(both.visible_fraction[1]), "nobody knows what of 2 is hidden"
    # Where the answer sees background and the layered model a part, nothing is hidden; where both see none, a wall may hide some.
    gap = seen.labels.copy()
    gap[:, 3:] = 0
    wall = lost.layers.copy()
    wall[0, 0, 3:5], wall[1, 0, 3:5] = 0, 1
    wall[0, 1, 4] = 1
    alone = with_layers(
        answer(gap, centroid=[[0.1, 0, 0.5]]), answer(wall[0], layers=wall, centroid=[[0.1, 0, 0.5]])
    )  # fmt: skip
    assert alone.layers[1, 0, 3:5].tolist() == [1, 1] and not alone.layers[:, 1, 4].any()


def test_parts_that_do_not_overlap_are_paired_by_their_centroids():
    """The answer sees a sliver, the layered model another piece of the same part, 5 mm from its centroid."""
    labels, layers = np.zeros(SHAPE, np.uint16), np.zeros((2, *SHAPE), np.uint16)
    labels[0, 0], layers[0, 3, 7], layers[0, 3, 0] = 1, 1, 2
    layers[1, 3, :7] = 1
    near = {"centroid": [[0, 0, 0.5]], "covariance": [np.eye(3) * 1e-4]}
    other = {"centroid": [[0.005, 0, 0.5], [0.016, 0, 0.5]], "covariance": [np.eye(3) * 1e-4] * 2}
    seen, layered = answer(labels, **near), answer(layers[0], layers=layers, **other)
    assert match(seen, layered).tolist() == [0]
    far = answer(layers[0], layers=layers, **(other | {"centroid": [[0.02, 0, 0.5], [np.nan] * 3]}))
    assert match(seen, far).tolist() == [-1], "beyond its own radius of 17 mm, or nowhere"


def test_overlap_counts_more_than_centroids_and_slivers_of_overlap_do_not():
    seen, layered = bars([1, 2])
    swapped = answer(layered.labels, layers=layered.layers, centroid=seen.centroid[::-1])
    assert match(seen, swapped).tolist() == [0, 1]
    shifted = np.zeros(SHAPE, np.uint16)
    shifted[:, 2:4] = 1  # an IoU of 4 / 16 with 1, of 4 / 24 with 2
    assert match(seen, answer(shifted, centroid=[[9, 9, 9]])).tolist() == [0, -1]
    shifted[0, 2] = 0
    assert match(seen, answer(shifted, centroid=[[9, 9, 9]])).tolist() == [-1, -1]


def labelled(n: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.uint16, (3, 5, 6), elements=st.integers(0, n))


@given(labelled(3), labelled(4))
def test_any_two_answers_give_a_consistent_one(labels, layers):
    labels, ids = labels[0], np.array([7, 3, 9], np.uint16)
    n, m = 3, 4

    def fields(k: int) -> tuple[np.ndarray, ...]:
        covariance = np.tile(np.eye(3, dtype=np.float32), (k, 1, 1))
        return np.ones(k, np.float32), np.zeros((k, 3), np.float32), covariance, np.ones(k, np.float32), np.arange(k, dtype=np.int32)

    both = with_layers(Instances(labels, *fields(n), ids=ids), Instances(layers[0], *fields(m), layers))
    assert np.array_equal(both.layers[0], labels) and np.array_equal(both.ids, ids) and len(both.layers) == 3
    for column in both.layers.reshape(3, -1).T:
        behind = [k for k in column[1:] if k]
        assert len({*behind, *column[:1]} - {0}) == len(behind) + (column[0] > 0), "each once"
        assert not any(column[i] and not column[i - 1] for i in range(2, 3)), "no holes behind the first"


def test_the_truth_as_layers_gives_the_truth_back():
    masks = squares(5)
    masks[3, 10:30, 60:75] = masks[4, 15:25, 50:70] = True
    truth = truth_of(masks)
    order = np.array([4, 2, 0, 1, 3])  # the layered model numbers them otherwise
    renamed = np.append(0, np.argsort(order) + 1).astype(np.uint16)[truth.layers]
    both = with_layers(answer(truth.labels), answer(renamed[0], layers=renamed))
    assert np.array_equal(both.layers[: len(truth.layers)], truth.layers) and not both.layers[len(truth.layers) :].any()
    assert both.visible_fraction == pytest.approx(truth.visible_fraction)


def test_no_parts_and_other_sizes():
    seen, layered = bars([1, 2])
    nothing = Instances.empty(SHAPE)
    assert len(with_layers(nothing, layered)) == 0
    assert np.isnan(with_layers(seen, nothing).visible_fraction).all() and len(with_layers(seen, nothing).layers) == 2
    with pytest.raises(InputError, match="same frame"):
        with_layers(seen, Instances.empty((4, 9)))


class Fixed(Segmenter):
    """Always the same answer."""

    def __init__(self, instances: Instances, *, amodal: bool, needs_color: bool = False, complains: str | None = None) -> None:
        self.instances, self.amodal, self.needs_color, self.complains = instances, amodal, needs_color, complains
        self.description = "fixed"

    @classmethod
    def from_model(cls, model, device):
        raise NotImplementedError

    def segment(self, frame: Frame) -> Instances:
        return self.instances

    def complaint(self, frame: Frame) -> str | None:
        return self.complains


def test_the_segmenter_asks_both():
    seen, layered = bars([2, 1])
    both = AmodalSegmenter(Fixed(seen, amodal=False), Fixed(layered, amodal=True, needs_color=True, complains="moved"))
    frame = Frame(np.ones(SHAPE, np.float32), np.eye(3))
    assert both.needs_color and both.amodal and both.complaint(frame) == "moved"
    assert both.segment(frame).layers[1].max() == 1
    with pytest.raises(InputError, match="fixed gives no layers"):
        AmodalSegmenter(Fixed(seen, amodal=False), Fixed(layered, amodal=False))


def test_which_parts_there_are_is_not_for_the_layers_scores_to_say():
    layered = LayeredSegmenter(LayeredEmbeddings(LayeredConfig(backbone="small", width=8, context=8, decoder=8)), Thresholds(min_score=0.6), torch.device("cpu"))
    both = AmodalSegmenter(Fixed(bars([1, 2])[0], amodal=False), layered)
    assert both.hidden.thresholds == Thresholds() and layered.thresholds.min_score == 0.6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["segment", "x.png", "--model", "clusternet-bin", "--amodal-model", "clusternet-bin", "--out", "o"], "gives no layers"),
        (["segment", "x.png", "--model", "clusternet-bin", "--amodal-model", "none", "--out", "o"], "none does not exist"),
        (["evaluate", "--baseline", "kmeans", "--amodal-model", "layered-shapes", "--data", "x"], "--model"),
        (["evaluate", "--model", "layered-shapes", "--amodal-model", "layered-shapes", "--shapes", "6"], "--shapes"),
    ],
)
def test_bad_requests_are_one_line(words, message, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
