"""Noise of an active stereo depth camera (RealSense D435) added to exact depth: cheap enough to run while training.

The order follows how the device measures:

1. *Matching windows*: a stereo match takes the disparity of whatever part of its window has texture, so depth edges are
   ragged and wander by about a pixel: depth is taken from randomly, smoothly shifted pixels (Barron and Malik,
   "Intrinsic Scene Properties from a Single RGB-D Image", 2013; Handa et al., "A Benchmark for RGB-D Visual Odometry, 3D
   Reconstruction and SLAM", ICRA 2014). At some edge pixels both surfaces mix: flying pixels.
2. *Disparity noise*: depth error = z² · σ / (f · B) with σ the sub-pixel RMS error of a match (Intel, "Best-Known-Methods
   for Tuning Intel RealSense D400 Depth Cameras for Best Performance", 2019: about 0.05–0.1 px). Windows overlap, so the
   error is correlated between neighbours. Disparity comes in steps of 1/32 px (D4 ASIC), depth in steps of its unit (1 mm).
3. *Edge shadow*: background that the second (right) imager cannot see, left of near edges, has no match: a pixel is lost
   when another pixel right of it projects to the same or a smaller column of the right image. Width f · B · (1/z − 1/z').
4. *Dropouts*: lost matches on surfaces seen at grazing angles, dark or overexposed ones, on patches without texture (blobs
   of low-frequency noise), around depth edges, and single pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.special import ndtr, ndtri

from .noise_fields import smooth_normal


@dataclass(frozen=True)
class SensorParams:
    """Defaults describe a D435 (848 × 480 depth mode) aligned to a 640 × 480 colour image.

    Attributes:
        focal: focal length of the depth imagers (px); 424 = 848 / 2 / tan(90° / 2).
        baseline: distance of the two imagers (m).
        subpixel: RMS disparity error (px).
        white: share of the disparity error's variance that is independent from pixel to pixel.
        correlation: Gaussian σ (image px) of the rest of the error.
        disparity_step: quantum of disparity (px).
        depth_unit: quantum of depth (m).
        edge_shift, edge_correlation: RMS (image px) of the wandering of depth edges, and its Gaussian σ along the image.
        flying: share of the edge pixels that mix both surfaces.
        edge_step: relative step of depth between neighbours that counts as an edge.
        edge_loss: share of the edge pixels that are lost.
        grazing: cosine of the incidence angle below which matches get lost (half of them at this value).
        blobs: share of the image lost in patches without texture; ``blob_size`` their Gaussian σ (image px).
        speckle: share of single lost pixels.
        dark, bright: 8-bit brightness below or above which half of the matches are lost (used with a colour image only).
        shadow: whether the second imager's shadow is cast.
    """

    focal: float = 424.0
    baseline: float = 0.050
    subpixel: float = 0.06
    white: float = 0.02
    correlation: float = 4.0
    disparity_step: float = 1 / 32
    depth_unit: float = 0.001
    edge_shift: float = 1.0
    edge_correlation: float = 2.5
    flying: float = 0.1
    edge_step: float = 0.012
    edge_loss: float = 0.05
    grazing: float = 0.1
    blobs: float = 0.002
    blob_size: float = 3.0
    speckle: float = 0.0005
    dark: float = 12.0
    bright: float = 254.0
    shadow: bool = True

    def jittered(self, rng: np.random.Generator) -> SensorParams:
        """Another device on another day: noise, edges and losses scaled at random (augmentation)."""
        scale = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
        return replace(
            self,
            subpixel=self.subpixel * scale(0.5, 2),
            correlation=self.correlation * scale(0.6, 1.6),
            edge_shift=self.edge_shift * scale(0.5, 1.6),
            flying=min(self.flying * scale(0.4, 2), 0.8),
            edge_loss=min(self.edge_loss * scale(0.3, 2), 0.9),
            grazing=self.grazing * scale(0.6, 1.8),
            blobs=self.blobs * scale(0.1, 6),
            blob_size=self.blob_size * scale(0.6, 2),
            speckle=self.speckle * scale(0.2, 5),
        )


def add_noise(
    depth: np.ndarray,
    K: np.ndarray,
    rng: np.random.Generator,
    params: SensorParams = SensorParams(),
    color: np.ndarray | None = None,
) -> np.ndarray:
    """What the camera would have measured.

    Args:
        depth: (H, W) float32 m, exact; NaN = nothing there.
        K: (3, 3) pixels, of this image.
        rng: draws all noise.
        params: the device.
        color: (H, W, 3) uint8 RGB; when given, dark and overexposed pixels lose their depth.

    Returns:
        (H, W) float32 m, NaN where there is no reading.
    """
    z, lost = depth.copy(), ~np.isfinite(depth)
    z[lost] = 100.0  # nothing: infinitely far, to every step below
    edge = _edges(z, params.edge_step)
    lost |= _dropouts(z, K, edge, rng, params, color)
    if params.shadow:
        lost |= second_imager_shadow(z, K[0, 0], params.baseline)
    z, moved = _wander(z, lost, edge, rng, params)
    lost |= moved
    disparity = np.float32(params.focal * params.baseline) / z
    if params.subpixel > 0:
        disparity += _disparity_error(z.shape, rng, params)
    if params.disparity_step > 0:
        step = np.float32(params.disparity_step)
        disparity = np.rint(disparity / step) * step
    lost |= disparity < 0.25  # beyond 80 m: sky
    np.maximum(disparity, 0.25, out=disparity)
    z = np.float32(params.focal * params.baseline) / disparity
    if params.depth_unit > 0:
        unit = np.float32(params.depth_unit)
        z = np.rint(z / unit) * unit
    z[lost] = np.nan
    return z


def noise_sigma(z: np.ndarray | float, params: SensorParams = SensorParams()) -> np.ndarray | float:
    """Standard deviation (m) of the depth error at range ``z`` (m), quantisation included."""
    disparity = np.hypot(params.subpixel, params.disparity_step / np.sqrt(12))
    return np.hypot(np.square(z) * disparity / (params.focal * params.baseline), params.depth_unit / np.sqrt(12))


def second_imager_shadow(z: np.ndarray, focal: float, baseline: float) -> np.ndarray:
    """(H, W) bool: pixels of the left image that the right imager cannot see. ``focal`` in pixels of this image."""
    column = np.arange(z.shape[1], dtype=np.float32) - np.float32(focal * baseline) / z
    # The leftmost column of the right image that this pixel, or any to the right of it, projects to.
    nearest = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(z.shape, bool)
    hidden[:, :-1] = column[:, :-1] > nearest[:, 1:]
    return hidden


def _edges(z: np.ndarray, step: float) -> np.ndarray:
    """(H, W) bool: a neighbour in the 3 × 3 window differs by more than the relative ``step``."""
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(z, kernel) - cv2.erode(z, kernel)) > np.float32(step) * z


def _wander(
    z: np.ndarray, lost: np.ndarray, edge: np.ndarray, rng: np.random.Generator, p: SensorParams
) -> tuple[np.ndarray, np.ndarray]:
    """Depth and losses read at smoothly, randomly shifted pixels near edges; some of the edge pixels mix their neighbours."""
    if p.edge_shift <= 0 or not edge.any():
        return z, lost
    near = cv2.dilate(edge.view(np.uint8), np.ones((5, 5), np.uint8)).view(bool)
    shift = [smooth_normal(z.shape, p.edge_correlation, rng) * np.float32(p.edge_shift) for _ in range(2)]
    rows, columns = np.nonzero(near)  # elsewhere a shift by a pixel would only change the noise's seed
    x = (columns + shift[0][rows, columns]).astype(np.float32)
    y = (rows + shift[1][rows, columns]).astype(np.float32)
    h, w = z.shape
    i, j = np.clip(np.rint(y).astype(np.intp), 0, h - 1), np.clip(np.rint(x).astype(np.intp), 0, w - 1)
    out, moved = z.copy(), lost.copy()
    out[rows, columns], moved[rows, columns] = z[i, j], lost[i, j]
    mixed = np.flatnonzero(edge[rows, columns] & (rng.random(len(rows), np.float32) < p.flying))
    r, c = rows[mixed], columns[mixed]
    weight = rng.random(len(r), np.float32)
    other = z[np.clip(r + rng.integers(-1, 2, len(r)), 0, h - 1), np.clip(c + rng.integers(-1, 2, len(r)), 0, w - 1)]
    out[r, c] = weight * z[r, c] + (1 - weight) * np.minimum(other, z[r, c] * 2)
    return out, moved


def _disparity_error(shape: tuple[int, int], rng: np.random.Generator, p: SensorParams) -> np.ndarray:
    return smooth_normal(shape, p.correlation, rng, p.white) * np.float32(p.subpixel)


def _dropouts(
    z: np.ndarray, K: np.ndarray, edge: np.ndarray, rng: np.random.Generator, p: SensorParams, color: np.ndarray | None
) -> np.ndarray:
    """(H, W) bool: matches that fail. ``chance`` adds up what speaks against a match at each pixel."""
    chance = np.zeros(z.shape, np.float32)
    if p.grazing > 0:
        chance += np.clip((1.5 * p.grazing - incidence_cosine(z, K)) / p.grazing, 0, 1)
    if p.edge_loss > 0:
        chance[edge] += np.float32(p.edge_loss)
    if color is not None:
        brightness = cv2.blur(cv2.cvtColor(color, cv2.COLOR_RGB2GRAY), (5, 5))  # a match needs light anywhere in its window
        table = np.clip((1.5 * p.dark - np.arange(256)) / p.dark, 0, 1) + np.clip((np.arange(256) - p.bright) / 3 + 0.5, 0, 1)
        chance += cv2.LUT(brightness, table.astype(np.float32))
    # One smooth field decides everywhere, so that losses come in patches as large as a matching window.
    field = smooth_normal(z.shape, 1.0, rng)
    lost = field < np.float32(ndtri(p.speckle)) if p.speckle > 0 else np.zeros(z.shape, bool)
    doubtful = np.flatnonzero(chance)
    lost.ravel()[doubtful] |= ndtr(field.ravel()[doubtful]) < chance.ravel()[doubtful]
    if p.blobs > 0:
        lost |= smooth_normal(z.shape, p.blob_size, rng) < np.float32(ndtri(p.blobs))
    return lost


def incidence_cosine(z: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(H, W) float32: cosine between the viewing ray and the surface normal.

    Each derivative is the smaller of the two one-sided differences, so that a depth edge does not look like a steep surface.
    """
    h, w = z.shape
    x = ((np.arange(w) - K[0, 2]) / K[0, 0]).astype(np.float32)[None]
    y = ((np.arange(h) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None]
    # The normal of the surface z(u, v) is (−fx z_u, −fy z_v, z + (u − cx) z_u + (v − cy) z_v); times the ray it gives z.
    a, b = _derivative(z, 1) * np.float32(K[0, 0]), _derivative(z, 0) * np.float32(K[1, 1])
    c = z + a * x + b * y
    return z / np.sqrt((a * a + b * b + c * c) * (x * x + y * y + 1))


def _derivative(z: np.ndarray, axis: int) -> np.ndarray:
    """(H, W) float32 change of z per pixel along an axis: of the steps before and after a pixel, the smaller one."""
    step = np.diff(z, axis=axis)
    if not step.size:
        return np.zeros_like(z)
    first, last = np.split(step, [1], axis)[0], np.split(step, [-1], axis)[1]
    before, after = np.concatenate([first, step], axis), np.concatenate([step, last], axis)
    return np.where(np.abs(before) < np.abs(after), before, after)
