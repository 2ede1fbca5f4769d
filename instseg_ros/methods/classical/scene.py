"""What every classical algorithm gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ...errors import InputError
from ...geometry import deproject
from .foreground import find_foreground, smooth_depth


@dataclass(frozen=True, eq=False)
class Scene:
    """A cleaned view, cut to the box around the foreground.

    Attributes:
        depth: (h, w) float32 metres without holes, 5 × 5 median.
        foreground: (h, w) bool.
        K: (3, 3) intrinsics of the cut.
        box: rows and columns of the cut in the full image.
    """

    depth: np.ndarray
    foreground: np.ndarray
    K: np.ndarray
    box: tuple[slice, slice]

    @classmethod
    def build(
        cls, depth: np.ndarray, K: np.ndarray, foreground: np.ndarray | None, *, height: float, seed: int
    ) -> Scene | None:
        """Clean ``depth`` (H, W) with NaN holes and find the foreground where it is not given; None if there is none.

        Raises:
            InputError: the given foreground has another size.
        """
        seen = np.isfinite(depth)
        if not seen.any():
            return None
        if foreground is not None and foreground.shape != depth.shape:
            raise InputError(f"foreground must be {depth.shape} like the depth image, got {foreground.shape}")
        filled = smooth_depth(depth)
        if foreground is None:
            foreground = find_foreground(filled, seen, K, height=height, seed=seed)
        rows, columns = np.flatnonzero(foreground.any(1)), np.flatnonzero(foreground.any(0))
        if not rows.size:
            return None
        top, left = max(rows[0] - 2, 0), max(columns[0] - 2, 0)
        box = slice(top, rows[-1] + 3), slice(left, columns[-1] + 3)
        shifted = K.copy()
        shifted[:2, 2] -= left, top
        return cls(filled[box], foreground[box], shifted, box)

    @cached_property
    def points(self) -> np.ndarray:
        """(h, w, 3) float32 metres."""
        return deproject(self.depth, self.K)

    @cached_property
    def normals(self) -> np.ndarray:
        """(h, w, 3) float32 unit normals towards the camera, from central differences of points blurred by 1.5 pixels."""
        smooth = cv2.GaussianBlur(self.points, (0, 0), 1.5)
        down, across = np.gradient(smooth, axis=0), np.gradient(smooth, axis=1)
        normal = np.cross(down, across)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
        return np.where((normal * self.points).sum(-1, keepdims=True) > 0, -normal, normal).astype(np.float32)

    def sample(self, most: int, seed: int) -> np.ndarray:
        """(M,) flat indices of at most ``most`` foreground pixels, drawn without repetition."""
        index = np.flatnonzero(self.foreground)
        if len(index) <= most:
            return index
        return np.sort(np.random.default_rng(seed).choice(index, most, replace=False))

    def full(self, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Labels (h, w) of the cut → (H, W) int32 of the full image."""
        image = np.zeros(shape, np.int32)
        image[self.box] = labels
        return image
