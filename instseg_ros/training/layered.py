"""The losses of Layered Embeddings (Liu et al., section 3) and its LightningModule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.layered.network import LayeredConfig, LayeredEmbeddings, Prediction
from .optimizer import OptimizerConfig, adam


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and margins.

    Attributes:
        variance, distance: α and β. regularization: γ, 1 in the paper, 0.01 in its code (paper-facts).
        semantic: weight of the sum of a cross-entropy a layer.
        variance_margin, distance_margin: d_var and d_dst.
    """

    variance: float = 1.0
    distance: float = 1.0
    regularization: float = 0.01
    semantic: float = 1.0
    variance_margin: float = 0.5
    distance_margin: float = 1.5


def embedding_losses(
    embedding: Tensor, labels: Tensor, image: Tensor, kind: Tensor, *, variance_margin: float = 0.5, distance_margin: float = 1.5
) -> dict[str, Tensor]:
    """l_var, l_dst and l_reg (Eq. 1 to 3) over all layers jointly, norms L1; means over the images of the batch.

    Args:
        embedding: (B, L, C, h, w).
        labels: (B, L, h, w) int64, 0 = none, k = row k − 1 of ``image`` and ``kind``; each row has a cell.
        image: (N,) int64, the image that an instance is in. kind: (N,) int64, its class.

    Returns:
        scalars variance, distance, regularization; 0 where there is no instance.
    """
    cells = labels > 0
    row = labels[cells] - 1
    values = embedding.permute(0, 1, 3, 4, 2)[cells]
    n = len(image)
    if n == 0:
        return dict.fromkeys(("variance", "distance", "regularization"), values.sum())
    count = torch.bincount(row, minlength=n).to(values.dtype)
    mean = torch.zeros(n, values.shape[1], dtype=values.dtype, device=values.device).index_add(0, row, values) / count[:, None]
    pull = F.relu((values - mean[row]).abs().sum(1) - variance_margin).square()
    pull = torch.zeros_like(count).index_add(0, row, pull) / count
    images = embedding.shape[0]
    share = 1 / (torch.bincount(image, minlength=images)[image] * images)  # mean over an image's instances, then over images
    same = (image[:, None] == image) & (kind[:, None] == kind)
    others = same.sum(1) - 1
    same.fill_diagonal_(False)
    first, second = torch.nonzero(same, as_tuple=True)
    push = F.relu(2 * distance_margin - (mean[first] - mean[second]).abs().sum(1)).square()
    return {
        "variance": (share * pull).sum(),
        "distance": (push / ((others[first] + 1) * others[first] * images)).sum(),
        "regularization": (share * mean.abs().sum(1)).sum(),
    }


def semantic_loss(semantic: Tensor, labels: Tensor, kind: Tensor) -> Tensor:
    """Sum over the layers of the mean cross-entropy (the paper's two, one a layer).

    Args:
        semantic: (B, L, 1 + K, h, w) logits. labels: as in :func:`embedding_losses`. kind: (N,) int64 in 1…K.
    """
    target = torch.cat([kind.new_zeros(1), kind])[labels]
    return F.cross_entropy(semantic.flatten(0, 1), target.flatten(0, 1)) * semantic.shape[1]


def layered_losses(prediction: Prediction, labels: Tensor, image: Tensor, kind: Tensor, config: LossConfig) -> dict[str, Tensor]:
    """The unweighted losses: semantic, variance, distance, regularization."""
    margins = {"variance_margin": config.variance_margin, "distance_margin": config.distance_margin}
    return {
        "semantic": semantic_loss(prediction.semantic, labels, kind),
        **embedding_losses(prediction.embedding, labels, image, kind, **margins),
    }


class LayeredModule(pl.LightningModule):
    """Optimises α l_var + β l_dst + γ l_reg and the cross-entropies."""

    def __init__(self, network: LayeredConfig, loss: LossConfig, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.network = LayeredEmbeddings(network).to(memory_format=torch.channels_last)
        self.loss, self.optimizer = loss, optimizer

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        prediction = self.network(batch["images"])
        losses = layered_losses(prediction, batch["labels"], batch["image"], batch["kind"], self.loss)
        total = sum(getattr(self.loss, name) * value for name, value in losses.items())
        size = batch["labels"].shape[0]
        self.log("loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=size)
        return total

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.optimizer)
