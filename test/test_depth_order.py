"""What lies on top: by the steps of depth at the borders of labels, and by depth where labels stand apart."""

from __future__ import annotations

import numpy as np
from evaluation_truth import answer
from hypothesis import given
from hypothesis import strategies as st

from instseg_ros.geometry import depth_order, occlusion_edges, order_from_overlaps
from instseg_ros.methods.amodal import with_layers
from instseg_ros.methods.layered.stack import stack_order


def leaning() -> tuple[np.ndarray, np.ndarray]:
    """A long part that leans towards the camera, its low end under a flat one: nearer than that in most places, and yet below."""
    labels, depth = np.zeros((8, 30), np.uint16), np.full((8, 30), 0.6, np.float32)
    labels[:, :20], depth[:, :20] = 1, np.linspace(0.5, 0.58, 20)
    labels[:, 20:], depth[:, 20:] = 2, 0.56
    return labels, depth


def test_the_part_that_covers_another_comes_first_though_it_is_farther_away():
    labels, depth = leaning()
    assert depth_order(labels, depth, 2).tolist() == [1, 0]
    assert depth_order(np.where(labels > 0, 3 - labels, 0).astype(np.uint16), depth, 2).tolist() == [0, 1]
    over = occlusion_edges(labels, depth, 2)
    assert over[1, 0] == 32 and over.sum() == 32, "of five columns four lie deeper by a step, eight rows"


def test_without_a_step_or_a_border_the_nearer_one_comes_first():
    labels, depth = leaning()
    depth[:, 20:] = 0.579  # no step of 4 mm where they meet
    assert depth_order(labels, depth, 2).tolist() == [0, 1]
    labels, depth = leaning()
    labels[:, 17:23] = 0
    assert depth_order(labels, depth, 2).tolist() == [0, 1]


def test_borders_and_layers_are_added_up():
    labels, depth = leaning()
    stack = np.zeros((2, *labels.shape), np.uint16)
    stack[0] = labels
    edges = occlusion_edges(labels, depth, 2)
    assert stack_order(stack, 2, np.array([0, 1])).tolist() == [0, 1] and stack_order(stack, 2, np.array([0, 1]), edges).tolist() == [1, 0]
    stack[1, :, 10:15] = 2  # 40 pixels say that 2 goes on below 1
    assert stack_order(stack, 2, np.array([0, 1]), edges).tolist() == [0, 1]
    seen = answer(labels)
    assert with_layers(seen, seen).depth_order.tolist() == [0, 1] and with_layers(seen, seen, edges).depth_order.tolist() == [1, 0]


def test_labels_without_depth_come_last():
    labels, depth = leaning()
    depth[labels == 2] = np.nan
    assert depth_order(labels, depth, 3).tolist() == [0, 1, 2]
    assert depth_order(np.zeros((1, 1), np.uint16), np.ones((1, 1), np.float32), 0).tolist() == []


@given(st.permutations(range(6)), st.integers(0, 2**32 - 1))
def test_overlaps_without_contradiction_give_their_order_whatever_the_prior(order, seed):
    rank = np.argsort(order)
    pixels = np.random.default_rng(seed).integers(1, 50, (6, 6))
    net = np.where(rank[:, None] < rank[None], pixels, 0)
    found = order_from_overlaps(net - net.T, np.random.default_rng(seed).permutation(6))
    assert found.tolist() == rank.tolist()
