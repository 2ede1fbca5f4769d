"""BOP datasets, one or several, → whole views with the masks of their parts, for Mask2Former."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..bop import BopDataset, Truth
from ..errors import InputError
from ..frame import Frame
from ..methods.clusternet.inputs import network_inputs
from ..methods.mask2former.network import STRIDE
from ..methods.mask2former.segmenter import INPUT
from ..synthesis.sensor import SensorParams, add_noise
from .augment import Sample, crop, drop_patches, mirror, turn
from .data import PackedViews


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How views become training samples.

    Attributes:
        images: only so many of each dataset, the first ones; 0 = all.
        crop: window side in pixels, a multiple of 32; the whole view where that is no larger.
        noise: add D435-like sensor noise, of another device each time, to the depth.
        patches, patch_size: up to so many ellipses of up to so many pixels are erased from the depth.
        turns: roll the camera by random quarter turns. flips: mirror half of the views, but never those of chiral parts.
        jitter: metres; a third of it shifts the depth.
        min_visible: parts with a smaller visible fraction count as background.
    """

    images: int = 0
    crop: int = 224
    noise: bool = False
    patches: int = 0
    patch_size: int = 24
    turns: bool = True
    flips: bool = True
    jitter: float = 0.05
    min_visible: float = 0.05

    def __post_init__(self) -> None:
        if self.crop % STRIDE or self.crop <= 0:
            raise InputError(f"data.crop must be a positive multiple of {STRIDE}, got {self.crop}")
        if self.images < 0:
            raise InputError(f"data.images must not be negative, got {self.images}")


class ManyDatasets:
    """Splits of BOP datasets one after the other, at most ``limit`` images of each (0 = all); read like a ``BopDataset``."""

    def __init__(self, datasets: Sequence[BopDataset], limit: int = 0) -> None:
        self._index = [(dataset, i) for dataset in datasets for i in range(min(len(dataset), limit or len(dataset)))]
        self.keys: list[tuple[int, ...]] = [(k, *d.keys[i]) for k, d in enumerate(datasets) for i in range(min(len(d), limit or len(d)))]
        self.part_names = sorted({name for dataset in datasets for name in dataset.part_names.values()})

    @classmethod
    def open(cls, root: Path, split: str, limit: int = 0) -> ManyDatasets:
        """The split of a BOP dataset, or of every one in the folder ``root`` (as `instseg synth benchmark` writes them)."""
        inner = [] if (root / split).is_dir() or not root.is_dir() else sorted(x for x in root.iterdir() if (x / split).is_dir())
        return cls([BopDataset(folder, split) for folder in inner or [root]], limit)

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, i: int, color: bool = True) -> Frame:
        dataset, k = self._index[i]
        return dataset.frame(k, color)

    def truth(self, i: int, *, amodal: bool = False, layers: bool = False) -> Truth:
        dataset, k = self._index[i]
        return dataset.truth(k, amodal=amodal, layers=layers)

    def chiral(self, i: int) -> bool:
        """Whether any part of the dataset that image ``i`` is of differs from its mirror image."""
        return any(self._index[i][0].chiral.values())


@dataclass(frozen=True, eq=False)
class MaskViews(Dataset):
    """Augmented training samples; the same (seed, epoch, index) gives the same sample.

    Items: ``image`` (3, h, w) float32 as the segmenter feeds it, ``masks`` (N, h, w) float32 of the parts, 0 and 1.
    """

    views: PackedViews
    source: ManyDatasets
    config: DataConfig
    seed: int
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        c = self.config
        rng = np.random.default_rng([self.seed, int(self.epoch), i])
        sample = crop(self.views.sample(i, min_visible=c.min_visible), c.crop, rng)
        if c.noise:
            noisy = add_noise(np.ascontiguousarray(sample.depth), sample.K, rng, SensorParams().jittered(rng))
            sample = Sample(noisy, sample.K, None, sample.labels, sample.centroid, sample.covariance)
        # After the noise: the shadow of a stereo camera always falls on one side of its image.
        if c.turns:
            sample = turn(sample, int(rng.integers(4)))
        if c.flips and not self.source.chiral(i) and rng.random() < 0.5:
            sample = mirror(sample)
        if c.patches:
            sample = drop_patches(sample, rng, count=c.patches, largest=c.patch_size)
        shift = rng.uniform(-c.jitter, c.jitter, 3) * [1, 1, 0.3]
        images, _ = network_inputs(np.ascontiguousarray(sample.depth), sample.K, None, [INPUT], shift=shift)
        seen = np.unique(sample.labels)
        masks = sample.labels[None] == seen[seen > 0][:, None, None]
        return {"image": torch.from_numpy(images[INPUT]).permute(2, 0, 1), "masks": torch.from_numpy(masks.astype(np.float32))}


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Stack images; masks stay a list, as their numbers differ."""
    return {"images": torch.stack([s["image"] for s in samples]), "masks": [s["masks"] for s in samples]}
