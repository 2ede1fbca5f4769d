"""Voxel scenes as lists of occupied voxels, and how a semantic segmentation gets their classes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .voxels import VOXEL, VoxelScene, load_scene

CELL = 3
"""Voxels along the edge of the blocks that noise changes as a whole: a segmentation errs in patches, not in single voxels."""


@dataclass(frozen=True, eq=False)
class Voxels:
    """The occupied voxels of one scene.

    Attributes:
        voxels: (N, 3) int64 grid indices. size: of the grid.
        classes: (N,) int64, 0-based. instance: (N,) int64, 0…C−1. centre: (C, 3) float32, in voxels from the grid's corner.
        object_class: (C,) int64, 0-based.
    """

    voxels: np.ndarray
    size: tuple[int, int, int]
    classes: np.ndarray
    instance: np.ndarray
    centre: np.ndarray
    object_class: np.ndarray

    @classmethod
    def of(cls, scene: VoxelScene) -> Voxels:
        """Take the occupied voxels of a scene."""
        voxels = np.argwhere(scene.instance)
        at = tuple(voxels.T)
        return cls(
            voxels, scene.instance.shape, scene.semantic[at].astype(np.int64) - 1, scene.instance[at].astype(np.int64) - 1,
            scene.centre / np.float32(VOXEL), scene.object_class.astype(np.int64) - 1,
        )  # fmt: skip


def load_scenes(root: Path, split: str) -> list[Voxels]:
    """All scenes of a split of `instseg synth voxels`, in order; InputError where there are none."""
    files = sorted((root / split).glob("*.npz"))
    if not files:
        raise InputError(f"{root / split} holds no voxel scenes: make them with `instseg synth voxels --split {split} --out {root}`")
    return [Voxels.of(load_scene(file)) for file in files]


def noisy_classes(classes: np.ndarray, voxels: np.ndarray, count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Give a ``share`` of the blocks of ``CELL``³ voxels another class, the same one in the whole block.

    Args:
        classes: (N,) in 0…count−1. voxels: (N, 3). share: in [0, 1].
    """
    if share == 0:
        return classes
    blocks, inverse = np.unique(voxels // CELL, axis=0, return_inverse=True)
    shift = rng.integers(1, count, len(blocks)) * (rng.random(len(blocks)) < share)
    return (classes + shift[inverse.reshape(-1)]) % count
