"""Augmentation of one view. Every step keeps depth, labels, intrinsics and poses consistent; nothing is mirrored unless told."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..geometry import crop_intrinsics
from ..methods.turned_views import MIRROR, TURNS, View


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled view on its way into a batch; shapes and units as in Frame and bop.Truth.

    ``hidden`` is (H, W, D) uint16, the amodal layers behind ``labels`` from front to back, None where nobody asked for them;
    ``visible_fraction`` (N,), of the whole view, None or NaN where it is not known.
    """

    depth: np.ndarray
    K: np.ndarray
    color: np.ndarray | None
    labels: np.ndarray
    centroid: np.ndarray
    covariance: np.ndarray
    hidden: np.ndarray | None = None
    visible_fraction: np.ndarray | None = None


def crop(sample: Sample, size: int, rng: np.random.Generator, *, anywhere: float = 0.0) -> Sample:
    """Random ``size`` × ``size`` window that shows parts: its centre is a random part pixel, jittered by a quarter window.

    Images smaller than the window are padded with "no reading".

    Args:
        anywhere: chance of a window anywhere in the image instead: far from the bin there are no parts, which must be seen, too.
    """
    height, width = sample.labels.shape
    rows, columns = np.nonzero(sample.labels[::4, ::4])
    if rows.size and not (anywhere and rng.random() < anywhere):
        pick = rng.integers(rows.size)
        center = np.array([rows[pick], columns[pick]]) * 4 + rng.integers(-size // 4, size // 4 + 1, 2)
    else:
        center = rng.integers(0, [height, width])
    top = int(np.clip(center[0] - size // 2, 0, max(height - size, 0)))
    left = int(np.clip(center[1] - size // 2, 0, max(width - size, 0)))

    def cut(image: np.ndarray | None, fill: float) -> np.ndarray | None:
        if image is None:
            return None
        window = image[top : top + size, left : left + size]
        pad = [(0, size - window.shape[0]), (0, size - window.shape[1])] + [(0, 0)] * (window.ndim - 2)
        return np.pad(window, pad, constant_values=fill) if any(p[1] for p in pad) else window

    return replace(
        sample,
        depth=cut(sample.depth, np.nan),
        color=cut(sample.color, 0),
        labels=cut(sample.labels, 0),
        hidden=cut(sample.hidden, 0),
        K=crop_intrinsics(sample.K, left, top),
    )


def turn(sample: Sample, quarters: int) -> Sample:
    """Roll the camera by ``quarters`` · 90° (counter-clockwise in the image): exact, nothing is resampled."""
    return _seen(sample, TURNS[quarters % 4])


def mirror(sample: Sample) -> Sample:
    """Mirror left and right. Only for parts that equal their mirror image."""
    return _seen(sample, MIRROR)


def _seen(sample: Sample, view: View) -> Sample:
    return replace(
        sample,
        depth=view.image(sample.depth),
        K=view.intrinsics(sample.K, sample.labels.shape),
        color=None if sample.color is None else view.image(sample.color),
        labels=view.image(sample.labels),
        centroid=sample.centroid @ view.motion.T,
        covariance=view.motion @ sample.covariance @ view.motion.T,
        hidden=None if sample.hidden is None else view.image(sample.hidden),
    )


def drop_patches(sample: Sample, rng: np.random.Generator, *, count: int, largest: int) -> Sample:
    """Erase up to ``count`` ellipses of up to ``largest`` pixels from the depth: readings a real sensor loses to glare."""
    hole = np.zeros(sample.labels.shape, np.uint8)
    height, width = hole.shape
    for _ in range(int(rng.integers(0, count + 1))):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        axes = tuple(int(a) for a in rng.integers(1, max(largest // 2, 2), 2))
        cv2.ellipse(hole, center, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    depth = sample.depth.copy()
    depth[hole > 0] = np.nan
    return replace(sample, depth=depth)


def recolor(sample: Sample, rng: np.random.Generator, strength: float) -> Sample:
    """Another camera and lamp: gain of each channel, gamma and pixel noise drawn anew; ``strength`` is the deviation of log gain and
    log gamma, the noise has up to 30 · ``strength`` grey levels. Samples without colour stay as they are."""
    if sample.color is None or not strength:
        return sample
    gain, gamma = np.exp(rng.normal(0, strength, 3)), np.exp(rng.normal(0, strength))
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * gain * 255
    image = np.stack([levels[:, i].astype(np.float32)[sample.color[..., i]] for i in range(3)], -1)
    image += np.float32(rng.uniform(0, 30 * strength)) * rng.standard_normal(image.shape, np.float32)
    return replace(sample, color=np.clip(image, 0, 255, out=image).round().astype(np.uint8))
