"""Depth frames → the network's grid: one view, or several fused by their poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...errors import InputError
from ...frame import Frame
from ..classical.foreground import fit_floor
from ..thresholds import read_thresholds
from .grid import Grid, standing_grid
from .voxel_features import CHANNELS, check_features, voxel_features
from .voxelizer import Cloud, VoxelCloud, frame_cloud, join, voxelize

View = tuple[Frame, np.ndarray | None]
"""A frame and its pose scene_T_camera (4, 4), None = the scene's frame is the camera's."""
SAMPLE = 20000
"""Points that the floor is looked for among."""
FAR = 98.0
"""Percentile of the depth that stands in for a floor where there is none."""


@dataclass(frozen=True, kw_only=True)
class VoxelInput:
    """How a network sees a bin; stored as ``input`` in ``model.yaml``.

    Attributes:
        voxel: edge, m.
        features: of a voxel, in this order: occupancy, tsdf, normals, height.
        truncation: of tsdf, in voxels.
        below, above: the grid's lowest and highest point, m under and over the floor.
        extent: longest side of the grid, m.
    """

    voxel: float = 0.004
    features: tuple[str, ...] = ("occupancy", "tsdf", "normals", "height")
    truncation: float = 3.0
    below: float = 0.012
    above: float = 0.18
    extent: float = 0.8

    def __post_init__(self) -> None:
        object.__setattr__(self, "features", tuple(self.features))
        check_features(self.features)
        for name in ("voxel", "truncation", "below", "above", "extent"):
            if not getattr(self, name) > 0:
                raise InputError(f"input.{name} must be positive, got {getattr(self, name)!r}")

    @property
    def channels(self) -> int:
        """Features of a voxel."""
        return sum(CHANNELS[name] for name in self.features)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> VoxelInput:
        """Read ``input`` of a model directory; what other methods store there too is left out."""
        return read_thresholds(cls, {k: v for k, v in values.items() if k != "modalities"}, section="input")


class SceneVoxels(NamedTuple):
    """A scene as the network takes it.

    Attributes:
        occupied: its voxels, and those of the pixels of all views, one view after the other.
        features: (C, X, Y, Z) float32.
    """

    occupied: VoxelCloud
    features: np.ndarray


def find_floor(views: Sequence[View]) -> np.ndarray:
    """(4,) plane n·p + d = 0 of the floor in the frame of the first camera, unit normal towards it.

    Where RANSAC finds none: the plane across the optical axis at the far end of the readings.
    """
    points = frame_cloud(views[0][0]).points
    points = points[np.isfinite(points[:, 2])]
    plane = fit_floor(points[:: -(-len(points) // SAMPLE) or 1])
    return np.array([0, 0, -1.0, np.percentile(points[:, 2], FAR)]) if plane is None else plane


def standing_cloud(
    views: Sequence[View], options: VoxelInput, *, plane: np.ndarray | None = None, yaw: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> tuple[Cloud, Grid]:  # fmt: skip
    """The points of all views, one view after the other, and the grid that they lie in.

    Args, Raises: as of :func:`voxelize_views`.
    """
    plane = find_floor(views) if plane is None else plane
    cloud = join([frame_cloud(frame, pose) for frame, pose in views])
    known = cloud.points[np.isfinite(cloud.points[:, 2])]
    heights = (-options.below, options.above)
    return cloud, standing_grid(known, plane, voxel=options.voxel, heights=heights, extent=options.extent, yaw=yaw, offset=offset)


def voxelize_cloud(cloud: Cloud, grid: Grid, views: Sequence[View], options: VoxelInput) -> SceneVoxels:
    """The voxels of a grid, or of a part of it, with their features; cloud and grid as of :func:`standing_cloud`."""
    occupied = voxelize(cloud.points, grid)
    features = voxel_features(options.features, cloud, occupied, views, truncation=options.truncation, floor=options.below)
    return SceneVoxels(occupied, features)


def voxelize_views(
    views: Sequence[View], options: VoxelInput, *, plane: np.ndarray | None = None, yaw: float = 0.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> SceneVoxels:  # fmt: skip
    """Fuse views into one grid that stands on the floor. The scene's frame must be the first camera's.

    Args:
        plane: floor, None = found in the first view.
        yaw, offset: of the grid, as of :func:`standing_grid`.

    Raises:
        InputError: no point near the floor.
    """
    cloud, grid = standing_cloud(views, options, plane=plane, yaw=yaw, offset=offset)
    return voxelize_cloud(cloud, grid, views, options)
