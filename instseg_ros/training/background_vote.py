"""The background that many depth frames of one camera agree on, and how much its readings scatter."""

from __future__ import annotations

import numpy as np

SUPPORT = 0.05
"""Share of the frames that must agree on a depth for it to be the background."""


def first_spread(depth: np.ndarray) -> float:
    """First guess at the standard deviation (m) of readings of what stands still.

    The shortest interval that holds a third of a pixel's readings spans 0.86 σ where it always sees the same surface. A low
    quantile over the pixels takes those that do.
    """
    ordered = np.sort(depth.reshape(len(depth), -1)[:, :: max(1, depth[0].size // 4000)], axis=0)
    count = max(2, len(depth) // 3)
    width = ordered[count - 1 :] - ordered[: -count + 1] if len(depth) > count else ordered[-1:] - ordered[:1]
    with np.errstate(invalid="ignore"):
        shortest = np.where(np.isnan(width), np.inf, width).min(0)
    shortest = shortest[np.isfinite(shortest)]
    return float(np.quantile(shortest, 0.1)) / 0.86 if shortest.size else 0.0


def background_noise(depth: np.ndarray, background: np.ndarray, margin: float) -> float:
    """Standard deviation (m) of readings of the background, from those behind it: there are no parts there."""
    with np.errstate(invalid="ignore"):
        behind = depth - background
        use = (behind >= 0) & (behind < 2 * margin)
        weight = np.where(behind > 0, 1.0, 0.5)  # readings on the background itself belong to both halves
        count = (use * weight).sum(0)
        square = (np.where(use, behind, 0) ** 2).sum(0)
    enough = count >= 5
    return float(np.median(np.sqrt(square[enough] / count[enough]))) if enough.any() else 0.0


def vote_background(depth: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the farthest depth on which ``SUPPORT`` of the frames agree (h, w), NaN where there is none, and the
    share of its readings there (h, w). Steep walls are noisy: where no frames agree closely, they may do so more loosely, and
    the nearest of these readings counts."""
    frames, h, w = depth.shape
    support = max(3, round(SUPPORT * frames))
    level, share = np.full((h, w), np.nan, np.float32), np.zeros((h, w), np.float32)
    if frames < support:
        return level, share
    for row in range(h):
        ordered = np.sort(depth[:, row], axis=0)  # NaN last
        for window, rank in ((1.5, 0.5), (3, 0), (6, 0)):
            column = np.flatnonzero(np.isnan(level[row]))
            level[row, column] = _farthest(ordered[:, column], support, window * margin, rank)
        with np.errstate(invalid="ignore"):
            readings = np.maximum(np.isfinite(ordered).sum(0), 1)
            share[row] = (np.abs(ordered - level[row]) <= margin).sum(0) / readings
    return level, share


def _farthest(ordered: np.ndarray, support: int, window: float, rank: float) -> np.ndarray:
    """Of the readings (F, w) in ascending order, those in the farthest ``window`` metres that hold ``support`` of them: their
    quantile ``rank`` (w,), NaN where there is no such window."""
    level = np.full(ordered.shape[1], np.nan, np.float32)
    with np.errstate(invalid="ignore"):
        dense = ordered[support - 1 :] - ordered[: len(ordered) - support + 1] <= window
    column = np.flatnonzero(dense.any(0))
    if not column.size:
        return level
    ordered = ordered[:, column]
    last = len(ordered) - 1 - dense[::-1, column].argmax(0)  # index of the farthest reading that has company
    top = np.take_along_axis(ordered, last[None], 0)
    with np.errstate(invalid="ignore"):
        inside = (ordered >= top - window) & (ordered <= top)
    chosen = inside.argmax(0) + (rank * (inside.sum(0) - 1)).astype(int)
    level[column] = np.take_along_axis(ordered, chosen[None], 0)[0]
    return level


def usual_depth(depth: np.ndarray, window: float, share: float) -> np.ndarray:
    """For each pixel (h, w) the nearest reading of the tightest group that holds ``share`` of the frames (F, h, w); NaN where
    that group spans more than ``window`` metres."""
    frames, h, w = depth.shape
    count = max(2, round(share * frames))
    usual = np.full((h, w), np.nan, np.float32)
    if frames < count:
        return usual
    for row in range(h):
        ordered = np.sort(depth[:, row], axis=0)  # NaN last
        span = ordered[count - 1 :] - ordered[: frames - count + 1]
        span = np.where(np.isnan(span), np.inf, span)
        first = span.argmin(0)[None]
        tight = np.take_along_axis(span, first, 0)[0] <= window
        usual[row] = np.where(tight, np.take_along_axis(ordered, first, 0)[0], np.nan)
    return usual
