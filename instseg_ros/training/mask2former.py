"""Training Mask2Former: the losses of `transformers` after Hungarian matching, validated by the runtime's segmenter."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..methods.mask2former.network import LossConfig, Mask2Former, NetworkConfig
from ..methods.mask2former.segmenter import Mask2FormerSegmenter, Thresholds
from .optimizer import OptimizerConfig, adam
from .segmenter_validation import Labelled, ValidatedModule

KINDS = {"classes": "loss_cross_entropy", "masks": "loss_mask", "dice": "loss_dice"}


class Mask2FormerModule(ValidatedModule):
    """Minimises the sum of the weighted losses of all outputs."""

    def __init__(
        self,
        network: NetworkConfig,
        loss: LossConfig,
        optimizer: OptimizerConfig,
        thresholds: Thresholds,
        validation: Labelled | None = None,
    ) -> None:
        super().__init__()
        self.network = Mask2Former(network, loss)
        self.optimizer, self.thresholds, self.validation = optimizer, thresholds, validation

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        losses = self.network.losses(self.network(batch["images"]), batch["masks"])
        total = sum(losses.values())
        size = len(batch["masks"])
        self.log("loss", total.detach(), prog_bar=True, batch_size=size)
        # Of the last output, which is the answer; those before it only carry gradients further down.
        self.log_dict({f"train/{name}": losses[key].detach() for name, key in KINDS.items()}, batch_size=size)
        return total

    def segmenter(self) -> Mask2FormerSegmenter:
        return Mask2FormerSegmenter(self.network, self.thresholds, self.device)

    def configure_optimizers(self) -> dict[str, Any]:
        return adam(self, self.optimizer)
