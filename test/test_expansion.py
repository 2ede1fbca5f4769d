"""α-expansion: the least energy for two labels, at most twice it for more, and no move left that lowers it."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from instseg_ros.methods.classical.expansion import alpha_expansion, energy
from instseg_ros.methods.classical.superpixels import borders


def problem(seed: int, nodes: int, labels: int):
    rng = np.random.default_rng(seed)
    pairs = np.array(list(combinations(range(nodes), 2))).reshape(-1, 2)
    pairs = pairs[rng.random(len(pairs)) < 0.6]
    return rng.random((nodes, labels)), pairs.astype(int), rng.random(len(pairs)) * rng.choice([0.1, 0.5, 2.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3))
def test_energy_against_all_labellings(seed, nodes, labels):
    unary, pairs, weight = problem(seed, nodes, labels)
    found = alpha_expansion(unary, pairs, weight)
    value, least = energy(found, unary, pairs, weight), min(
        energy(np.array(choice), unary, pairs, weight) for choice in product(range(labels), repeat=nodes)
    )
    assert value <= (1 if labels < 3 else 2) * least + 1e-4  # costs are rounded to a millionth
    for alpha in range(labels):  # no expansion move lowers it
        for takes in product((False, True), repeat=nodes):
            assert energy(np.where(takes, alpha, found), unary, pairs, weight) >= value - 1e-4


def test_extremes():
    unary, pairs, weight = problem(1, 6, 3)
    assert np.array_equal(alpha_expansion(unary, pairs, 0 * weight), unary.argmin(1))
    chain = np.stack([np.arange(5), np.arange(1, 6)], axis=1)
    assert np.array_equal(alpha_expansion(unary, chain, np.full(5, 1e3)), np.full(6, unary.sum(0).argmin()))
    assert np.array_equal(alpha_expansion(unary, chain[:0], weight[:0]), unary.argmin(1))
    assert np.array_equal(alpha_expansion(np.zeros((3, 2)), chain[:2], np.zeros(2)), [0, 0, 0])


def test_borders_by_hand():
    """Two superpixels side by side share three pixels of border, of which one is an edge; a third touches one of them."""
    pixels = np.array([[1, 1, 2], [1, 1, 2], [1, 1, 2], [0, 3, 0]])
    strength = np.zeros(pixels.shape)
    strength[1, 2] = 1.0
    pairs, weight = borders(pixels, strength, 2.0)
    assert pairs.tolist() == [[0, 1], [0, 2]] and np.allclose(weight, [2 + np.exp(-2.0), 1.0])
    pairs, weight = borders(np.ones((3, 3), int), np.zeros((3, 3)), 2.0)
    assert pairs.shape == (0, 2) and weight.shape == (0,)
