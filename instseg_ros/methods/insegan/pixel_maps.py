"""Pixels of one camera ↔ pixels of another resolution or crop of it: a scale and an offset, for both have the same rays."""

from __future__ import annotations

import numpy as np


def between(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(scale (2,), offset (2,)) that take pixels of intrinsics ``source`` to those of ``target`` along the same rays."""
    scale = target[[0, 1], [0, 1]] / source[[0, 1], [0, 1]]
    return scale, target[:2, 2] - scale * source[:2, 2]


def warp_matrix(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3) of ``between`` for OpenCV."""
    scale, offset = between(source, target)
    return np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]])
