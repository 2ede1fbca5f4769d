"""Voxel scenes as training samples of MTML: flips, turns about the vertical, fresh noise of the semantics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..synthesis.voxel_samples import Voxels, noisy_classes


def usual_sizes(scenes: Sequence[Voxels], classes: int) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of ln(voxels) of the instances of every class that occurs."""
    logs = np.concatenate([np.log(np.bincount(s.instance, minlength=len(s.centre)).clip(1)) for s in scenes])
    kinds = np.concatenate([s.object_class for s in scenes])
    return tuple((float(logs[kinds == k].mean()), float(logs[kinds == k].std())) for k in range(classes) if (kinds == k).any())


class VoxelSet(Dataset):
    """One augmented scene an index: a random flip and a quarter turn about the vertical (section 3.3), fresh noise.

    Attributes:
        epoch: shared integer; every epoch draws other augmentations, also after a resume.
    """

    def __init__(self, scenes: Sequence[Voxels], classes: int, noise: float, seed: int) -> None:
        self.scenes, self.classes, self.noise, self.seed = scenes, classes, noise, seed
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        scene = self.scenes[index]
        rng = np.random.default_rng([self.seed, int(self.epoch), index])
        classes = noisy_classes(scene.classes, scene.voxels, self.classes, self.noise, rng)
        voxels, centre, size = turn(scene.voxels, scene.centre, scene.size, quarters=int(rng.integers(4)), flip=bool(rng.integers(2)))
        return {
            "features": F.one_hot(torch.from_numpy(classes), self.classes).float(),
            "voxels": torch.from_numpy(voxels),
            "instance": torch.from_numpy(scene.instance),
            "centre": torch.from_numpy(centre),
            "size": torch.tensor(size),
        }


def turn(
    voxels: np.ndarray, centre: np.ndarray, size: tuple[int, int, int], *, quarters: int, flip: bool
) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Turn a grid by quarter turns about z, then mirror it in x: exact, no voxel is resampled.

    Args:
        voxels: (N, 3) indices. centre: (C, 3) in voxels from the grid's corner. size: of the grid.
    """
    index, place = voxels.copy(), centre.copy()
    x, y, z = size
    for _ in range(quarters % 4):
        index = np.stack([y - 1 - index[:, 1], index[:, 0], index[:, 2]], 1)
        place = np.stack([y - place[:, 1], place[:, 0], place[:, 2]], 1)
        x, y = y, x
    if flip:
        index[:, 0], place[:, 0] = x - 1 - index[:, 0], x - place[:, 0]
    return index, place, (x, y, z)


def collate(samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor | list[Tensor]]:
    """Scenes → one grid (B, C, X, Y, Z), and the rest a list with an entry a scene."""
    size = torch.stack([sample["size"] for sample in samples]).amax(0).tolist()
    grid = torch.zeros(len(samples), samples[0]["features"].shape[1], *size)
    rows = []
    for b, sample in enumerate(samples):
        x, y, z = sample["voxels"].unbind(1)
        grid[b, :, x, y, z] = sample["features"].T
        rows.append(F.pad(sample["voxels"], (1, 0), value=b))
    return {"grid": grid, "voxels": torch.cat(rows), **{k: [s[k] for s in samples] for k in ("instance", "centre")}}
