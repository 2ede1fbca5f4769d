"""Soft assignment of cells to instances: masks of largest expected IoU, chances by hand, and what only all layers together say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instseg_ros.errors import InputError
from instseg_ros.methods.layered.segmenter import Thresholds
from instseg_ros.methods.layered.soft_assignment import REACH, best_masks, chances, soft_assignment

probabilities = arrays(np.float64, (2, 3, 4), elements=st.floats(0, 1))


def expected_iou(probability: np.ndarray, mask: np.ndarray) -> float:
    """E|M ∩ T| / E|M ∪ T|."""
    inside = probability[mask].sum()
    return inside / max(mask.sum() + probability[~mask].sum(), 1e-9)


@given(probabilities)
def test_no_threshold_gives_a_mask_of_larger_expected_iou(probability):
    masks, score = best_masks(torch.from_numpy(probability))
    for p, mask, found in zip(probability, masks.numpy(), score.numpy()):
        assert found == pytest.approx(expected_iou(p, mask), abs=1e-6)
        best = max(expected_iou(p, p >= t) for t in [*p.ravel(), 2.0])
        assert found == pytest.approx(best, abs=1e-6)


def test_a_mask_without_doubt_is_kept_and_a_doubtful_one_is_drawn_generously():
    probability = torch.zeros(2, 4, 4, dtype=torch.float64)
    probability[0, :2] = 1.0
    probability[1, :2] = 0.4
    masks, score = best_masks(probability)
    assert masks[:, :2].all() and not masks[:, 2:].any()  # 0.4: half of the cells would be lost at a threshold of one half
    assert score.tolist() == pytest.approx([1.0, 0.4])


def test_chances_are_those_of_the_distances():
    """Modes at 0 and 3, an embedding at 1; with none at a distance of 2 and temperature 0.5."""
    share = torch.tensor([[[0.8]]])
    found = chances(share, torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[0.0, 0.0], [3.0, 0.0]]), 2.0, 0.5)
    near, far, none = np.exp([-1 / 0.5, -2 / 0.5, -2 / 0.5])
    np.testing.assert_allclose(found[:, 0, 0, 0], 0.8 * np.array([near, far]) / (near + far + none), rtol=1e-6)


def test_what_two_layers_half_say_is_seen():
    """One instance in front, another behind it: the second or the third from the front, each less probable than nothing."""
    share = torch.zeros(3, 3, 1, 1)
    share[0, 1] = 1.0
    share[1, :, 0, 0] = torch.tensor([0.6, 0.0, 0.4])
    share[2, :, 0, 0] = torch.tensor([0.6, 0.0, 0.4])
    modes = [torch.zeros(1, 2), torch.zeros(1, 2)]  # of two classes, which may share a place
    stack, score, over = soft_assignment(share, torch.zeros(3, 1, 1, 2), modes, bandwidth=1.0, temperature=0.1)
    assert stack[:, 0, 0].tolist() == [1, 2, 0]
    assert score.tolist() == pytest.approx([1.0, 0.8], abs=1e-5)
    np.testing.assert_allclose(over, [[0, 0.8], [0, 0]], atol=1e-5)


def test_what_lies_behind_is_in_the_order_of_the_layers_that_show_it():
    share = torch.zeros(4, 2, 1, 1)
    share[:, 1] = 1.0
    place = torch.tensor([4.0, 0.0, 8.0, 12.0])  # of the instance that each layer shows
    embedding = torch.stack([place, torch.zeros(4)], 1)[:, None, None]
    modes = [torch.tensor([[0.0, 0.0], [4.0, 0.0], [8.0, 0.0]])]
    stack, _, _ = soft_assignment(share, embedding, modes, bandwidth=1.0, temperature=0.1)
    assert stack[:, 0, 0].tolist() == [2, 1, 3, 0]  # 12 is of none of them


def test_nothing_is_in_front_where_the_first_layer_shows_nothing():
    """A wall hides a part: it is known behind the wall, and does not come to the front."""
    share = torch.tensor([[0.9, 0.1], [0.1, 0.9]])[..., None, None]
    stack, _, _ = soft_assignment(share, torch.zeros(2, 1, 1, 2), [torch.zeros(1, 2)], bandwidth=1.0, temperature=0.1)
    assert stack[:, 0, 0].tolist() == [0, 1]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_chances_add_up_to_the_classes_and_no_instance_is_twice_in_a_cell(seed, layers, first, second):
    rng = torch.Generator().manual_seed(seed)
    share = torch.randn(layers, 3, 4, 5, generator=rng).mul(2).softmax(1)
    embedding = torch.randn(layers, 4, 5, 3, generator=rng) * 3
    modes = [torch.randn(n, 3, generator=rng) * 3 for n in (first, second)]
    for k, of_class in enumerate(modes, 1):
        assert (chances(share[:, k], embedding, of_class, REACH, 0.5).sum(0) <= share[:, k] + 1e-6).all()
    stack, score, over = soft_assignment(share, embedding, modes, bandwidth=1.0, temperature=0.5)
    n = first + second
    assert stack.shape == (layers, 4, 5) and score.shape == (n,) and ((score >= 0) & (score <= 1)).all()
    assert stack.min() >= 0 and stack.max() <= n
    assert over.shape == (n, n) and (over >= 0).all() and over.sum() <= layers * (layers - 1) / 2 * 20 + 1e-3
    for a in range(layers):
        for b in range(a):
            assert not ((stack[a] == stack[b]) & (stack[a] > 0)).any()
    if n:
        assert ((stack[0] > 0) == (share[0].argmax(0) > 0)).all()


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_temperature_is_not_negative(value):
    with pytest.raises(InputError, match="thresholds.temperature must be 0 or more"):
        Thresholds(temperature=value)
