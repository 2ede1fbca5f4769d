"""What depth images lose and how sharp they are at occlusion edges, without any truth: holes, width of the edges, raggedness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

EDGE = 0.03
"""Relative step of depth that is an occlusion edge."""
EDGE_REACH = 16
"""Pixels: what is nearer to an occlusion edge lies next to it; the shadow of the second imager is up to so wide."""
SIDE, REACH = 3, 6
"""Pixels: an edge is looked at over ``REACH`` pixels to each side; its two levels are the medians of the outer ``SIDE`` of them."""
FLAT_SIDE = 0.06
"""Of the step's height: how much each side of an edge may vary, to be a step between two surfaces."""
FEWEST = 8
"""Edges below which nothing is said."""


@dataclass(frozen=True)
class HoleRates:
    """Share of pixels without a reading within ``EDGE_REACH`` px of an occlusion edge (``next_to_edges``) and elsewhere
    (``away``), among ``pixels`` of both kinds."""

    next_to_edges: float
    away: float
    pixels: tuple[int, int]


def hole_rates(depths: Sequence[np.ndarray], farthest: float = 2.0) -> HoleRates:
    """Share of lost pixels next to and away from occlusion edges.

    Holes take the depth of the nearest reading to find the edges, so that an edge runs through the middle of the shadow
    beside it. Holes that touch the image's border are not counted, nor is anything beyond ``farthest`` (m): the first lie
    mostly outside of the second imager's view, the second is not the scene.
    """
    counts = np.zeros((2, 2), np.int64)  # [next to edges, away] × [read, lost]
    for depth in depths:
        lost, filled = ~np.isfinite(depth), _filled(depth)
        use = (filled < farthest) & ~_touches_border(lost)
        near = _near_edges(filled)
        for row, where in enumerate((near & use, ~near & use)):
            counts[row] += np.bincount(lost[where], minlength=2)
    pixels = counts.sum(1)
    shares = counts[:, 1] / np.maximum(pixels, 1)
    return HoleRates(float(shares[0]), float(shares[1]), (int(pixels[0]), int(pixels[1])))


@dataclass(frozen=True)
class EdgeShape:
    """Occlusion edges followed across, along rows and columns.

    Attributes:
        width: (n,) px between 10 % and 90 % of each step; 0.8 for a step from one pixel to the next.
        jitter: px, how raggedly an edge runs: RMS of the second difference of its place (50 %) from line to line, over √6,
            which is the standard deviation of the place if it varies independently in each line.
        profile: (2 · REACH,) median of the steps scaled to 0…1; the 50 % crossing lies between its two middle values.
    """

    width: np.ndarray
    jitter: float
    profile: np.ndarray


def edge_shape(depths: Sequence[np.ndarray], farthest: float = 2.0) -> EdgeShape:
    """Shape of the occlusion edges without holes in them, between surfaces that are flat beside the edge."""
    width, profiles, bends = [np.zeros(0)], [np.zeros((0, 2 * REACH))], [np.zeros(0)]
    for depth in depths:
        for image in (depth, depth.T):
            line, column, profile = _edges_across(image, farthest)
            crossing = _crossing(profile, 0.5)
            profiles.append(profile)
            width.append(_crossing(profile, 0.9) - _crossing(profile, 0.1))
            bends.append(_bends(line, column + crossing))
    whole, steps, bend = np.concatenate(width), np.concatenate(profiles), np.concatenate(bends)
    if len(whole) < FEWEST:
        return EdgeShape(whole, float("nan"), np.full(2 * REACH, np.nan))
    return EdgeShape(whole, float(np.sqrt(np.mean(bend**2) / 6)) if len(bend) else float("nan"), np.median(steps, 0))


def _edges_across(image: np.ndarray, farthest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Line (n,) and first column (n,) of the pixels around each step along rows, and these, scaled to 0…1 (n, 2 · REACH)."""
    if image.shape[1] < 2 * REACH:
        return np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2 * REACH))
    windows = np.lib.stride_tricks.sliding_window_view(image, 2 * REACH, axis=1)
    jump = np.abs(windows[..., REACH] - windows[..., REACH - 1]) > EDGE / 4 * windows[..., REACH]  # the steepest part of a step
    line, column = np.nonzero(jump & np.isfinite(windows).all(2))
    steps = windows[line, column].astype(np.float64)
    first, last = np.median(steps[:, :SIDE], 1), np.median(steps[:, -SIDE:], 1)
    height = last - first
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (steps - first[:, None]) / height[:, None]
    spread = np.maximum(np.ptp(scaled[:, :SIDE], axis=1), np.ptp(scaled[:, -SIDE:], axis=1))
    centred = (scaled[:, :REACH] < 0.5).all(1) & (scaled[:, REACH:] >= 0.5).all(1)
    big = (np.abs(height) > EDGE * np.minimum(first, last)) & (np.maximum(first, last) < farthest)
    good = big & centred & (spread < FLAT_SIDE)
    return line[good], column[good], scaled[good]


def _crossing(profile: np.ndarray, level: float) -> np.ndarray:
    """(n,) where each profile (n, 2 · REACH) passes a level, interpolated: the pass nearest to the middle, outwards for a
    level away from one half."""
    above, index = profile >= level, np.arange(profile.shape[1])
    if level > 0.5:  # the first pixel from the middle on that is above
        k = np.where(above & (index >= REACH), index, profile.shape[1] - 1).min(1)
    else:  # one more than the last pixel up to the middle that is below
        k = np.where(~above & (index < REACH), index, 0).max(1) + 1
    rows = np.arange(len(profile))
    low, high = profile[rows, k - 1], profile[rows, k]
    return k - 1 + np.clip((level - low) / np.where(high == low, 1, high - low), 0, 1)


def _bends(line: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(m,) second differences, px, of places that have a neighbour within 3 px in the line before and in the line after."""
    by_line: dict[int, np.ndarray] = {int(k): place[line == k] for k in np.unique(line)}
    bends = []
    for k, here in by_line.items():
        before, after = by_line.get(k - 1), by_line.get(k + 1)
        if before is None or after is None:
            continue
        a, b = (other[np.abs(other[:, None] - here).argmin(0)] - here for other in (before, after))
        near = (np.abs(a) < 3) & (np.abs(b) < 3)
        bends.append((a + b)[near])
    return np.concatenate(bends) if bends else np.zeros(0)


def _filled(depth: np.ndarray) -> np.ndarray:
    """(H, W) depth in which every hole has the value of the nearest reading; infinite where there is none at all."""
    lost = ~np.isfinite(depth)
    if lost.all():
        return np.full_like(depth, np.inf)
    nearest = distance_transform_edt(lost, return_distances=False, return_indices=True)
    return depth[tuple(nearest)]


def _near_edges(filled: np.ndarray) -> np.ndarray:
    """(H, W) bool: within ``EDGE_REACH`` px of a relative step of ``EDGE`` between neighbours."""
    kernel = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(filled, kernel) > (1 + EDGE) * filled).astype(np.uint8)
    return cv2.dilate(edge, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * EDGE_REACH + 1,) * 2)).view(bool)


def _touches_border(lost: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of holes that reach the image's border."""
    number = cv2.connectedComponents(lost.view(np.uint8), connectivity=8)[1]
    border = np.concatenate([number[0], number[-1], number[:, 0], number[:, -1]])
    return np.isin(number, border[border > 0])
