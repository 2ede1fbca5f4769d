"""Ground truth of ClusterNet's outputs (Shao et al., sections III-A and III-B) from labels and poses."""

from __future__ import annotations

import numpy as np

from ..geometry import project, sqrt_covariance

SIX = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0))
"""Entries xx yy zz xy yz zx of a symmetric matrix, the paper's order."""


def feature_table(centroid: np.ndarray, covariance: np.ndarray, *, moments: bool) -> np.ndarray:
    """Object features ξ of N parts: centroid and, with ``moments``, the square root of the covariance, all in metres.

    Args:
        centroid: (N, 3) m, covariance: (N, 3, 3) m², of the surface of the whole part in the camera frame.

    Returns:
        (N, 3) or (N, 9) float32.
    """
    if not moments:
        return centroid.astype(np.float32)
    root = sqrt_covariance(covariance)
    return np.concatenate([centroid, np.stack([root[:, i, j] for i, j in SIX], 1)], 1).astype(np.float32)


def radius_table(features: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Sphere radius B of N parts, Eq. 2: half the distance to the nearest other feature.

    A lone part has no neighbour and takes the radius of its own extent, √trace of its covariance (paper-facts).

    Returns:
        (N,) float32 metres.
    """
    own = np.sqrt(np.trace(covariance, axis1=1, axis2=2))
    if len(features) < 2:
        return own.astype(np.float32)
    distance = np.linalg.norm(features[:, None] - features[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return (0.5 * distance.min(1)).astype(np.float32)


def center_candidates(labels: np.ndarray, centroid: np.ndarray, K: np.ndarray, *, fraction: float = 0.2) -> np.ndarray:
    """Pixels annotated as centroid candidates: of each part, the ``fraction`` of its pixels nearest to its centroid.

    Args:
        labels: (H, W) integers, 0 = background, 1…N. centroid: (N, 3) m. K: (3, 3).
        fraction: the paper's range is 0.1 to 0.3.

    Returns:
        (H, W) bool.
    """
    target = np.zeros(labels.shape, bool)
    rows, columns = np.nonzero(labels)
    ids = labels[rows, columns].astype(np.int64)
    if not ids.size:
        return target
    center = project(centroid, K)[ids - 1]
    distance = (columns - center[:, 0]) ** 2 + (rows - center[:, 1]) ** 2
    order = np.lexsort((distance, ids))
    _, first, count = np.unique(ids[order], return_index=True, return_counts=True)
    rank = np.arange(ids.size) - np.repeat(first, count)
    chosen = order[rank < np.ceil(np.repeat(count, count) * fraction)]
    target[rows[chosen], columns[chosen]] = True
    return target
