"""What the queries say → one label image: the panoptic inference of MaskFormer (Cheng et al., 2021, section 3.4), things only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Resolved(NamedTuple):
    """N instances.

    Attributes:
        labels: (H, W) int64, 0 = background, 1…N in the order of falling score.
        score: (N,) probability of being a part times the mean probability of the mask's pixels (Mask2Former, section 4.1).
        query: (N,) int64, which query each instance is of.
    """

    labels: Tensor
    score: Tensor
    query: Tensor


def resolve(part: Tensor, masks: Tensor, *, part_threshold: float, mask_threshold: float, overlap: float, min_pixels: int) -> Resolved:
    """Give every pixel to the query that claims it most.

    Args:
        part: (Q,) probability that the query is a part. masks: (Q, H, W) probability of its pixels.
        part_threshold: queries below it say nothing. mask_threshold: pixels below it are nobody's.
        overlap: an instance goes that keeps a smaller share of its own mask when others claim the rest: it is a double.
        min_pixels: smaller instances go.
    """
    chosen = torch.nonzero(part > part_threshold)[:, 0]
    masks = masks[chosen]
    inside = masks > mask_threshold
    area = inside.flatten(1).sum(1)
    score = part[chosen] * (masks * inside).flatten(1).sum(1) / area.clamp_min(1)
    order = torch.argsort(score, descending=True, stable=True)
    chosen, masks, inside, area, score = (x[order] for x in (chosen, masks, inside, area, score))
    labels = torch.zeros(masks.shape[1:], dtype=torch.int64, device=masks.device)
    if not len(chosen):
        return Resolved(labels, score, chosen)
    claim = part[chosen, None, None] * masks * inside
    best, winner = claim.max(0)
    owner = torch.where(best > 0, winner + 1, 0)
    kept = torch.bincount(owner.flatten(), minlength=len(chosen) + 1)[1:]
    keep = (kept >= min_pixels) & (kept >= overlap * area) & (kept > 0)
    number = torch.zeros(len(chosen) + 1, dtype=torch.int64, device=masks.device)
    number[1:][keep] = torch.arange(1, int(keep.sum()) + 1, device=masks.device)
    return Resolved(number[owner], score[keep], chosen[keep])
