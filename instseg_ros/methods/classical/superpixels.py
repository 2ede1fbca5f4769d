"""Superpixels of the points and the borders between them: the graph that normalised cuts and graph cuts divide."""

from __future__ import annotations

import numpy as np

from .edges import concave_edges, depth_edges
from .scene import Scene


def superpixels(scene: Scene, number: int) -> np.ndarray:
    """(h, w) int32 SLIC superpixels 1…n of the foreground on xyz, about ``number`` of them (scikit-image); 0 elsewhere."""
    from skimage.segmentation import slic

    span = np.ptp(scene.points[scene.foreground], axis=0).max()
    asked = number * scene.foreground.size / scene.foreground.sum()
    # Without a mask, over the background too: a mask costs three times as much and places its seeds worse.
    pixels = slic(
        (scene.points / max(span, 1e-6)).astype(np.float64), int(np.clip(asked, 1, scene.foreground.size / 4)),
        compactness=0.05, max_num_iter=10, start_label=1, convert2lab=False, channel_axis=-1,
    )  # fmt: skip
    _, inside = np.unique(pixels[scene.foreground], return_inverse=True)
    result = np.zeros(scene.foreground.shape, np.int32)
    result[scene.foreground] = inside + 1
    return result


def edge_strength(scene: Scene, crease: float) -> np.ndarray:
    """(h, w) float64 in [0, 4]: depth edges, and concave creases in units of ``crease`` radians, each cut at 2."""
    strength = np.minimum(depth_edges(scene.depth, scene.K[0, 0]), 2.0) + np.minimum(concave_edges(scene) / crease, 2.0)
    return strength.astype(np.float64)


def borders(pixels: np.ndarray, strength: np.ndarray, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring superpixels and how much holds them together.

    Args:
        pixels: (h, w) superpixels 1…n, 0 = none.
        strength: (h, w) of ``edge_strength``.
        sharpness: how fast an edge parts what it runs through.

    Returns:
        pairs (E, 2) int64 of superpixels counted from 0, and for each the sum of ``exp(−sharpness · strength)`` along
        their common border (E,): its length in pixels, less where it is an edge.
    """
    n, codes, values = int(pixels.max(initial=0)), [], []
    for axis in (0, 1):
        first, second = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        a, b = pixels[first], pixels[second]
        border = (a != b) & (a > 0) & (b > 0)
        low, high = np.minimum(a[border], b[border]) - 1, np.maximum(a[border], b[border]) - 1
        codes.append(low.astype(np.int64) * n + high)
        values.append(np.exp(-sharpness * np.maximum(strength[first][border], strength[second][border])))
    code, which = np.unique(np.concatenate(codes), return_inverse=True)
    weight = np.bincount(which, weights=np.concatenate(values), minlength=len(code))
    return np.stack([code // max(n, 1), code % max(n, 1)], axis=1), weight
