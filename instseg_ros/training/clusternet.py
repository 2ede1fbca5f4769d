"""ClusterNet's losses (Shao et al., section III-D) and its LightningModule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..bop import BopDataset
from ..methods.clusternet.network import ClusterNet, ClusterNetConfig, Prediction
from ..methods.clusternet.segmenter import ClusterNetSegmenter, Thresholds
from .norm import norm
from .optimizer import OptimizerConfig, adam
from .segmenter_validation import ValidatedModule


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of Eq. 3; the defaults are the paper's (section IV-D).

    Attributes:
        semantic, center: λs (λm in section IV-D) and λcen. pixel: λp. feature, radius: λxi and λB inside Lp.
        variance, violation: λvar and λvio until ``boost_epoch``, ``boosted`` from then on.
        violation_range: λv, in units of the ground-truth radius B.
        balance: 0 weighs every part pixel alike, as in the paper; 1 every part; in between, hidden parts with few visible
            pixels count more than their pixels do.
    """

    semantic: float = 1.0
    center: float = 1.0
    pixel: float = 100.0
    feature: float = 1.0
    radius: float = 10.0
    variance: float = 1.0
    violation: float = 1.0
    boosted: float = 100.0
    boost_epoch: int = 5
    violation_range: float = 0.2
    balance: float = 0.0


def clusternet_losses(
    prediction: Prediction,
    labels: Tensor,
    center: Tensor,
    points: Tensor,
    features: Tensor,
    radius: Tensor,
    *,
    violation_range: float = 0.2,
    balance: float = 0.0,
) -> dict[str, Tensor]:
    """The five losses of Eq. 3, unweighted. All but ``semantic`` look at ground-truth part pixels only.

    Lp, Lvio and Lcen are means over these pixels and Lvar is a mean over parts; the paper prints sums, which would tie the
    weights to image size and part count. Norms are Euclidean, in metres.

    Args:
        labels: (B, H, W) int64, 0 = background, k = row k − 1 of ``features``.
        center: (B, H, W) int64, 1 = centroid candidate. points: (B, 3, H, W) m.
        features: (N, D) m, ξ of the parts. radius: (N,) m, B of the parts.
        violation_range, balance: see :class:`LossConfig`.

    Returns:
        scalars semantic, center, feature, radius, variance, violation.
    """
    part = labels > 0
    row = labels[part] - 1
    xi_hat = (prediction.votes + points).permute(0, 2, 3, 1)[part]
    if prediction.moments is not None:
        xi_hat = torch.cat([xi_hat, prediction.moments.permute(0, 2, 3, 1)[part]], 1)
    exact = features.dtype  # millimetres in metres: half precision would round them away
    xi_hat = xi_hat.to(exact)
    losses = {"semantic": F.cross_entropy(prediction.mask.to(exact), part.long())}
    if row.numel() == 0:
        zero = xi_hat.sum()
        return losses | {name: zero for name in ("center", "feature", "radius", "variance", "violation")}
    error = norm(xi_hat - features[row])
    count = torch.bincount(row, minlength=len(features))
    seen = count > 0
    weight = count.clamp_min(1).to(exact).pow(-balance)[row]
    weight = weight / weight.sum()
    mean = torch.zeros_like(features).index_add(0, row, xi_hat) / count.clamp_min(1)[:, None]
    spread = torch.zeros_like(radius).index_add(0, row, norm(xi_hat - mean[row])) / count.clamp_min(1)
    outside = error > violation_range * radius[row]
    return losses | {
        "center": F.cross_entropy(prediction.center.permute(0, 2, 3, 1)[part].to(exact), center[part]),
        "feature": (weight * error).sum(),
        "radius": (weight * (prediction.radius[:, 0][part].to(exact) - radius[row]).abs()).sum(),
        "variance": spread[seen].mean(),
        "violation": (weight * error * outside).sum(),
    }


def total_loss(losses: dict[str, Tensor], config: LossConfig, epoch: int) -> Tensor:
    """Eq. 3 with the schedule of section IV-D."""
    boosted = epoch >= config.boost_epoch
    return (
        config.semantic * losses["semantic"]
        + config.center * losses["center"]
        + config.pixel * (config.feature * losses["feature"] + config.radius * losses["radius"])
        + (config.boosted if boosted else config.variance) * losses["variance"]
        + (config.boosted if boosted else config.violation) * losses["violation"]
    )


class ClusterNetModule(ValidatedModule):
    """Optimises Eq. 3; validates with the runtime's own segmenter, so AP is of what the robot will run."""

    def __init__(
        self,
        network: ClusterNetConfig,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        thresholds: Thresholds,
        validation: BopDataset | None = None,
    ) -> None:
        super().__init__()
        self.network = ClusterNet(network).to(memory_format=torch.channels_last)
        self.loss, self.optimizer, self.thresholds, self.validation = loss, optimizer, thresholds, validation

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        prediction = self.network(batch["images"])
        losses = clusternet_losses(
            prediction, batch["labels"], batch["center"], batch["points"], batch["features"], batch["radius"],
            violation_range=self.loss.violation_range, balance=self.loss.balance,
        )
        total = total_loss(losses, self.loss, self.current_epoch)
        size = batch["labels"].shape[0]
        self.log("loss", total.detach(), prog_bar=True, batch_size=size)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, batch_size=size)
        return total

    def segmenter(self) -> ClusterNetSegmenter:
        return ClusterNetSegmenter(self.network, self.thresholds, self.device)

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.optimizer)
