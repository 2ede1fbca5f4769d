"""MTML's losses (Lahoud et al., section 3.2) and its LightningModule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from ..methods.mtml.network import MTML, MTMLConfig, Prediction
from .norm import norm
from .optimizer import OptimizerConfig, adam


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of Eq. 1 and 6. Where the paper names none, those of its public configuration (paper-facts).

    Attributes:
        variance, distance, regularization: γ_var, γ_dist, γ_reg. variance_margin, distance_margin: δ_var and δ_dist.
        embedding, direction: α_FE and α_dir; direction 0 is the paper's "FE only".
        part: weight of the cross-entropy of part against background, where the network tells them apart (not in the paper).
    """

    variance: float = 1.0
    distance: float = 1.0
    regularization: float = 0.001
    variance_margin: float = 0.5
    distance_margin: float = 1.5
    embedding: float = 0.5
    direction: float = 1.0
    part: float = 1.0


def embedding_losses(
    x: Tensor, instance: Tensor, count: int, *, variance_margin: float = 0.5, distance_margin: float = 1.5
) -> dict[str, Tensor]:
    """Eq. 2–4 for the C instances of one scene, all of them pushed.

    Args:
        x: (N, E). instance: (N,) int64 in 0…C−1. count: C.

    Returns:
        scalars variance, distance, regularization.
    """
    size = torch.bincount(instance, minlength=count).clamp_min(1).to(x.dtype)
    mean = torch.zeros(count, x.shape[1], dtype=x.dtype, device=x.device).index_add(0, instance, x) / size[:, None]
    away = F.relu(norm(mean[instance] - x) - variance_margin).square()
    variance = torch.zeros_like(size).index_add(0, instance, away) / size
    gap = F.relu(2 * distance_margin - norm(mean[:, None] - mean[None])).square()
    others = ~torch.eye(count, dtype=torch.bool, device=x.device)
    return {
        "variance": variance.mean(),
        "distance": gap[others].sum() / max(count * (count - 1), 1),
        "regularization": norm(mean).mean(),
    }


def direction_loss(v: Tensor, points: Tensor, centre: Tensor, instance: Tensor) -> Tensor:
    """Eq. 5 for one scene, towards the centre: as printed, v_GT points away from it, against the text and figure 3.

    Args:
        v: (N, 3) unit vectors. points: (N, 3) voxel centres X_i. centre: (C, 3) X_c. instance: (N,) int64.
    """
    wanted = F.normalize(centre[instance] - points, dim=1, eps=1e-6)
    size = torch.bincount(instance, minlength=len(centre)).clamp_min(1).to(v.dtype)
    cosine = torch.zeros_like(size).index_add(0, instance, (v * wanted).sum(1))
    return -(cosine / size).mean()


def scene_losses(
    prediction: Prediction, points: Tensor, centre: Tensor, instance: Tensor, config: LossConfig
) -> dict[str, Tensor]:
    """The unweighted losses of one scene: variance, distance, regularization, direction, and part where that is predicted.

    Args:
        prediction: of its N voxels. points: (N, 3) voxel centres. centre: (C, 3). instance: (N,) int64 in 0…C−1, −1 = background,
            which only ``part`` looks at.
    """
    losses = {}
    if prediction.part is not None:
        losses["part"] = F.binary_cross_entropy_with_logits(prediction.part.float(), (instance >= 0).float())
    if not len(centre):
        nothing = 0.0 * prediction.embedding.float().sum()
        return {**dict.fromkeys(("variance", "distance", "regularization", "direction"), nothing), **losses}
    use = instance >= 0
    x, v, instance = prediction.embedding[use].float(), prediction.direction[use], instance[use]
    margins = {"variance_margin": config.variance_margin, "distance_margin": config.distance_margin}
    return {
        **embedding_losses(x, instance, len(centre), **margins),
        "direction": direction_loss(v, points[use], centre, instance),
        **losses,
    }


def joint_loss(losses: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Eq. 6 with Eq. 1, and the weighted ``part`` where there is one."""
    embedding = sum(getattr(config, name) * losses[name] for name in ("variance", "distance", "regularization"))
    joint = config.embedding * embedding + config.direction * losses["direction"]
    return joint + config.part * losses["part"] if "part" in losses else joint


class MTMLModule(pl.LightningModule):
    """Optimises Eq. 6, the mean over the scenes of a batch."""

    def __init__(self, network: MTMLConfig, loss: LossConfig, optimizer: OptimizerConfig) -> None:
        super().__init__()
        self.network = MTML(network)
        self.loss, self.optimizer = loss, optimizer

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        prediction = self.network(batch["grid"], batch["voxels"])
        sizes = [len(instance) for instance in batch["instance"]]
        points = (batch["voxels"][:, 1:] + 0.5).split(sizes)
        rows = torch.arange(len(batch["voxels"]), device=batch["voxels"].device).split(sizes)
        each = [
            scene_losses(prediction.select(row), p, centre, instance, self.loss)
            for row, p, centre, instance in zip(rows, points, batch["centre"], batch["instance"])
        ]
        losses = {name: torch.stack([scene[name] for scene in each]).mean() for name in each[0]}
        total = joint_loss(losses, self.loss)
        self.log("loss", total.detach(), prog_bar=True, batch_size=len(sizes))
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=len(sizes))
        return total

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.optimizer)
