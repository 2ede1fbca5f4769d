"""Where voxels are: a grid that stands on the floor of a scene, in metres and voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError

LARGEST = 16_000_000
"""Voxels of a grid; more are a mistake of units."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Voxels (0, 0, 0) … ``size`` − 1. The grid's frame has its origin in the outer corner of voxel (0, 0, 0), z up.

    Attributes:
        pose: (4, 4) float64 grid_T_scene, points of the scene (m) → the grid's frame (m).
        size: number of voxels along x, y, z. voxel: their edge, m.
    """

    pose: np.ndarray
    size: tuple[int, int, int]
    voxel: float

    def __post_init__(self) -> None:
        if not 0 < self.voxel < 10:
            raise InputError(f"voxel must be an edge length in metres, got {self.voxel!r}")
        if min(self.size) < 1 or np.prod(np.array(self.size, np.float64)) > LARGEST:
            size = " x ".join(map(str, self.size))
            raise InputError(f"a grid of {size} voxels does not fit into memory: take larger voxels or a smaller extent")

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 3) m of the scene → (…, 3) float64 in voxels; the centre of voxel (i, j, k) is (i + ½, j + ½, k + ½)."""
        return (points @ self.pose[:3, :3].T + self.pose[:3, 3]) / self.voxel

    def index(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Voxel (…, 3) int64 that holds each point (…, 3) m, and whether (…) it lies in the grid; NaN does not."""
        place = np.floor(self.place(points))
        inside = ((place >= 0) & (place < self.size)).all(-1)
        return np.where(inside[..., None], place, 0).astype(np.int64), inside

    def centres(self, voxels: np.ndarray) -> np.ndarray:
        """Centres (…, 3) m, in the scene, of voxels (…, 3)."""
        return ((voxels + 0.5) * self.voxel - self.pose[:3, 3]) @ self.pose[:3, :3]

    def window(self, middle: np.ndarray, side: int) -> Grid:
        """The part of at most ``side`` voxels along x and y, about ``middle`` (2,), in voxels, as far as the grid reaches."""
        size = np.array(self.size[:2])
        corner = np.clip(np.round(middle - side / 2).astype(np.int64), 0, np.maximum(size - side, 0))
        x, y = np.minimum(size - corner, side).tolist()
        pose = self.pose.copy()
        pose[:2, 3] -= corner * self.voxel
        return Grid(pose, (x, y, self.size[2]), self.voxel)


def standing_grid(
    points: np.ndarray, plane: np.ndarray, *, voxel: float, heights: tuple[float, float], extent: float, yaw: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> Grid:  # fmt: skip
    """The smallest grid on a plane that holds the points, or as many as ``extent`` lets in.

    Args:
        points: (M, 3) m, finite.
        plane: (4,) n·p + d = 0, unit normal upwards: the grid's z axis.
        voxel: edge, m.
        heights: lowest and highest z of the grid over the plane, m; points outside do not count.
        extent: longest side along x and y, m; the middle is that of the points.
        yaw: angle about the normal by which the grid is turned, rad. offset: by which it is shifted along x and y, in voxels.

    Raises:
        InputError: no point lies between the heights.
    """
    z = np.asarray(plane[:3], np.float64)
    x = np.cross(np.eye(3)[np.argmin(np.abs(z))], z)  # any direction in the plane, the same for the same normal
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    c, s = np.cos(yaw), np.sin(yaw)
    axes = np.stack([c * x + s * y, c * y - s * x, z])
    place = points @ axes.T
    height = place[:, 2] + plane[3]
    place = place[(height >= heights[0]) & (height < heights[1])]
    if not len(place):
        raise InputError(f"no point lies {heights[0]} to {heights[1]} m over the floor: check the depth scale and the floor's plane")
    low, high = place[:, :2].min(0), place[:, :2].max(0)
    # A thousandth of a voxel of room: rounding must not put the outermost points outside.
    half, middle = np.minimum((high - low) / 2 + 1e-3 * voxel, extent / 2), (low + high) / 2
    corner = middle - half - np.array(offset) * voxel
    size = [int(np.ceil(n / voxel)) for n in middle + half - corner]
    pose = np.eye(4)
    pose[:3, :3] = axes
    pose[:3, 3] = -np.append(corner, heights[0] - plane[3])
    return Grid(pose, (size[0], size[1], max(round((heights[1] - heights[0]) / voxel), 1)), voxel)
