"""Connected components of labelled voxels that need no dense grid."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# Of the 26 neighbours the 13 that come later in the order of the index: every pair once.
_LATER = np.array([offset for offset in itertools.product((-1, 0, 1), repeat=3) if offset > (0, 0, 0)])


def neighbour_pairs(voxels: np.ndarray) -> np.ndarray:
    """Pairs of voxels that share a face, an edge or a corner.

    Args:
        voxels: (N, 3) int64 indices, each at most once.

    Returns:
        (M, 2) int64 rows of ``voxels``, each pair once.
    """
    if not len(voxels):
        return np.empty((0, 2), np.int64)
    index = voxels - voxels.min(0) + 1  # a margin, so that a neighbour never wraps around
    _, ny, nz = index.max(0) + 2
    key = (index[:, 0] * ny + index[:, 1]) * nz + index[:, 2]
    order = np.argsort(key)
    ranked = key[order]
    pairs = []
    for dx, dy, dz in _LATER:
        wanted = key + (dx * ny + dy) * nz + dz
        place = np.minimum(np.searchsorted(ranked, wanted), len(ranked) - 1)
        found = np.flatnonzero(ranked[place] == wanted)
        pairs.append(np.stack([found, order[place[found]]], 1))
    return np.concatenate(pairs)


def split_components(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Split every cluster into its connected components.

    Args:
        labels: (N,) integers, negative = in no cluster. pairs: (M, 2) from :func:`neighbour_pairs`.

    Returns:
        (N,) int64 component, 0, 1, … in the order of their first voxels, −1 where there is no cluster.
    """
    a, b = pairs.T
    joined = (labels[a] == labels[b]) & (labels[a] >= 0)
    a, b = a[joined], b[joined]
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(labels), len(labels)))
    component = connected_components(graph, directed=False)[1].astype(np.int64)
    component[labels < 0] = -1
    used, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(used), np.int64)
    rank[np.argsort(np.where(used < 0, -1, first))] = np.arange(len(used)) - (used[0] < 0 if len(used) else 0)
    return rank[inverse]
