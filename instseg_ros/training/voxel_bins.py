"""Images of bins as training samples of MTML: each voxelised anew, turned and shifted at random on the floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..bop import BopDataset
from ..frame import Frame
from ..methods.mtml.grid import Grid
from ..methods.mtml.views import SceneVoxels, VoxelInput, standing_cloud, voxelize_cloud, voxelize_views
from ..synthesis.sensor import SensorParams, add_noise

SIZED = 40
"""Images that the usual sizes of parts are measured in."""


@dataclass(frozen=True, eq=False)
class BinVoxels(Dataset):
    """One augmented image an index; the same (seed, epoch, index) gives the same sample.

    Items: ``grid`` (C, X, Y, Z) float32, ``voxels`` (N, 3) int64, ``instance`` (N,) int64 in 0…K−1, −1 = background,
    ``centre`` (K, 3) float32, in voxels, the centroid of the whole part.

    Attributes:
        window: longest side of a sample along x and y, in voxels, 0 = all; it holds an instance that is drawn at random.
        flips: mirror half of the samples; not where a part is chiral.
        sensor_noise: add the noise of a D435, of another device each time, to the depth.
    """

    dataset: BopDataset
    inputs: VoxelInput
    window: int
    flips: bool
    seed: int
    sensor_noise: bool = False
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, int(self.epoch), i])
        frame, truth = self.dataset.frame(i, color=False), self.dataset.truth(i)
        yaw, offset = rng.uniform(0, 2 * np.pi), tuple(rng.random(2))
        if self.sensor_noise:
            frame = replace(frame, depth=add_noise(frame.depth, frame.K, rng, SensorParams().jittered(rng)))
        views = [(frame, None)]
        cloud, grid = standing_cloud(views, self.inputs, yaw=yaw, offset=offset)
        if self.window:  # before the features are computed, which take most of the time
            grid = grid.window(_middle(grid, cloud.points, truth.labels.ravel(), self.window, rng), self.window)
        scene = voxelize_cloud(cloud, grid, views, self.inputs)
        features, voxels, instance = scene.features, scene.occupied.voxels, voxel_instances(scene, truth.labels)
        centre = grid.place(truth.centroid)
        if self.flips and rng.random() < 0.5:
            features, voxels, centre = mirror(features, voxels, centre, self.inputs.features)
        seen = np.setdiff1d(instance, -1)
        renumber = np.full(len(centre) + 1, -1)
        renumber[seen] = np.arange(len(seen))
        return {
            "grid": torch.from_numpy(np.ascontiguousarray(features)),
            "voxels": torch.from_numpy(voxels),
            "instance": torch.from_numpy(renumber[instance]),
            "centre": torch.from_numpy(centre[seen].astype(np.float32)),
        }


def voxel_instances(scene: SceneVoxels, labels: np.ndarray) -> np.ndarray:
    """Instance (N,) int64, from 0, of each occupied voxel of a single view: its commonest label (H, W), −1 = background."""
    return scene.occupied.majority(labels.reshape(-1).astype(np.int64), int(labels.max()) + 1) - 1


def mirror(
    grid: np.ndarray, voxels: np.ndarray, centre: np.ndarray, features: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mirror a sample in x; the normals' x component changes its sign."""
    length = grid.shape[1]
    grid, voxels, centre = grid[:, ::-1].copy(), voxels.copy(), centre.copy()
    voxels[:, 0], centre[:, 0] = length - 1 - voxels[:, 0], length - centre[:, 0]
    if "normals" in features:
        first = sum({"normals": 3}.get(name, 1) for name in features[: list(features).index("normals")])
        grid[first] *= -1
    return grid, voxels, centre


def visible_sizes(dataset: BopDataset, inputs: VoxelInput) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of ln(voxels that are seen) of every part, from some images spread over the split."""
    found: dict[str, list[float]] = {}
    for i in np.unique(np.linspace(0, len(dataset) - 1, min(SIZED, len(dataset))).astype(int)):
        truth, frame = dataset.truth(int(i)), dataset.frame(int(i), color=False)
        instance = voxel_instances(_scene(frame, inputs), truth.labels)
        for k, size in enumerate(np.bincount(instance[instance >= 0], minlength=len(truth))):
            if size:
                found.setdefault(truth.part[k], []).append(float(np.log(size)))
    return tuple((float(np.mean(logs)), float(np.std(logs))) for _, logs in sorted(found.items()))


def collate_grids(samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor | list[Tensor]]:
    """Samples of several sizes → one grid (B, C, X, Y, Z), padded with 0, and the rest a list with an entry a sample."""
    size = torch.tensor([sample["grid"].shape[1:] for sample in samples]).amax(0).tolist()
    grid = torch.zeros(len(samples), len(samples[0]["grid"]), *size)
    for target, sample in zip(grid, samples):
        x, y, z = sample["grid"].shape[1:]
        target[:, :x, :y, :z] = sample["grid"]
    voxels = torch.cat([F.pad(sample["voxels"], (1, 0), value=b) for b, sample in enumerate(samples)])
    return {"grid": grid, "voxels": voxels, **{k: [s[k] for s in samples] for k in ("instance", "centre")}}


def _scene(frame: Frame, inputs: VoxelInput) -> SceneVoxels:
    return voxelize_views([(frame, None)], inputs)


def _middle(grid: Grid, points: np.ndarray, labels: np.ndarray, window: int, rng: np.random.Generator) -> np.ndarray:
    """Middle (2,) of a window about an instance that is drawn at random, off it by a quarter of the window at most.

    Args:
        points: (M, 3) m, NaN where there is none. labels: (M,) their instances, 0 = none.
    """
    known = np.isfinite(points[:, 2])
    parts = np.setdiff1d(labels[known], 0)
    if len(parts):
        known &= labels == parts[rng.integers(len(parts))]
    return grid.place(points[known])[:, :2].mean(0) + rng.uniform(-window / 4, window / 4, 2)
