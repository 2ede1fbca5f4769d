"""Cells shared out among instances by probability, over all layers together (not in the paper).

The paper gives each cell of each layer to the nearest mode of its most probable class. Deep in a pile that loses what the network
knows: that an instance lies here, but not whether as the third or the fourth from the front. Its chances in all layers add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

REACH = 1.5
"""Bandwidths from a mode at which an embedding belongs to it as probably as to no instance."""
MODE_LAYERS = 2
"""Layers that modes are sought in: what lies deeper is too vague to tell where an instance is, and joins those found."""
LEAST = 0.02
"""Cells of a layer that are of a class less probably are left out."""
ROUNDS = 12
"""Of the search for the best mask; it mostly ends after five."""


class SoftInstances(NamedTuple):
    """Instances 1…n around modes, in the order of the modes, class by class.

    Attributes:
        stack: (L, h, w) int64, 0 = none. Layer 0 is the most probable instance where any class is more probable than none, the layers
            after it are what else is likely there, by the layer it is expected in.
        score: (n,) expected IoU of each mask.
        over: (n, n), [a, b] = expected number of cells in which a + 1 is in front of b + 1.
    """

    stack: Tensor
    score: Tensor
    over: Tensor


def soft_assignment(share: Tensor, embedding: Tensor, modes: Sequence[Tensor], *, bandwidth: float, temperature: float) -> SoftInstances:
    """Instances around modes, and how good their masks are likely to be.

    Args:
        share: (L, 1 + K, h, w) probability of none and of each class. embedding: (L, h, w, C).
        modes: (n_k, C) of each class. bandwidth: that they were found with.
        temperature: L1 distance in embedding space by which an instance that is farther is e times less probable.
    """
    reach = bandwidth * REACH
    chance = torch.cat([chances(share[:, k], embedding, of_class, reach, temperature) for k, of_class in enumerate(modes, 1)])
    n, layers, h, w = chance.shape
    stack = torch.zeros(layers, h, w, dtype=torch.int64, device=share.device)
    if not n:
        return SoftInstances(stack, chance.new_zeros(0), chance.new_zeros(0, 0))
    whole = chance.sum(1)
    masks, score = best_masks(whole.clamp(max=1))
    number = torch.arange(layers, device=share.device, dtype=whole.dtype)[:, None, None]
    rank = (chance * number).sum(1) / whole.clamp_min(1e-9)
    front, seen = chance[:, 0].argmax(0), share[0].argmax(0) > 0
    stack[0] = torch.where(seen, front + 1, 0)
    rank = rank.masked_fill(~masks, torch.inf)
    rank.scatter_(0, front[None], torch.where(seen, torch.inf, rank.gather(0, front[None])))
    rank, behind = rank.topk(min(layers - 1, n), 0, largest=False)
    stack[1 : 1 + len(behind)] = torch.where(rank.isfinite(), behind + 1, 0)
    cells = chance.flatten(2)
    over = sum((cells[:, i] @ cells[:, i + 1 :].sum(1).T for i in range(layers - 1)), chance.new_zeros(n, n))
    return SoftInstances(stack, score, over.fill_diagonal_(0))


def chances(share: Tensor, embedding: Tensor, modes: Tensor, reach: float, temperature: float) -> Tensor:
    """(n, L, h, w) probability that each of n instances of a class is what a layer shows in a cell.

    Args:
        share: (L, h, w) probability of the class. embedding: (L, h, w, C). modes: (n, C).
        reach: distance at which an instance is as probable as none.
    """
    result = share.new_zeros(len(modes), *share.shape)
    cells = share >= LEAST
    if len(modes):
        distance = torch.cdist(embedding[cells], modes, p=1)
        none = distance.new_full((len(distance), 1), reach)
        result[:, cells] = ((-torch.cat([distance, none], 1) / temperature).softmax(1)[:, :-1] * share[cells][:, None]).T
    return result


def best_masks(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Masks of largest expected IoU, E|M ∩ T| / E|M ∪ T| for the true mask T, each cell of which is true with its probability p.

    A cell is worth taking where p > IoU / (1 + IoU) of the mask with it, so the threshold and the IoU are found in turn (Dinkelbach
    1967: the IoU grows in every round).

    Args:
        probability: (n, h, w) in 0…1.

    Returns:
        masks (n, h, w) bool, expected IoU (n,).
    """
    sum_of = probability.sum((1, 2))
    iou = torch.ones_like(sum_of)
    for _ in range(ROUNDS):
        masks = probability > (iou / (1 + iou))[:, None, None]
        inside = (probability * masks).sum((1, 2))
        last, iou = iou, inside / (masks.sum((1, 2)) + sum_of - inside).clamp_min(1e-9)
        if torch.equal(last, iou):
            break
    return masks, iou
