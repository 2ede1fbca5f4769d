"""Adam with a schedule, as the supervised methods train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam as in the paper (α 1e-4, constant) unless told otherwise.

    Attributes:
        learning_rate: peak. warmup: steps of linear rise. decay: last share of the steps, over which it falls linearly to 0.
        weight_decay: decoupled. clip: largest gradient norm, 0 = off.
    """

    learning_rate: float = 1e-4
    warmup: int = 0
    decay: float = 0.0
    weight_decay: float = 0.0
    clip: float = 0.0


def learning_rate_factor(step: int, *, steps: int, warmup: int, decay: float) -> float:
    """Linear warm-up, plateau, linear fall over the last share ``decay`` of ``steps``."""
    rise = (step + 1) / warmup if step < warmup else 1.0
    tail = steps * decay
    fall = (steps - step) / tail if tail and step > steps - tail else 1.0
    return max(min(rise, fall), 0.0)


def adam(module: pl.LightningModule, config: OptimizerConfig) -> dict[str, Any]:
    """What ``configure_optimizers`` returns: Adam with decoupled decay of all but biases and norms, and the schedule."""
    decayed = [p for p in module.parameters() if p.ndim > 1]
    plain = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.999))
    steps = int(module.trainer.estimated_stepping_batches)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps=steps, warmup=config.warmup, decay=config.decay)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
