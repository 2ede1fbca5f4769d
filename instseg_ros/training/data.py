"""BOP dataset → augmented crops, and batches of them for ClusterNet."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..bop import BopDataset, Truth
from ..errors import InputError
from ..methods.clusternet.inputs import network_inputs
from ..methods.layered.stack import without_hidden
from ..synthesis.sensor import SensorParams, add_noise
from .augment import Sample, crop, drop_patches, mirror, recolor, turn
from .targets import center_candidates, feature_table, radius_table

UNIT = 1e-4  # metres per step of the packed 16-bit depth: range 6.5 m


def check_crop(name: str, side: int) -> None:
    """InputError unless the network takes windows of this side."""
    if side % 32 or side <= 0:
        raise InputError(f"{name} must be a positive multiple of 32, got {side}")


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How views become crops.

    Attributes:
        crop: window side in pixels, a multiple of 32. anywhere: share of windows that may lie anywhere, not around parts.
        noise: add D435-like sensor noise, of another device each time, to the depth (for noise-free sets; off for real ones).
        patches, patch_size: up to so many ellipses of up to so many pixels are erased from the depth.
        turns: roll the camera by random quarter turns.
        flips: mirror half of the samples; refused where a part is chiral.
        jitter: metres, uniform shift of the xyz channels.
        recolor: strength of the random changes of colour, for networks that see it.
    """

    crop: int = 256
    anywhere: float = 0.0
    noise: bool = True
    patches: int = 4
    patch_size: int = 24
    turns: bool = True
    flips: bool = False
    jitter: float = 0.1
    recolor: float = 0.2

    def __post_init__(self) -> None:
        check_crop("crop", self.crop)
        if not 0 <= self.anywhere <= 1:
            raise InputError(f"anywhere must lie in [0, 1], got {self.anywhere}")
        if not 0 <= self.recolor <= 1:
            raise InputError(f"recolor must lie in [0, 1], got {self.recolor}")


@dataclass(frozen=True, kw_only=True)
class DataConfig(CropConfig):
    """How views become training samples of ClusterNet.

    Attributes:
        center_fraction: share of a part's pixels annotated as centroid candidates, the paper's 10–30 %.
        min_visible: parts with a smaller visible fraction are neither seeds nor neighbours in Eq. 2.
    """

    center_fraction: float = 0.2
    min_visible: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.center_fraction <= 1:
            raise InputError(f"data.center_fraction must lie in (0, 1], got {self.center_fraction}")


class PackedViews:
    """Depth, labels and colour of a dataset, unpacked once into memory-mapped files: PNG decoding would cost more than a step.

    Args:
        layers: of the amodal stack; 1 = the labels alone. Wholly hidden parts are left out of deeper stacks.
        color: whether samples have colour.

    Attributes:
        part: names of the instances of each view.
    """

    def __init__(
        self, dataset: BopDataset, folder: Path, progress: Callable[[Iterable[int]], Iterable[int]] = lambda x: x, *,
        layers: int = 1, color: bool = False,
    ) -> None:  # fmt: skip
        self.dataset, self.layers = dataset, layers
        self.part: list[list[str]] = []
        self._offset, self._shape, self._K, self._truth = [], [], [], []
        shutil.rmtree(folder, ignore_errors=True)
        position = 0
        try:
            folder.mkdir(parents=True)
            with (folder / "views.u16").open("wb") as file, (folder / "color.u8").open("wb") as color_file:
                for i in progress(range(len(dataset))):
                    frame, truth = dataset.frame(i, color=color), dataset.truth(i, layers=layers > 1)
                    depth = np.nan_to_num(frame.depth / UNIT).clip(0, 65535).round().astype(np.uint16)
                    file.write(depth.tobytes() + self._stack(truth).tobytes())
                    if color:
                        if frame.color is None:
                            raise InputError(f"image {i} has no colour (no folder rgb or gray), which rgb in network.inputs asks for: take it out")
                        color_file.write(frame.color.tobytes())
                    self._offset.append(position)
                    self._shape.append(depth.shape)
                    self._K.append(frame.K)
                    self._truth.append((truth.centroid, truth.covariance, np.asarray(truth.visible_fraction)))
                    self.part.append(truth.part)
                    position += depth.size
        except OSError as error:
            raise InputError(f"cannot write {folder}: {error.strerror}; unpacked so far: {len(self)} of {len(dataset)} images") from error
        finally:
            if len(self) < len(dataset):
                remove_empty(folder)
        self._data = np.memmap(folder / "views.u16", np.uint16, "r")
        self._color = np.memmap(folder / "color.u8", np.uint8, "r") if color else None

    def __len__(self) -> int:
        return len(self._offset)

    def sample(self, i: int, *, min_visible: float) -> Sample:
        """View ``i``; parts below ``min_visible`` keep no label, so that rows of the tables are parts one can see."""
        shape, size, planes = self._shape[i], math.prod(self._shape[i]), 1 + self.layers
        start, color = self._offset[i], None
        packed = self._data[start * planes :][: size * planes].reshape(planes, *shape)
        depth, stack = packed[0].astype(np.float32) * np.float32(UNIT), packed[1:]
        depth[depth == 0] = np.nan
        if self._color is not None:
            color = self._color[start * 3 :][: size * 3].reshape(*shape, 3)
        centroid, covariance, visible = self._truth[i]
        keep = ~(visible < min_visible)  # unknown ones stay
        relabel = np.zeros(len(keep) + 1, np.uint16)
        relabel[1:][keep] = np.arange(1, keep.sum() + 1)
        return Sample(
            depth=depth,
            K=self._K[i],
            color=color,
            labels=relabel[stack[0]],
            centroid=centroid[keep],
            covariance=covariance[keep],
            hidden=relabel[np.moveaxis(stack[1:], 0, -1)] if self.layers > 1 else None,
            visible_fraction=visible[keep],
        )

    def _stack(self, truth: Truth) -> np.ndarray:
        """(layers, H, W) uint16."""
        if self.layers == 1:
            return truth.labels.astype(np.uint16)[None]
        stack = without_hidden(truth.layers)[: self.layers].astype(np.uint16)
        return np.pad(stack, [(0, self.layers - len(stack)), (0, 0), (0, 0)])


def unpack(dataset: BopDataset, out: Path, *, layers: int = 1, color: bool = False) -> PackedViews:
    """Views of a training run that writes to ``out``, unpacked for this process with a progress bar, until ``remove_unpacked``."""
    folder = out / "run" / f"cache{os.environ.get('LOCAL_RANK', '0')}"
    return PackedViews(dataset, folder, lambda views: tqdm(views, "unpacking", disable=not sys.stderr.isatty()), layers=layers, color=color)


def remove_unpacked(out: Path) -> None:
    """Of all processes of the run."""
    for folder in (out / "run").glob("cache*"):
        shutil.rmtree(folder, ignore_errors=True)


def remove_empty(folder: Path) -> None:
    """Remove ``folder``, and the run and model directories around it if nothing else lives in them."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in list(folder.parents)[:2]:
        try:
            parent.rmdir()
        except OSError:
            return


def augmented(whole: Sample, config: CropConfig, rng: np.random.Generator) -> tuple[Sample, np.ndarray]:
    """A random crop of a view with the noise of a sensor, rolled, mirrored and with patches erased; shift (3,) m of its xyz channels."""
    c = config
    sample = crop(whole, c.crop, rng, anywhere=c.anywhere)
    if c.noise:
        noisy = add_noise(np.ascontiguousarray(sample.depth), sample.K, rng, SensorParams().jittered(rng))
        sample = replace(sample, depth=noisy)
    # After the noise: the shadow of a stereo camera always falls on one side of its image.
    if c.turns:
        sample = turn(sample, int(rng.integers(4)))
    if c.flips and rng.random() < 0.5:
        sample = mirror(sample)
    if c.patches:
        sample = drop_patches(sample, rng, count=c.patches, largest=c.patch_size)
    sample = recolor(sample, rng, c.recolor)
    return sample, rng.uniform(-c.jitter, c.jitter, 3) * [1, 1, 0.3]


@dataclass(frozen=True, eq=False)
class ClusterNetCrops(Dataset):
    """Augmented training samples; the same (seed, epoch, index) gives the same sample.

    Items: ``images`` name → (C, h, w) float32, ``points`` (3, h, w) m, ``labels`` (h, w) int64, ``center`` (h, w) int64,
    ``features`` (N, 3|9) m and ``radius`` (N,) m of the parts, row = label − 1.
    """

    views: PackedViews
    inputs: tuple[str, ...]
    moments: bool
    config: DataConfig
    seed: int
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int) -> dict[str, object]:
        c = self.config
        rng = np.random.default_rng([self.seed, int(self.epoch), i])
        whole = self.views.sample(i, min_visible=c.min_visible)
        features = feature_table(whole.centroid, whole.covariance, moments=self.moments)
        radius = radius_table(features, whole.covariance)  # Eq. 2 looks at the whole view, not at the crop
        sample, shift = augmented(whole, c, rng)
        images, points = network_inputs(
            np.ascontiguousarray(sample.depth), sample.K, sample.color, self.inputs, shift=shift
        )
        center = center_candidates(sample.labels, sample.centroid, sample.K, fraction=c.center_fraction)
        features = feature_table(sample.centroid, sample.covariance, moments=self.moments)  # moved with the camera
        return {
            "images": {name: torch.from_numpy(image).permute(2, 0, 1) for name, image in images.items()},
            "points": torch.from_numpy(points).permute(2, 0, 1),
            "labels": torch.from_numpy(np.ascontiguousarray(sample.labels).astype(np.int64)),
            "center": torch.from_numpy(center.astype(np.int64)),
            "features": torch.from_numpy(features),
            "radius": torch.from_numpy(radius),
        }


def collate(samples: list[dict[str, object]]) -> dict[str, object]:
    """Stack samples; labels become unique over the batch (row of the concatenated tables + 1), so no padding is needed."""
    first = samples[0]
    offset, labels = 0, []
    for sample in samples:
        own = sample["labels"]
        labels.append(torch.where(own > 0, own + offset, 0))
        offset += sample["features"].shape[0]
    batch: dict[str, object] = {
        "images": {name: torch.stack([s["images"][name] for s in samples]).contiguous(memory_format=torch.channels_last) for name in first["images"]},
        "labels": torch.stack(labels),
    }
    for name in ("points", "center"):
        batch[name] = torch.stack([s[name] for s in samples])
    for name in ("features", "radius"):
        batch[name] = torch.cat([s[name] for s in samples])
    return batch
