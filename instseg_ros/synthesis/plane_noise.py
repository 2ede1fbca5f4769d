"""How noisy depth images are on flat surfaces, without any truth: so that real and simulated frames can be compared.

Disparity is what a stereo camera measures: d = f · B / z. A plane in space is a plane in disparity, whatever its tilt, and the
error of a match does not depend on the range there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WINDOW, STRIDE = 41, 12
"""Pixels: side of the windows in which planes are fitted, and the step between them."""
NOT_FLAT = 6.0
"""A window is no plane when a pixel deviates by so many times the noise (of the calmest quarter of the windows)."""
FEWEST = 8
"""Windows below which nothing is said."""
LAGS = 16
"""Pixels: how far the correlation is followed."""
CONSTANTS = (250.0, 4000.0)
"""m · steps: what f · B over the quantum can be; 340 (D435 at 424 × 240) to 2000 (D455 at 1280 × 720), with 1/32 px."""


@dataclass(frozen=True)
class PlaneNoise:
    """Residuals of local plane fits in one interval of the range.

    Attributes:
        low, high: the interval, m. windows: how many planes.
        z: median range of the windows, m.
        px: robust standard deviation (1.4826 · median absolute deviation, median over the windows) in pixels of disparity.
        mm: the same as depth, px · z² / (f · B).
    """

    low: float
    high: float
    windows: int
    z: float
    px: float
    mm: float


@dataclass(frozen=True)
class Residuals:
    """Plane windows of some images: ``z`` (n,) m mean range, ``patch`` (n, WINDOW, WINDOW) residuals, px of disparity."""

    z: np.ndarray
    patch: np.ndarray

    def noise(self, ranges: Sequence[float], focal_baseline: float) -> list[PlaneNoise]:
        """One row for each interval between two ``ranges`` (m) that holds enough windows."""
        sigma, rows = robust_sigma(self.patch), []
        for low, high in zip(ranges, ranges[1:]):
            here = (self.z >= low) & (self.z < high)
            if here.sum() >= FEWEST:
                z, px = float(np.median(self.z[here])), float(np.median(sigma[here]))
                rows.append(PlaneNoise(low, high, int(here.sum()), z, px, 1e3 * px * z * z / focal_baseline))
        return rows

    def correlation(self, axis: int) -> np.ndarray:
        """(LAGS + 1,) mean autocorrelation of the residuals at lags 0… px along rows (``axis`` 1) or columns (0)."""
        p = np.moveaxis(self.patch, axis + 1, 2)
        power = np.maximum((p * p).mean((1, 2)), 1e-12)
        return np.array([np.mean((p[..., lag:] * p[..., : WINDOW - lag]).mean((1, 2)) / power) for lag in range(LAGS + 1)])

    def equal_neighbours(self, step: float) -> float:
        """Share of the neighbours along a row whose residuals differ by less than half a quantum ``step`` of disparity, px.

        Near 1 where the error is smooth and the steps of the disparity show as bands, low where noise from pixel to pixel
        dithers them away; lower, too, where planes slope along the rows.
        """
        return float((np.abs(np.diff(self.patch, axis=2)) < step / 2).mean())


def plane_residuals(depths: Sequence[np.ndarray], focal_baseline: float) -> Residuals:
    """Fit a plane to the disparity in every window without a hole, and keep the residuals of those that are planes.

    Args:
        depths: (H, W) float32 m each, NaN where there is no reading.
        focal_baseline: f · B, px · m.
    """
    axis = np.arange(WINDOW) - WINDOW // 2
    basis = np.linalg.qr(np.stack([np.repeat(axis, WINDOW), np.tile(axis, WINDOW), np.ones(WINDOW**2)], 1).astype(float))[0]
    z, patches = [np.zeros(0)], [np.zeros((0, WINDOW, WINDOW))]
    for depth in depths:
        if min(depth.shape) < WINDOW:
            continue
        views = np.lib.stride_tricks.sliding_window_view(depth, (WINDOW, WINDOW))[::STRIDE, ::STRIDE]
        whole = views[np.isfinite(views).all((2, 3))].reshape(-1, WINDOW**2).astype(np.float64)
        if len(whole):
            disparity = focal_baseline / whole
            patches.append((disparity - (disparity @ basis) @ basis.T).reshape(-1, WINDOW, WINDOW))
            z.append(focal_baseline / disparity.mean(1))
    found = Residuals(np.concatenate(z), np.concatenate(patches))
    if not len(found.z):
        return found
    limit = NOT_FLAT * max(np.percentile(robust_sigma(found.patch), 25), 1e-6)
    flat = np.abs(found.patch).max((1, 2)) < limit
    return Residuals(found.z[flat], found.patch[flat])


def robust_sigma(patch: np.ndarray) -> np.ndarray:
    """(n,) standard deviation of (n, …) from the median absolute deviation."""
    flat = patch.reshape(len(patch), -1)
    return 1.4826 * np.median(np.abs(flat - np.median(flat, 1, keepdims=True)), 1)


def correlation_length(correlation: np.ndarray) -> float:
    """Lag (px) at which an autocorrelation first falls to 1/e, interpolated; infinite if it does not."""
    below = np.flatnonzero(correlation < np.exp(-1))
    if not below.size:
        return float("inf")
    k = below[0]
    return float(k - 1 + (correlation[k - 1] - np.exp(-1)) / (correlation[k - 1] - correlation[k]))


def disparity_constant(depths: Sequence[np.ndarray], unit: float, farthest: float = 2.0) -> float | None:
    """f · B over the quantum of disparity (m · steps), from the values that depth takes; None if these show no steps.

    A stereo camera's depth is one of round(constant / k / unit) · unit for whole numbers k of steps. Where the steps are
    wider than ``unit``, some multiples of it never occur, and which ones tells the constant to about 0.01 %.

    Args:
        depths: (H, W) float32 m each, as the camera gave it: not averaged (a copy pixel by pixel, as librealsense aligns, is).
        unit: of the stored depth, m.
        farthest: up to where values are looked at, m; beyond, frames meet too few of the steps.
    """
    values = np.concatenate([np.rint(depth[np.isfinite(depth) & (depth < farthest)] / unit) for depth in depths]).astype(np.int64)
    if len(np.unique(values)) < 200:
        return None
    low, high = int(np.percentile(values, 2)), int(np.percentile(values, 98))
    present = np.bincount(values[(values >= low) & (values <= high)] - low, minlength=high - low + 1) > 0
    if present.all():
        return None
    scores = [(_agreement(present, constant / unit, low), constant) for constant in np.geomspace(*CONSTANTS, 46_000)]
    best, constant = max(scores)
    return float(constant) if best > 0.5 else None


def _agreement(present: np.ndarray, constant: float, low: int) -> float:
    """Correlation (phi coefficient) between the values that occur and those that a constant predicts, in units of depth."""
    high = low + len(present) - 1
    step = np.arange(int(constant / (high + 1)), int(constant / max(low - 1, 1)) + 2)
    level = np.rint(constant / np.maximum(step, 1)).astype(np.int64) - low
    predicted = np.zeros(len(present), bool)
    predicted[level[(level >= 0) & (level < len(present))]] = True
    a, b = predicted.mean(), present.mean()
    spread = a * (1 - a) * b * (1 - b)
    return float(((predicted & present).mean() - a * b) / np.sqrt(spread)) if spread > 0 else 0.0
