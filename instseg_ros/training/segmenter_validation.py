"""Validation with the runtime's own segmenter, so that AP is of what the robot will run."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from ..bop import Truth
from ..evaluation import Evaluation
from ..frame import Frame
from ..methods.segmenter import Segmenter


class Labelled(Protocol):
    """What validation needs of a dataset."""

    keys: list[Any]

    def frame(self, i: int) -> Frame: ...
    def truth(self, i: int) -> Truth: ...
    def __len__(self) -> int: ...


class ValidatedModule(pl.LightningModule):
    """A module that validates whole frames of ``validation``; batches hold indices into it."""

    validation: Labelled | None

    def segmenter(self) -> Segmenter:
        """The network as the robot runs it."""
        raise NotImplementedError

    def validation_step(self, batch: Tensor, index: int) -> None:
        segmenter = self.segmenter()
        for i in batch.tolist():
            frame, truth = self.validation.frame(i), self.validation.truth(i)
            start = time.perf_counter()
            with torch.autocast(self.device.type, enabled=False):  # the robot answers in full precision
                instances = segmenter.segment(frame)
            self.evaluation.add(truth, frame, instances, time.perf_counter() - start, key=self.validation.keys[i])

    def on_validation_epoch_start(self) -> None:
        self.evaluation = Evaluation()

    def on_validation_epoch_end(self) -> None:
        result = self.evaluation.result(intervals=False)
        for name in ("AP", "AP50", "AR_heavy", "mIoU"):
            value = result.get(name)
            known = value is not None and math.isfinite(value)
            self.log(f"val/{name}", float(value) if known else 0.0, prog_bar=name in ("AP", "AP50"), sync_dist=True)


def validation_loader(dataset: Labelled, images: int) -> DataLoader:
    """Indices of ``images`` images spread over the whole split: BOP sets are ordered by scene, and scenes by part."""
    chosen = torch.linspace(0, len(dataset) - 1, min(images, len(dataset))).round().long().unique()
    return DataLoader(TensorDataset(chosen), 1, collate_fn=lambda rows: torch.stack([row[0] for row in rows]))
