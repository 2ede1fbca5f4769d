"""Connected components between depth edges: no clustering, no count, NumPy and OpenCV only."""

from __future__ import annotations

import cv2
import numpy as np


def depth_edges(depth: np.ndarray, focal: float, *, slope: float = 3.0, noise: float = 0.002) -> np.ndarray:
    """(H, W) bool of the pixels at a depth discontinuity; pixels without a reading are edges.

    Two neighbours are on different surfaces when their depths differ by more than ``slope`` times the distance between
    their rays at that range plus the sensor's noise, which grows with the square of the range (stereo).

    Args:
        depth: (H, W) float32 metres, NaN where there is no reading.
        focal: focal length, pixels.
        slope: steepest surface still taken as one, metres of depth a metre across (3 = 72°).
        noise: noise at 1 m, metres.
    """
    filled = np.nan_to_num(depth, nan=0.0)
    limit = filled * (slope / focal) + noise * filled**2
    edge = filled == 0
    for axis in (0, 1):
        step = np.abs(np.diff(filled, axis=axis))
        front, back = (slice(None, -1), slice(1, None))
        first = (front, slice(None)) if axis == 0 else (slice(None), front)
        second = (back, slice(None)) if axis == 0 else (slice(None), back)
        jump = step > np.minimum(limit[first], limit[second])
        edge[first] |= jump
        edge[second] |= jump
    return edge


def grow(labels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Give every unlabelled pixel of ``region`` (H, W) bool the label of its nearest labelled pixel."""
    if not labels.any():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # OpenCV numbers the zero pixels in its own order; a table turns that number into our label.
    seeds = labels > 0
    table = np.zeros(int(nearest.max()) + 1, labels.dtype)
    table[nearest[seeds]] = labels[seeds]
    return np.where(region & ~seeds, table[nearest], labels)


def connected_components(
    depth: np.ndarray,
    points: np.ndarray,
    foreground: np.ndarray,
    *,
    K: np.ndarray,
    count: int | None = None,
    seed: int = 0,
    slope: float = 3.0,
    noise: float = 0.002,
    min_core: int = 12,
) -> np.ndarray:
    """(H, W) int32 labels: what is connected without crossing a depth edge. ``count`` and ``seed`` are not used."""
    core = foreground & ~depth_edges(depth, float(K[0, 0]), slope=slope, noise=noise)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    labels[(stats[:, cv2.CC_STAT_AREA] < min_core)[labels]] = 0
    return grow(labels, foreground)
