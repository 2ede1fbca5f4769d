"""What one image says: overlap, count, position and order. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..geometry import principal_axes, stack_overlaps
from .protocol import MATCH_IOU, MIN_OVERLAP


def overlap(true: np.ndarray, found: np.ndarray, n_true: int, n_found: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlap of two label images.

    Args:
        true, found: (H, W) integers, 0 = background.
        n_true, n_found: highest labels.

    Returns:
        intersection (n_true, n_found) int64 pixels and IoU (n_true, n_found) float64; rows without a pixel give 0.
    """
    flat = true.ravel().astype(np.int64) * (n_found + 1) + found.ravel()
    table = np.bincount(flat, minlength=(n_true + 1) * (n_found + 1)).reshape(n_true + 1, n_found + 1)
    both = table[1:, 1:]
    union = table.sum(1)[1:, None] + table.sum(0)[None, 1:] - both
    return both, both / np.maximum(union, 1)


def one_to_one(iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The one-to-one matching with the largest total IoU (Hungarian method).

    Args:
        iou: (N, M).

    Returns:
        match (N,) int64: column of every row, −1 where there is none (no overlap or too few columns); value (N,)
        float64: its IoU, 0 where there is none.
    """
    rows, columns = linear_sum_assignment(-iou)
    rows, columns = rows[iou[rows, columns] > 0], columns[iou[rows, columns] > 0]
    match, value = np.full(len(iou), -1), np.zeros(len(iou))
    match[rows], value[rows] = columns, iou[rows, columns]
    return match, value


def best_match(iou: np.ndarray) -> np.ndarray:
    """(N,) best IoU of every row of (N, M), where one column may serve many rows. Flatters: see paper-facts."""
    return iou.max(axis=1, initial=0.0)


def covariance_errors(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors of covariances (K, 3, 3) m².

    Returns:
        relative (K,): Frobenius norm of the difference over that of the truth; sigma (K,) metres: mean absolute
        difference of the three standard deviations along the principal axes, sorted.
    """
    difference = np.linalg.norm(found - true, axis=(-2, -1))
    relative = difference / np.maximum(np.linalg.norm(true, axis=(-2, -1)), 1e-12)
    sigma = np.abs(principal_axes(found)[1] - principal_axes(true)[1]).mean(-1)
    return relative, sigma


def true_order(layers: np.ndarray, n: int) -> np.ndarray:
    """Who covers whom, from an amodal stack.

    Args:
        layers: (L, H, W) labels, layer 0 in front, 0 = none.
        n: number of instances.

    Returns:
        (P, 2) int64 pairs (front, back) of rows whose masks overlap in at least ``MIN_OVERLAP`` pixels and where one is
        in front at most of them.
    """
    front = stack_overlaps(layers, n)
    return np.argwhere((front > front.T) & (front + front.T >= MIN_OVERLAP))


@dataclass(frozen=True)
class Matched:
    """Errors of the K true instances that a prediction matches (IoU ≥ ``MATCH_IOU``, one-to-one); SI units.

    Attributes:
        rows: (K,) rows of the truth.
        centroid: (K,) m, distance between the centroids.
        covariance: (K,) relative Frobenius error.
        sigma: (K,) m, mean error of the principal standard deviations.
        visible: (K,) absolute error of the visible fraction, NaN where truth or answer do not say.
    """

    rows: np.ndarray
    centroid: np.ndarray
    covariance: np.ndarray
    sigma: np.ndarray
    visible: np.ndarray


def matched_errors(
    match: np.ndarray,
    iou: np.ndarray,
    true: tuple[np.ndarray, np.ndarray, np.ndarray],
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Matched:
    """Errors of the matched instances.

    Args:
        match, iou: (N,) of ``one_to_one``.
        true, found: centroids (N or M, 3) m, covariances (N or M, 3, 3) m² and visible fractions (N or M,). Rows whose true
            centroid or covariance is not finite (unknown) are left out.
    """
    known = np.isfinite(true[0]).all(-1) & np.isfinite(true[1]).all((-2, -1))
    rows = np.flatnonzero((iou >= MATCH_IOU) & known)
    distance = np.linalg.norm(found[0][match[rows]] - true[0][rows], axis=-1)
    relative, sigma = covariance_errors(found[1][match[rows]].astype(np.float64), true[1][rows].astype(np.float64))
    visible = np.abs(found[2][match[rows]] - true[2][rows])
    return Matched(rows, distance, relative, sigma, visible)


def order_score(
    pairs: np.ndarray, match: np.ndarray, iou: np.ndarray, depth_order: np.ndarray
) -> tuple[int, int]:
    """How many of the pairs (front, back) (P, 2), of which both are matched, the ranks ``depth_order`` (M,) have right.

    Returns:
        right, asked.
    """
    matched = iou >= MATCH_IOU
    pairs = pairs[matched[pairs].all(-1)] if len(pairs) else pairs
    rank = depth_order[match[pairs]] if len(pairs) else np.zeros((0, 2))
    return int((rank[:, 0] < rank[:, 1]).sum()), len(pairs)
