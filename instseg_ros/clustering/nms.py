"""Non-maximum suppression of overlapping masks."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_overlap(masks: Tensor) -> Tensor:
    """Intersection over union of every pair: masks (P, N) bool → (P, P) float32, 0 for two empty masks."""
    values = masks.float()
    intersection = values @ values.T
    size = values.sum(1)
    union = size[:, None] + size[None] - intersection
    return intersection / union.clamp_min(1)


def suppress(masks: Tensor, score: Tensor, *, overlap: float) -> Tensor:
    """Keep the best mask, drop what overlaps it by more than ``overlap``, and so on with what is left.

    Args:
        masks: (P, N) bool. score: (P,), ties go to the earlier one. overlap: largest intersection over union allowed.

    Returns:
        (K,) int64 rows kept, best first.
    """
    order = torch.argsort(score, descending=True, stable=True)
    clash = (mask_overlap(masks[order]) > overlap).cpu()
    left = torch.ones(len(order), dtype=torch.bool)
    kept = []
    for i in range(len(order)):
        if left[i]:
            kept.append(i)
            left &= ~clash[i]
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]
