"""What is known of a voxel besides its place: occupancy, truncated distance, normal, height over the floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...clustering.voxel_graph import neighbour_pairs
from ...errors import InputError
from ...frame import Frame
from ...geometry import project
from .grid import Grid
from .voxelizer import Cloud, VoxelCloud

CHANNELS = {"occupancy": 1, "tsdf": 1, "normals": 3, "height": 1}
"""Feature → its channels. All but tsdf are 0 in voxels that hold no point."""
HEIGHT_UNIT = 0.1
"""Metres over the floor that make 1."""
BLOCK = 64
"""Layers of a grid along x whose distances are found at a time: the memory stays small."""


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
    centre = occupied.voxels + 0.5
    use = occupied.row >= 0
    row = occupied.row[use]
    place = grid.place(cloud.points[use])
    local = place - centre[row]  # first and second moments about the voxel's own centre keep their digits
    count = occupied.count.astype(np.float64)
    first = np.stack([np.bincount(row, c, n) for c in local.T], 1)
    second = np.stack([np.bincount(row, local[:, i] * local[:, j], n) for i in range(3) for j in range(3)], 1).reshape(n, 3, 3)
    a, b = neighbour_pairs(occupied.voxels).T
    total = [count.copy(), first.copy(), second.copy()]
    for own, other in ((a, b), (b, a)):
        step = (centre[other] - centre[own])[:, :, None]
        m, f, s = count[other, None, None], first[other][:, :, None], second[other]
        moved = s + step @ f.transpose(0, 2, 1) + f @ step.transpose(0, 2, 1) + m * (step @ step.transpose(0, 2, 1))
        for part, value in zip(total, (count[other], first[other] + count[other, None] * step[:, :, 0], moved)):
            flat = value.reshape(len(value), int(np.prod(value.shape[1:])))
            part += np.stack([np.bincount(own, column, n) for column in flat.T], 1).reshape(part.shape)
    m, f, s = total
    mean = f / m[:, None]
    values, vectors = np.linalg.eigh(s / m[:, None, None] - mean[:, :, None] * mean[:, None, :])
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
    result = np.zeros(grid.size, np.float32)
    y, z = np.meshgrid(np.arange(grid.size[1]), np.arange(grid.size[2]), indexing="ij")
    for start in range(0, grid.size[0], BLOCK):
        x = np.arange(start, min(start + BLOCK, grid.size[0]))
        voxels = np.stack(np.broadcast_arrays(x[:, None, None], y[None], z[None]), -1)
        centres = grid.centres(voxels)
        total, seen = np.zeros(voxels.shape[:3], np.float32), np.zeros(voxels.shape[:3], np.int32)
        for frame, pose in views:
            distance = _distance(centres, frame, pose) / reach
            known = distance > -1  # False for NaN
            total += np.where(known, np.minimum(distance, 1), 0)
            seen += known
        d = total / np.maximum(seen, 1)
        result[x] = np.where(seen > 0, np.where(d < 0, -1 - d, 1 - d), 0)
    return result


def _distance(points: np.ndarray, frame: Frame, pose: np.ndarray | None) -> np.ndarray:
    """How far (m) points (…, 3) of the scene lie in front of what a view sees along the optical axis, NaN where it sees nothing."""
    if pose is not None:
        points = (points - pose[:3, 3]) @ pose[:3, :3]
    height, width = frame.shape
    in_front = points[..., 2] > 1e-6
    pixel = np.rint(project(np.where(in_front[..., None], points, 1.0), frame.K))
    inside = in_front & (pixel >= 0).all(-1) & (pixel[..., 0] < width) & (pixel[..., 1] < height)
    column, row = np.where(inside[..., None], pixel, 0).astype(np.int64).transpose(-1, *range(pixel.ndim - 1))
    return np.where(inside, frame.depth[row, column] - points[..., 2], np.nan).astype(np.float32)

