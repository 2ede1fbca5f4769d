"""Connected components between depth edges: no clustering, no count, NumPy and OpenCV only."""

from __future__ import annotations

import cv2
import numpy as np

from .edges import concave_edges, depth_edges, grow
from .scene import Scene


def connected_components(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    slope: float = 3.0,
    noise: float = 0.002,
    crease: float = 0.6,
    min_core: int = 40,
) -> np.ndarray:
    """(h, w) int32 labels: what is connected without crossing a depth edge or a concave crease.

    Args:
        count, seed: not used.
        slope, noise: of ``depth_edges``.
        crease: radians from which a concave crease separates; 0 = creases do not.
        min_core: smaller cores join their nearest neighbour.
    """
    core = scene.foreground & (depth_edges(scene.depth, scene.K[0, 0], slope=slope, noise=noise) < 1)
    if crease > 0:
        core &= concave_edges(scene) < crease
    _, labels, stats, _ = cv2.connectedComponentsWithStats(core.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    labels[(stats[:, cv2.CC_STAT_AREA] < min_core)[labels]] = 0
    return grow(labels, scene.foreground)
