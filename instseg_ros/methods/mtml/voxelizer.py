"""Points → voxels and back: what the network of MTML takes in, and how its labels return to points and pixels (section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ...frame import Frame
from ...geometry import deproject
from .grid import Grid


@dataclass(frozen=True, eq=False)
class Cloud:
    """M measured points.

    Attributes:
        points: (M, 3) float64 m, in the frame of the scene.
        origin: (M, 3) float64 m, from where each was seen.
    """

    points: np.ndarray
    origin: np.ndarray


@dataclass(frozen=True, eq=False)
class VoxelCloud:
    """The occupied voxels of a grid.

    Attributes:
        voxels: (N, 3) int64, in ascending order, each once.
        row: (M,) int64 row of the voxel that holds each point, −1 = outside of the grid.
        count: (N,) int64 points in each.
    """

    grid: Grid
    voxels: np.ndarray
    row: np.ndarray
    count: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over the points of each voxel: (M, D) → (N, D) float64."""
        use = self.row >= 0
        row, values = self.row[use], values[use]
        total = np.stack([np.bincount(row, column, len(self.voxels)) for column in values.T], 1)
        return total / self.count[:, None]

    def majority(self, labels: np.ndarray, count: int) -> np.ndarray:
        """Commonest label among the points of each voxel, the smaller one of two: (M,) integers in 0…count−1 → (N,) int64."""
        use = self.row >= 0
        table = np.bincount(self.row[use] * count + labels[use], minlength=len(self.voxels) * count)
        return table.reshape(-1, count).argmax(1)

    def to_points(self, labels: np.ndarray, outside: int = 0) -> np.ndarray:
        """Labels of voxels (N,) → of points (M,)."""
        return np.append(labels, outside)[self.row]


def voxelize(points: np.ndarray, grid: Grid) -> VoxelCloud:
    """Find the voxels that hold points (M, 3) m; NaN lies in none."""
    index, inside = grid.index(points)
    key = np.ravel_multi_index(tuple(index[inside].T), grid.size)
    count = np.bincount(key, minlength=int(np.prod(grid.size)))
    occupied = count > 0  # counting costs a fifth of sorting
    used = np.flatnonzero(occupied)
    rows = np.full(len(points), -1)
    rows[inside] = (np.cumsum(occupied) - 1)[key]
    return VoxelCloud(grid, np.stack(np.unravel_index(used, grid.size), 1).astype(np.int64), rows, count[used])


def frame_cloud(frame: Frame, pose: np.ndarray | None = None) -> Cloud:
    """All H · W pixels of a frame as points in the order of the image, NaN where there is no reading.

    Args:
        pose: (4, 4) scene_T_camera, None = the camera's own frame is the scene's.
    """
    points = deproject(frame.depth, frame.K).reshape(-1, 3).astype(np.float64)
    if pose is None:
        return Cloud(points, np.zeros_like(points))
    return Cloud(points @ pose[:3, :3].T + pose[:3, 3], np.broadcast_to(pose[:3, 3], points.shape))


def join(clouds: Sequence[Cloud]) -> Cloud:
    """Several clouds as one, their points one after the other."""
    return Cloud(np.concatenate([c.points for c in clouds]), np.concatenate([c.origin for c in clouds]))


def to_image(labels: np.ndarray, frame: Frame, *, fill: int = 0) -> np.ndarray:
    """Labels of a frame's pixels (H · W,) as of ``to_points`` → label image (H, W) uint16.

    Args:
        fill: pixels without a reading take the label of the nearest one that has, up to so many pixels away.
    """
    image = labels.reshape(frame.shape).astype(np.uint16)
    missing = ~np.isfinite(frame.depth)
    if not fill or not missing.any() or missing.all():
        return image
    distance, nearest = cv2.distanceTransformWithLabels(missing.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, np.uint16)
    table[nearest[~missing]] = image[~missing]
    close = missing & (distance <= fill)
    image[close] = table[nearest[close]]
    return image
