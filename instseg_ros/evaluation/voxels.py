"""The toy experiment of MTML (Lahoud et al., section 4.1): 3-D AP by class, beside labels and connected components as instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from ..clustering.voxel_graph import neighbour_pairs, split_components
from ..methods.mtml.proposals import majority_class
from ..synthesis.voxel_samples import Voxels, noisy_classes
from ..synthesis.voxels import CLASSES
from .average_precision_3d import Scene3D, class_table

if TYPE_CHECKING:
    from ..methods.mtml.voxel_segmenter import VoxelSegmenter

Answer = tuple[np.ndarray, np.ndarray]
"""Label (N,) int64 of every voxel, −1 = none, and score (K,) of every label."""
Table = dict[str, dict[str, float]]
"""AP, AP50 and AP25 by class name, and of ``mean`` over the classes."""


def evaluate_voxels(segmenter: VoxelSegmenter, scenes: Sequence[Voxels], *, noise: float = 0.0, seed: int = 0) -> Table:
    """AP, AP50 and AP25 of a trained network: by class name, and ``mean`` over the classes.

    Args:
        noise: share of the blocks whose class is wrong in the input; the classes of the answer are taken from the same input.
    """

    def answer(scene: Voxels, classes: np.ndarray) -> Answer:
        features = F.one_hot(torch.from_numpy(classes), len(CLASSES)).float()
        labels, score = segmenter.segment(features, torch.from_numpy(scene.voxels), scene.size)
        return labels.cpu().numpy(), score.cpu().numpy()

    return _table(answer, scenes, noise, seed)


def evaluate_components(scenes: Sequence[Voxels], *, noise: float = 0.0, seed: int = 0) -> Table:
    """The same of the baseline: connected components of the (noisy) semantic labels are the instances."""

    def answer(scene: Voxels, classes: np.ndarray) -> Answer:
        labels = split_components(classes, neighbour_pairs(scene.voxels))
        return labels, np.ones(int(labels.max(initial=-1)) + 1)

    return _table(answer, scenes, noise, seed)


def evaluate_semantics(scenes: Sequence[Voxels], *, noise: float = 0.0, seed: int = 0) -> Table:
    """The same of the baseline: each semantic label is one instance."""

    def answer(scene: Voxels, classes: np.ndarray) -> Answer:
        return np.unique(classes, return_inverse=True)[1].reshape(-1), np.ones(len(np.unique(classes)))

    return _table(answer, scenes, noise, seed)


def _table(
    answer: Callable[[Voxels, np.ndarray], Answer], scenes: Sequence[Voxels], noise: float, seed: int
) -> Table:
    scored = []
    for number, scene in enumerate(scenes):
        classes = noisy_classes(scene.classes, scene.voxels, len(CLASSES), noise, np.random.default_rng([seed, number]))
        labels, score = answer(scene, classes)
        found = majority_class(torch.from_numpy(labels), torch.from_numpy(classes), len(score))
        masks = labels[None] == np.arange(len(score))[:, None]
        scored.append(Scene3D(scene.instance + 1, scene.object_class + 1, masks, found + 1, score))
    rows = class_table(scored, range(1, len(CLASSES) + 1))
    table = {name: rows[kind] for kind, name in enumerate(CLASSES, 1)}
    return {**table, "mean": {key: float(np.nanmean([row[key] for row in table.values()])) for key in ("AP", "AP50", "AP25")}}
