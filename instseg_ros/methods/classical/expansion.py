"""Graph cuts: minimum of a labelling energy by α-expansion (Boykov, Veksler and Zabih, PAMI 2001), max-flow by SciPy."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

UNITS = 1 << 20
"""SciPy's max-flow takes integers: the largest cost is cut into so many units."""


def alpha_expansion(unary: np.ndarray, pairs: np.ndarray, weight: np.ndarray, *, sweeps: int = 10) -> np.ndarray:
    """Labels f that nearly minimise ``Σ_p unary[p, f_p] + Σ_(p,q) weight[p, q] · [f_p ≠ f_q]`` (the Potts model).

    No single expansion move (any set of nodes takes one label α) lowers the energy further, so it is at most twice the
    minimum (Boykov et al., theorem 6.1), and the minimum itself for two labels. Every move is found by a minimum cut.

    Args:
        unary: (N, K) finite costs.
        pairs: (E, 2) node numbers, each pair once, none with itself.
        weight: (E,) costs ≥ 0 of different labels.
        sweeps: over all labels, at most; two or three suffice as a rule.

    Returns:
        (N,) int64 labels in 0…K−1.
    """
    labels = unary.argmin(1)
    scale = UNITS / max(np.ptp(unary, axis=1).max(initial=0.0), weight.max(initial=0.0), 1e-12)
    unary, weight = np.rint((unary - unary.min(1, keepdims=True)) * scale).astype(np.int64), np.rint(weight * scale).astype(np.int64)
    lowest = energy(labels, unary, pairs, weight)
    for _ in range(sweeps):
        before = lowest
        for alpha in range(unary.shape[1]):
            moved = _expand(labels, alpha, unary, pairs, weight)
            value = energy(moved, unary, pairs, weight)
            if value < lowest:
                labels, lowest = moved, value
        if lowest == before:
            break
    return labels


def energy(labels: np.ndarray, unary: np.ndarray, pairs: np.ndarray, weight: np.ndarray) -> float:
    """The sum that ``alpha_expansion`` lowers."""
    p, q = pairs.T
    return unary[np.arange(len(labels)), labels].sum() + weight[labels[p] != labels[q]].sum()


def _expand(labels: np.ndarray, alpha: int, unary: np.ndarray, pairs: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The best labelling in which every node keeps its label or takes ``alpha``.

    With x = 1 for "takes α", a pair costs A, B, C, 0 for (x_p, x_q) = 00, 01, 10, 11, which is
    ``A + (C − A) x_p − C x_q + (B + C − A) (1 − x_p) x_q`` (Kolmogorov and Zabih, PAMI 2004): two unary terms and one arc.
    """
    n = len(labels)
    p, q = pairs.T
    both, only_q, only_p = (weight * (a != b) for a, b in ((labels[p], labels[q]), (labels[p], alpha), (alpha, labels[q])))
    gain = unary[:, alpha] - unary[np.arange(n), labels]
    np.add.at(gain, p, only_p - both)
    np.add.at(gain, q, -only_p)
    source, sink, nodes = n, n + 1, np.arange(n)
    tail = np.concatenate([p, np.full(n, source), nodes])
    head = np.concatenate([q, nodes, np.full(n, sink)])
    # The source's side keeps its label: its arc to p is cut when p takes α, p's arc to the sink when p keeps.
    capacity = np.concatenate([only_q + only_p - both, np.maximum(gain, 0), np.maximum(-gain, 0)])
    graph = csr_array((capacity.astype(np.int32), (tail, head)), shape=(n + 2, n + 2))
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.eliminate_zeros()
    keeps = breadth_first_order(residual, source, return_predecessors=False)
    moved = np.full(n + 2, alpha)
    moved[keeps] = np.append(labels, (0, 0))[keeps]
    return moved[:n]
