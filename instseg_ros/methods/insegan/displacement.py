"""Whether camera and bin still stand as they did in training: a model of this kind belongs to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...frame import Frame
from ...geometry import crop_intrinsics, scale_intrinsics
from .pixel_maps import between

if TYPE_CHECKING:
    from .normalisation import Normalisation

SLACK = 4e-3  # metres; a reading that far from the empty bin is not of it (noise and steps of the stored background less)
FLAT = 3e-3  # metres; cells whose neighbours differ by less are floor, not wall or rim
BEHIND = 0.03  # share of readings behind the empty bin; 0.01 at most when nothing moved, 0.04 when it moved by a centimetre
RAISED, BIN = 0.25, 4e-3  # share of the floor that lies at one height above where it was, and metres of a height's bin
AGREE = 0.05  # share of the floor that is where it was, below which it may have been raised
REACH = 0.04  # metres, highest floor that is told from parts


def displacement(n: Normalisation, frame: Frame) -> str | None:
    """What speaks for a moved camera or bin, one sentence; None where nothing does.

    Nothing can be seen behind the empty bin, and its floor does not rise as a whole; parts only stand out of it.
    """
    empty, depth = _beside(n, frame)
    window, unknown = np.ones((3, 3), np.uint8), np.isnan(empty)
    filled = np.where(unknown, np.float32(0), empty)
    farthest, nearest = cv2.dilate(filled, window), cv2.erode(filled, window)
    known = np.isfinite(depth) & (cv2.dilate(unknown.view(np.uint8), window) == 0)
    if known.sum() < 0.1 * known.size:
        return None
    behind = float((depth[known] > farthest[known] + SLACK).mean())
    remedy = "put camera and bin back as they stood in training, or train a model for how they stand now"
    if behind > BEHIND:
        return f"{100 * behind:.0f} % of the view lies behind the empty bin of the model: {remedy}"
    above = (empty - depth)[known & (farthest - nearest < FLAT)]
    if not len(above) or (np.abs(above) < SLACK).mean() > AGREE:
        return None
    heights, edges = np.histogram(above, np.arange(SLACK, REACH, BIN))
    if heights.max() > RAISED * len(above):
        height = edges[heights.argmax()] + BIN / 2
        return f"the floor of the bin seems to lie {1e3 * height:.0f} mm higher than in training: {remedy}"
    return None


def _beside(n: Normalisation, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Depth of the empty bin and the nearest reading of the frame in each cell of the stored background, metres, NaN unknown."""
    x, y, side = n.roi
    cells = len(n.background)
    grid = scale_intrinsics(crop_intrinsics(n.K, x, y), cells / side, cells / side)
    scale, offset = between(grid, frame.K)
    index = np.rint(np.arange(cells)[:, None] * scale + offset).astype(int)  # column and row of the frame at each cell
    columns, rows = index.T
    inside = (rows >= 0)[:, None] & (rows < frame.shape[0])[:, None] & (columns >= 0) & (columns < frame.shape[1])
    depth = frame.depth[rows.clip(0, frame.shape[0] - 1)[:, None], columns.clip(0, frame.shape[1] - 1)]
    return n.background, np.where(inside, depth, np.float32(np.nan))
