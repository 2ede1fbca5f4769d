"""Amodal stacks: keeping them consistent, reading the order from them, enlarging them."""

from __future__ import annotations

import cv2
import numpy as np

from ...geometry import order_from_overlaps, stack_overlaps


def without_hidden(stack: np.ndarray) -> np.ndarray:
    """A stack (D, H, W) without the labels that are nowhere in front; what lies behind them moves up."""
    hidden = np.isin(stack, np.setdiff1d(stack, np.append(stack[0], 0)))
    order = np.argsort(hidden, axis=0, kind="stable")
    return np.take_along_axis(np.where(hidden, 0, stack), order, 0)


def compact(stack: np.ndarray) -> np.ndarray:
    """A stack (L, H, W) of labels in which each instance is once at a pixel, in front, and what is behind it moves up.

    Nothing moves into layer 0: where that is empty, something that is no instance (a wall of the bin) hides what lies behind.
    """
    stack = stack.copy()
    flat = stack.reshape(len(stack), -1)
    some = np.flatnonzero(flat[1:].any(0))  # most pixels have nothing behind
    column = flat[:, some]
    for behind in range(1, len(column)):
        column[behind][(column[:behind] == column[behind]).any(0)] = 0
    hidden = column[1:]
    column[1:] = np.take_along_axis(hidden, np.argsort(hidden == 0, axis=0, kind="stable"), 0)
    flat[:, some] = column
    return stack


def amodal_pixels(stack: np.ndarray, n: int) -> np.ndarray:
    """(n,) pixels of the whole masks of labels 1…n in a compact stack."""
    return np.bincount(stack.ravel(), minlength=n + 1)[1:]


def stack_order(stack: np.ndarray, n: int, prior: np.ndarray | None = None, edges: np.ndarray | None = None) -> np.ndarray:
    """(n,) int32 rank of labels 1…n, 0 = on top, from who lies in front of whom at the pixels of a stack.

    What that leaves open is decided by ``prior``, ranks (n,) found by other means; without it the lower label comes first.

    Args:
        edges: (n, n) of ``geometry.occlusion_edges``, pixels that tell the same and are added.
    """
    return overlap_order(stack_overlaps(stack, n) + (0 if edges is None else edges), prior)


def overlap_order(over: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """(n,) int32 rank, 0 = on top, from ``over`` (n, n), pixels at which row a is in front of row b; ``prior`` as of :func:`stack_order`."""
    return order_from_overlaps(over - over.T, np.arange(len(over)) if prior is None else np.argsort(prior, kind="stable"))


def enlarge(labels: np.ndarray, factor: int) -> np.ndarray:
    """Labels (h, w) → (h · factor, w · factor): each pixel takes the label that has most of its bilinear neighbourhood.

    Rounds the corners that cells would have; the pixel at the middle of a cell keeps the cell's label.
    """
    h, w = labels.shape
    result = np.zeros((h * factor, w * factor), labels.dtype)
    best = np.full(result.shape, -1.0, np.float32)
    for label in np.unique(labels):
        mask = labels == label
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom = max(rows[0] - 1, 0), min(rows[-1] + 2, h)
        left, right = max(columns[0] - 1, 0), min(columns[-1] + 2, w)
        window = np.s_[top * factor : bottom * factor, left * factor : right * factor]
        share = cv2.resize(
            mask[top:bottom, left:right].astype(np.float32), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR
        )
        more = share > best[window]
        result[window][more] = label
        best[window][more] = share[more]
    return result
