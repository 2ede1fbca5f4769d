"""Boxes in a bin under a stereo camera whose depth is known to the millimetre: a picture for a camera that is not there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

TABLE, FLOOR, RIM = 0.800, 0.780, 0.700
"""Distances, metres, of table, bin's floor and bin's rim."""
WALL = 0.01
BIN = (-0.16, -0.12, 0.32, 0.24)
"""Inside of the bin: left, top, width, height in metres around the optical axis of the colour camera."""
TABLE_COLOR, BIN_COLOR = (70, 74, 80), (120, 120, 126)


def _K(f: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[f, 0.0, cx], [0.0, f, cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class BoxScene:
    """Twelve boxes, seen from straight above, of which one is lifted a little from view to view.

    Only faces that are parallel to the image are drawn: depth changes from box to box and is exact within each.

    Attributes:
        size: (H, W) of both images.
        depth_K, color_K: (3, 3) pixels.
        baseline: (3,) m, from the depth imager's frame to the colour imager's.
        period: views before the first one comes again.
    """

    size: tuple[int, int] = (480, 640)
    depth_K: np.ndarray = field(default_factory=lambda: _K(600.0, 319.5, 239.5))
    color_K: np.ndarray = field(default_factory=lambda: _K(615.0, 321.5, 238.5))
    baseline: tuple[float, float, float] = (0.015, 0.0, 0.0)
    period: int = 12

    def boxes(self, t: int) -> list[tuple[float, tuple[float, float, float, float], tuple[int, int, int]]]:
        """Faces of view ``t``, farthest first: distance m, rectangle (left, top, width, height) m in the colour camera's frame,
        colour."""
        left, top, width, height = BIN
        rim = (left - WALL, top - WALL, width + 2 * WALL, height + 2 * WALL)
        faces = [(RIM, rim, BIN_COLOR), (FLOOR, BIN, BIN_COLOR)]
        for i in range(12):
            row, column = divmod(i, 4)
            lift = 0.010 if i == t % 12 else 0.0
            face = (left + 0.02 + 0.075 * column, top + 0.02 + 0.072 * row, 0.055, 0.052)
            faces.append((0.750 - 0.004 * (i % 5) - lift, face, (200 - 9 * i, 90 + 11 * i, 60 + 15 * (i % 4))))
        return faces

    def depth(self, t: int) -> np.ndarray:
        """(H, W) float64 metres of the depth imager."""
        image = np.full(self.size, TABLE)
        for distance, face, _ in self.boxes(t):
            image[self._pixels(self.depth_K, face, distance, np.array(self.baseline))] = distance
        return image

    def color(self, t: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the colour imager."""
        image = np.full((*self.size, 3), TABLE_COLOR, np.uint8)
        for distance, face, rgb in self.boxes(t):
            image[self._pixels(self.color_K, face, distance, np.zeros(3))] = rgb
        return image

    def _pixels(self, K: np.ndarray, face: tuple[float, float, float, float], distance: float, baseline: np.ndarray) -> tuple[slice, slice]:
        """Rows and columns whose centres lie on a face. ``baseline`` leads from this imager to the colour camera."""
        left, top, width, height = face
        x = np.array([left, left + width]) - baseline[0]
        y = np.array([top, top + height]) - baseline[1]
        z = distance - baseline[2]
        u = np.clip(np.ceil(K[0, 0] * x / z + K[0, 2]), 0, self.size[1]).astype(int)
        v = np.clip(np.ceil(K[1, 1] * y / z + K[1, 2]), 0, self.size[0]).astype(int)
        return slice(*v), slice(*u)
