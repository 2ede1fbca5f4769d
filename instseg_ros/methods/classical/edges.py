"""How strongly two neighbouring pixels belong to different surfaces."""

from __future__ import annotations

import cv2
import numpy as np

from .scene import Scene


def depth_edges(depth: np.ndarray, focal: float, *, slope: float = 3.0, noise: float = 0.002) -> np.ndarray:
    """(H, W) float32 strength of depth discontinuities: ≥ 1 where a pixel and a neighbour lie on different surfaces.

    They do when their depths differ by more than ``slope`` times the distance between their rays at that range plus the
    sensor's noise, which grows with the square of the range (stereo).

    Args:
        depth: (H, W) float32 metres without NaN.
        focal: focal length, pixels.
        slope: steepest surface still taken as one, metres of depth a metre across (3 = 72°).
        noise: noise at 1 m, metres.
    """
    limit = depth * np.float32(slope / focal) + np.float32(noise) * depth**2
    strength = np.zeros_like(depth)
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        step = np.abs(depth[first] - depth[second]) / np.minimum(limit[first], limit[second])
        np.maximum(strength[first], step, out=strength[first])
        np.maximum(strength[second], step, out=strength[second])
    return strength


def concave_edges(scene: Scene, *, reach: int = 3) -> np.ndarray:
    """(H, W) float32 angle in radians of concave creases between pixels ``reach`` apart; 0 where the surface is convex.

    Parts that lie against each other meet in a concave crease, while a part's own edges are mostly convex (the local
    convexity criterion of Stein et al., CVPR 2014: ``(n₁ − n₂)·(x₁ − x₂) > 0`` is convex).
    """
    angle = np.zeros(scene.depth.shape, np.float32)
    for axis in (0, 1):
        if scene.depth.shape[axis] <= 2 * reach:
            continue
        n = np.roll(scene.normals, reach, axis), np.roll(scene.normals, -reach, axis)
        x = np.roll(scene.points, reach, axis), np.roll(scene.points, -reach, axis)
        concave = ((n[0] - n[1]) * (x[0] - x[1])).sum(-1) < 0
        turn = np.arccos(np.clip((n[0] * n[1]).sum(-1), -1, 1)) * concave
        turn[(slice(None),) * axis + (slice(None, reach),)] = 0
        turn[(slice(None),) * axis + (slice(-reach, None),)] = 0
        np.maximum(angle, turn, out=angle)
    return angle


def grow(labels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Give every unlabelled pixel of ``region`` (H, W) bool the label of its nearest labelled pixel; the rest is 0."""
    seeds = (labels > 0) & region
    if not seeds.any():
        return np.zeros_like(labels)
    _, nearest = cv2.distanceTransformWithLabels((~seeds).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    # OpenCV numbers the zero pixels in its own order; a table turns that number into our label.
    table = np.zeros(int(nearest.max()) + 1, labels.dtype)
    table[nearest[seeds]] = labels[seeds]
    return np.where(region, table[nearest], 0)
