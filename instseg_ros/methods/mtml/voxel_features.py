"""What is known of a voxel besides its place: occupancy, truncated distance, normal, height over the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix

from ...clustering.voxel_graph import neighbour_pairs
from ...errors import InputError
from ...frame import Frame
from .grid import Grid
from .voxelizer import Cloud, VoxelCloud

CHANNELS = {"occupancy": 1, "tsdf": 1, "normals": 3, "height": 1}
"""Feature → its channels. All but tsdf are 0 in voxels that hold no point."""
HEIGHT_UNIT = 0.1
"""Metres over the floor that make 1."""


def check_features(names: Sequence[str]) -> None:
    """InputError on a feature that there is not, or none at all."""
    unknown = [name for name in names if name not in CHANNELS]
    if unknown or not names:
        raise InputError(f"features must be some of {', '.join(CHANNELS)}, got {list(names)}")


def voxel_features(
    names: Sequence[str], cloud: Cloud, occupied: VoxelCloud, views: Sequence[tuple[Frame, np.ndarray | None]], *, truncation: float,
    floor: float,
) -> np.ndarray:  # fmt: skip
    """Dense features of a grid, in the order of ``names``.

    Args:
        cloud: all points. occupied: their voxels.
        views: frames and scene_T_camera of each (None = identity), for ``tsdf``.
        truncation: of the distance, in voxels.
        floor: z of the floor in the grid's frame, m.

    Returns:
        (C, X, Y, Z) float32.
    """
    check_features(names)
    grid = occupied.grid
    result = np.zeros((sum(CHANNELS[name] for name in names), *grid.size), np.float32)
    at, channel = tuple(occupied.voxels.T), 0
    for name in names:
        target = result[channel : channel + CHANNELS[name]]
        if name == "occupancy":
            target[(0, *at)] = 1
        elif name == "normals":
            target[(slice(None), *at)] = normals(cloud, occupied).T
        elif name == "height":
            z = grid.place(occupied.mean(cloud.points))[:, 2] * grid.voxel
            target[(0, *at)] = (z - floor) / HEIGHT_UNIT
        else:
            target[0] = flipped_distance(grid, views, truncation=truncation)
        channel += CHANNELS[name]
    return result


def normals(cloud: Cloud, occupied: VoxelCloud) -> np.ndarray:
    """(N, 3) float32 unit normals in the grid's axes, towards the viewer; 0 where the points span no plane.

    The direction of least spread of the points in a voxel and its 26 neighbours.
    """
    n, grid = len(occupied.voxels), occupied.grid
    if not n:
        return np.zeros((0, 3), np.float32)
    use = occupied.row >= 0
    row, place = occupied.row[use], grid.place(cloud.points[use]) - 0.5 * np.array(grid.size)
    powers = [np.ones(len(place)), *place.T, *(place[:, i] * place[:, j] for i in range(3) for j in range(3))]
    moments = np.stack([np.bincount(row, power, n) for power in powers], 1)
    a, b = neighbour_pairs(occupied.voxels).T
    near = coo_matrix((np.ones(len(a)), (a, b)), shape=(n, n)).tocsr()
    count, first, second = np.split(moments + near @ moments + near.T @ moments, [1, 4], axis=1)
    mean = first / count
    spread = (second / count).reshape(n, 3, 3) - mean[:, :, None] * mean[:, None, :]
    values, vectors = np.linalg.eigh(spread)
    normal = vectors[:, :, 0]
    towards = occupied.mean(cloud.origin - cloud.points) @ grid.pose[:3, :3].T
    normal = np.where((normal * towards).sum(1, keepdims=True) < 0, -normal, normal)
    normal[values[:, 1] < 1e-6] = 0  # on a line or in a point
    return normal.astype(np.float32)


def flipped_distance(grid: Grid, views: Sequence[tuple[Frame, np.ndarray | None]], *, truncation: float) -> np.ndarray:
    """Flipped truncated signed distance (Song et al., CVPR 2017, section 3.1): sign(d) (1 − |d|), greatest at the surface.

    d is the distance from the surface along the optical axis over ``truncation``, positive in front, the mean of the views
    that see the voxel at all, that is from in front of or less than ``truncation`` behind their surface.

    Args:
        truncation: in voxels.

    Returns:
        (X, Y, Z) float32 in [−1, 1]; 0 = far from every surface, or hidden.
    """
    reach = truncation * grid.voxel
    total, seen = np.zeros(grid.size, np.float32), np.zeros(grid.size, np.uint16)
    for frame, pose in views:
        distance = _distance(grid, frame, pose) / np.float32(reach)
        known = distance > -1  # False for NaN
        total += np.where(known, np.minimum(distance, 1), 0)
        seen += known
    d = total / np.maximum(seen, 1)
    return np.where(seen > 0, np.where(d < 0, -1 - d, 1 - d), 0).astype(np.float32)


def _distance(grid: Grid, frame: Frame, pose: np.ndarray | None) -> np.ndarray:
    """How far (m) each voxel's centre lies in front of what a view sees along the optical axis; float32, NaN where it sees nothing."""
    camera = np.linalg.inv(grid.pose if pose is None else grid.pose @ pose)  # camera_T_grid
    # Pixel and depth are linear in the voxel's indices until the division: three sums of three rows, and no list of points.
    matrix = frame.K @ camera[:3, :3] * grid.voxel
    start = frame.K @ camera[:3, 3] + matrix.sum(1) / 2
    x, y, z = (np.arange(n).reshape([-1 if axis == k else 1 for k in range(3)]) for axis, n in enumerate(grid.size))
    u, v, depth = ((s + a * x + (b * y + c * z)).astype(np.float32) for s, (a, b, c) in zip(start, matrix))
    in_front = depth > 1e-6
    depth[~in_front] = 1
    height, width = frame.shape
    column, row = np.rint(u / depth), np.rint(v / depth)
    inside = in_front & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    pixel = np.where(inside, row * width + column, 0).astype(np.int32)  # exact in float32 below 16 M pixels
    return np.where(inside, frame.depth.reshape(-1).take(pixel) - depth, np.float32(np.nan))
