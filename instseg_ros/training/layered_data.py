"""Amodal stacks → batches for Layered Embeddings: shapes drawn as they are needed, or a dataset in BOP format, whole or in crops."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..bop import BopDataset
from ..errors import InputError
from ..methods.clusternet.inputs import network_inputs
from ..methods.layered.network import STRIDE
from ..methods.layered.stack import without_hidden
from ..methods.yaml_values import lists_to_tuples
from ..synthesis.shapes import SHAPES, ShapesRecipe
from .data import CropConfig, PackedViews, augmented


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on.

    Attributes:
        images: in an epoch (1000 in the paper). instances: shapes of each class, drawn from this list for every image.
        lessons: the same for the first ``lesson_epochs`` epochs, for those after them, and so on, before ``instances`` (not in the
            paper; few shapes teach random weights what a shape is sooner than crowded images do).
        classes: of the shapes.
    """

    images: int = 1000
    instances: tuple[int, ...] = (6,)
    lessons: tuple[tuple[int, ...], ...] = ()
    lesson_epochs: int = 1
    classes: tuple[str, ...] = tuple(SHAPES)

    def __post_init__(self) -> None:
        lists_to_tuples(self)
        if self.images < 1:
            raise InputError(f"data.images must be positive, got {self.images}")
        if self.lesson_epochs < 1:
            raise InputError(f"data.lesson_epochs must be positive, got {self.lesson_epochs}")
        for numbers in (self.instances, *self.lessons):
            if not numbers:
                raise InputError("data.instances must be one or more numbers of shapes of each class, got none")
            for number in numbers:
                ShapesRecipe(1, number, self.classes)

    def instances_at(self, epoch: int) -> tuple[int, ...]:
        """What the numbers of an epoch are drawn from."""
        lesson = epoch // self.lesson_epochs
        return self.lessons[lesson] if lesson < len(self.lessons) else self.instances


def layer_targets(stack: np.ndarray, kind: np.ndarray, layers: int, *, stride: int = STRIDE) -> tuple[np.ndarray, np.ndarray]:
    """What the network is to say of an image.

    Instances of which no cell shows are left out, as the image tells nothing of them: what lies behind them moves up.

    Args:
        stack: (D, H, W) amodal stack, layer k = the instance that is k-th from the front, 1…N, 0 = none.
        kind: (N,) class of each instance, from 1.
        layers: L. stride: pixels a cell; a cell is what the pixel at its middle is.

    Returns:
        labels (L, H / stride, W / stride) int64, 0 = none, 1…n; kind (n,) int64 of the instances that show.
    """
    cells = without_hidden(stack[:, stride // 2 :: stride, stride // 2 :: stride].astype(np.int64))
    rows = np.setdiff1d(cells[0], 0)
    relabel = np.zeros(len(kind) + 1, np.int64)
    relabel[rows] = np.arange(1, len(rows) + 1)
    labels = np.zeros((layers, *cells.shape[1:]), np.int64)
    labels[: len(cells)] = relabel[cells[:layers]]
    return labels, np.asarray(kind, np.int64)[rows - 1]


@dataclass(frozen=True, eq=False)
class LayeredShapes(Dataset):
    """Shapes drawn on demand; the same (seed, epoch, index) gives the same image, no two alike.

    Items: ``images`` name → (C, H, W) float32, ``labels`` (L, h, w) int64, ``kind`` (n,) int64.
    """

    config: DataConfig
    inputs: tuple[str, ...]
    layers: int
    seed: int
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return self.config.images

    def __getitem__(self, i: int) -> dict[str, object]:
        c = self.config
        epoch = int(self.epoch)
        number, choice = epoch * c.images + i, c.instances_at(epoch)
        count = choice[int(np.random.default_rng([self.seed, number]).integers(len(choice)))]
        shapes = ShapesRecipe(1, count, c.classes, seed=self.seed).draw(number)
        kind = np.array([c.classes.index(list(SHAPES)[k - 1]) + 1 for k in shapes.object_id])
        return _sample(shapes.depth, shapes.K, shapes.color, self.inputs, shapes.layers, kind, self.layers)


@dataclass(frozen=True, eq=False)
class LayeredViews(Dataset):
    """The views of a dataset, whole; items as of :class:`LayeredShapes`.

    Attributes:
        classes: names of the parts, or one name for them all.
    """

    dataset: BopDataset
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    layers: int

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> dict[str, object]:
        frame, truth = self.dataset.frame(i, color="rgb" in self.inputs), self.dataset.truth(i, layers=True)
        kind = _kinds(truth.part, self.classes)
        return _sample(frame.depth, frame.K, frame.color, self.inputs, truth.layers, kind, self.layers)


@dataclass(frozen=True, eq=False)
class LayeredCrops(Dataset):
    """Augmented crops; the same (seed, epoch, index) gives the same crop. Items as of :class:`LayeredShapes`.

    Attributes:
        views: packed with as many layers as the network has.
        classes: as of :class:`LayeredViews`.
    """

    views: PackedViews
    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    config: CropConfig
    seed: int
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int) -> dict[str, object]:
        rng = np.random.default_rng([self.seed, int(self.epoch), i])
        whole = self.views.sample(i, min_visible=0.0)
        sample, shift = augmented(whole, self.config, rng)
        stack = np.concatenate([sample.labels[None], *([] if sample.hidden is None else [np.moveaxis(sample.hidden, -1, 0)])])
        kind = _kinds(self.views.part[i], self.classes)
        depth = np.ascontiguousarray(sample.depth)
        return _sample(depth, sample.K, sample.color, self.inputs, stack, kind, self.views.layers, shift=shift)


def _kinds(parts: list[str], classes: tuple[str, ...]) -> np.ndarray:
    return np.array([classes.index(name) + 1 if len(classes) > 1 else 1 for name in parts], np.int64)


def _sample(
    depth: np.ndarray, K: np.ndarray, color: np.ndarray | None, inputs: tuple[str, ...], stack: np.ndarray, kind: np.ndarray, layers: int,
    *, shift: np.ndarray | None = None,
) -> dict[str, object]:  # fmt: skip
    images, _ = network_inputs(depth, K, color, inputs, shift=shift)
    labels, kind = layer_targets(stack, kind, layers)
    return {
        "images": {name: torch.from_numpy(image).permute(2, 0, 1) for name, image in images.items()},
        "labels": torch.from_numpy(labels),
        "kind": torch.from_numpy(kind),
    }


def collate(samples: list[dict[str, object]]) -> dict[str, object]:
    """Stack samples; labels become unique over the batch (row of ``kind`` + 1), and ``image`` (N,) says where each row is from."""
    count = [len(s["kind"]) for s in samples]
    offset = np.cumsum([0, *count])
    first = samples[0]["images"]
    return {
        "images": {name: torch.stack([s["images"][name] for s in samples]).contiguous(memory_format=torch.channels_last) for name in first},
        "labels": torch.stack([torch.where(s["labels"] > 0, s["labels"] + int(start), 0) for s, start in zip(samples, offset)]),
        "kind": torch.cat([s["kind"] for s in samples]),
        "image": torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(count)),
    }
