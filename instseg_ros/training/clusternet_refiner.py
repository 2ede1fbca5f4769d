"""Teach the refiner of a trained ClusterNet what the outlines of its clusters should have been."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError
from ..frame import Frame
from ..methods.clusternet.refinement import WINDOW, cut, refiner_inputs, windows
from ..methods.clusternet.segmenter import ClusterNetSegmenter
from .augment import Sample
from .clusternet_scorer import main_pieces
from .config import SupervisedTrainerConfig
from .data import DataConfig, PackedViews, augmented, check_crop
from .optimizer import OptimizerConfig, adam
from .supervised import CountEpochs, check_run, fit, has_run

FOUND = 0.2
"""IoU from which a cluster is the beginning of a part."""
HIDDEN = 0.25
"""Visible fraction of a part up to which it is always looked at."""
ENTROPY_AREA = 200
"""Pixels added to a part's area where the cross-entropy is divided by it."""


@dataclass(frozen=True, kw_only=True)
class RefinerTraining(OptimizerConfig):
    """How the refiner is taught, after the network.

    Attributes:
        epochs: crops of every view; 0 = the refiner stays as it is. batch_size: crops a step.
        crop: side of a crop in pixels, a multiple of 32: several whole parts with what lies around them.
        balance: parts are looked at with chance (¼ over the visible fraction) ^ balance, at most 1: 0 = all parts, above it more of
            the hidden ones and more crops in the same time.
    """

    learning_rate: float = 2e-3
    warmup: int = 50
    decay: float = 0.7
    weight_decay: float = 1e-4
    clip: float = 5.0
    epochs: int = 4
    batch_size: int = 4
    crop: int = 384
    balance: float = 0.0

    def __post_init__(self) -> None:
        check_crop("refiner.crop", self.crop)
        if self.balance < 0:
            raise InputError(f"refiner.balance must be at least 0, got {self.balance}")
        if self.epochs < 0 or self.batch_size < 1:
            raise InputError(f"refiner.epochs must be at least 0 and batch_size at least 1, got {self.epochs} and {self.batch_size}")


@dataclass(frozen=True, eq=False)
class Crops(Dataset):
    """Augmented crops as they are; the same (seed, epoch, index) gives the same one."""

    views: PackedViews
    config: DataConfig
    seed: int
    epoch: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64).share_memory_())

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, i: int) -> Sample:
        rng = np.random.default_rng([self.seed, int(self.epoch), i])
        return augmented(self.views.sample(i, min_visible=self.config.min_visible), self.config, rng)[0]


class RefinerModule(pl.LightningModule):
    """Optimises the refiner on the clusters of ``segmenter``, whose other weights stay."""

    def __init__(self, segmenter: ClusterNetSegmenter, config: RefinerTraining) -> None:
        super().__init__()
        self.segmenter, self.config = segmenter, config
        self.refiner = segmenter.network.refiner.requires_grad_(True).train()

    def on_fit_start(self) -> None:
        self.segmenter.device = self.device
        self.segmenter.network.to(self.device)

    def transfer_batch_to_device(self, batch: list[Sample], device: torch.device, dataloader_idx: int) -> list[Sample]:
        return batch  # numpy; the segmenter takes it where it runs

    def training_step(self, samples: list[Sample], index: int) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):  # clusters are found in full precision
            inputs, logits, truth = (torch.cat(rows) for rows in zip(*(refiner_samples(self.segmenter, s, balance=self.config.balance) for s in samples)))
        if not len(inputs):
            return sum(p.sum() for p in self.refiner.parameters()) * 0
        refined = logits + self.refiner(inputs)
        loss = outline_loss(refined, truth)
        self.log("loss", loss.detach(), prog_bar=True, batch_size=len(inputs))
        self.log("train/unrefined", outline_loss(logits, truth), batch_size=len(inputs))
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.config)


def fit_refiner(
    segmenter: ClusterNetSegmenter, views: PackedViews, config: RefinerTraining, data: DataConfig, out: Path, run: SupervisedTrainerConfig,
    *, seed: int, resume: bool, limit_steps: int | None = None,
) -> None:  # fmt: skip
    """Fit the refiner of ``segmenter``'s network to its own clusters in augmented crops of ``views``.

    Args:
        data: how views become crops, but for their size. out: the run's folder, for the log and the checkpoint.
        run: trainer of the network, of which precision, workers, ema and checkpoint_every are taken.
        resume: go on from the checkpoint in ``out`` if there is one.
    """
    crops = Crops(views, replace(data, crop=config.crop), seed)
    loader = DataLoader(
        crops, config.batch_size, shuffle=True, collate_fn=list, num_workers=run.workers, drop_last=len(crops) >= config.batch_size,
        persistent_workers=run.workers > 0, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    module = RefinerModule(segmenter, config)
    fit(
        module, loader, out, replace(run, epochs=config.epochs), clip=config.clip, limit_steps=limit_steps,
        checkpoint=check_run(out, resume=True) if resume and has_run(out) else None, callbacks=[CountEpochs(crops)],
    )  # fmt: skip
    module.refiner.ready.fill_(1)
    module.refiner.requires_grad_(False).eval()


def refiner_samples(segmenter: ClusterNetSegmenter, sample: Sample, *, balance: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs and logits, as of ``refiner_inputs``, and true masks of the K clusters in ``sample`` that are the best piece of a part.

    Args:
        balance: see :class:`RefinerTraining`; which parts are left out is random.
    """
    color = None if sample.color is None else np.ascontiguousarray(sample.color)
    frame = Frame(np.ascontiguousarray(sample.depth), sample.K, color)
    look = segmenter.first_look(frame)
    if look is None:
        none = torch.zeros(0, WINDOW, WINDOW, device=segmenter.device)
        return none[:, None].expand(0, segmenter.network.refiner.channels, WINDOW, WINDOW), none, none
    evidence = look.evidence
    with torch.no_grad():
        part = torch.from_numpy(main_parts(evidence.labels.cpu().numpy(), sample.labels, len(evidence.centroid), len(sample.centroid)))
        corners = windows(evidence.labels, len(part))
        inputs, logits = refiner_inputs(evidence, corners)
        truth = cut(torch.from_numpy(np.ascontiguousarray(sample.labels).astype(np.int64)).to(corners), corners)
        truth = (truth == part.to(truth)[:, None, None]).float()
    use = part > 0
    if sample.visible_fraction is not None:
        visible = torch.from_numpy(np.append(np.nan, sample.visible_fraction))[part]  # the row in front is that of no part
        use &= torch.rand(len(part)) < chance_of_a_look(visible, balance)
    return inputs[use], logits[use], truth[use]


def chance_of_a_look(visible_fraction: Tensor, balance: float) -> Tensor:
    """See :class:`RefinerTraining`; 1 where the fraction is not known."""
    return (HIDDEN / visible_fraction).clamp_max(1).pow(balance).nan_to_num(1)


def main_parts(labels: np.ndarray, truth: np.ndarray, count: int, parts: int) -> np.ndarray:
    """(count,) int64: the part 1…parts that each cluster is the best piece of, 0 = none.

    Args:
        labels: (H, W) of clusters, 0 = background, 1…count. truth: (H, W) of parts, 0 = background, 1…parts.
    """
    iou = main_pieces(labels, truth, count, parts)
    return np.pad(np.where(iou >= FOUND, iou, 0), [(0, 0), (1, 0)]).argmax(1)  # the column in front is that of no part


def outline_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Soft Jaccard loss (1 − soft IoU) plus cross-entropy over the part's area, mean over windows (K, h, w): parts count alike, whatever their size."""
    area = truth.flatten(1).sum(1)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten(1).sum(1) / (area + ENTROPY_AREA)
    chance = logits.sigmoid()
    both = (chance * truth).flatten(1).sum(1)
    return (entropy + 1 - both / (chance.flatten(1).sum(1) + area - both).clamp_min(1)).mean()
