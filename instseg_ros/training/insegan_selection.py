"""What is chosen and reported without labels: by how well a model explains depth images it was not trained on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..methods.insegan.network import GanNetwork
from ..methods.insegan.refine import mismatch
from ..methods.insegan.search import FLOOR

if TYPE_CHECKING:
    from ..methods.insegan.segmenter import InSeGANSegmenter


@torch.no_grad()
def best_cut(singles: Tensor, images: Tensor) -> tuple[float, float]:
    """The cut at which single renderings explain images best, and how well they do then.

    Args:
        singles: (V, n, S, S) values. images: (V, S, S) values.

    Returns:
        the cut, and coverage (IoU of the renderings' union with the observed parts) less the mismatch in depth, at most 1.
    """
    front, part = singles.amax(1), images > FLOOR
    best = (-1.0, -math.inf)
    for cut in torch.linspace(-0.98, 0.0, 50).tolist():
        shown = front > cut
        coverage = (shown & part).sum() / (shown | part).sum().clamp_min(1)
        score = float(coverage - mismatch(front.masked_fill(~shown, -1.0), images).mean())
        best = max(best, (cut, score), key=lambda pair: pair[1])
    return best


@torch.no_grad()
def choose_cut(network: GanNetwork, images: Tensor) -> float:
    """``best_cut`` of a network on images (V, S, S)."""
    return round(best_cut(network.generator.singles(network.encoder(images[:, None])[0]), images)[0], 3)


LEAST = (0.06, 0.1, 0.15, 0.2, 0.25)


def choose_least(segmenter: InSeGANSegmenter, images: Tensor, instances: int) -> float:
    """``Thresholds.least`` at which the mean number of parts found in images (V, S, S) is nearest to what the user said."""
    given = segmenter.thresholds
    off = {}
    for least in LEAST:
        segmenter.thresholds = replace(given, least=least)
        found = [len(segmenter.singles_of(image).depth) for image in images]
        off[least] = abs(sum(found) / max(len(found), 1) - instances)
    segmenter.thresholds = given
    return min(off, key=off.get)


@torch.no_grad()
def unexplained(segmenter: InSeGANSegmenter, images: Tensor) -> dict[str, Any]:
    """Mean over images (V, S, S): ``mismatch`` of hallucinated and observed depth, ``coverage`` (IoU of the renderings'
    union with the observed parts) and ``instances`` found.
    """
    totals = torch.zeros(3)
    for image in images:
        singles = segmenter.singles_of(image)
        together = torch.from_numpy(singles.opacity > 0.5).any(0) if len(singles.opacity) else torch.zeros_like(image, dtype=torch.bool)
        part = image > FLOOR
        error = mismatch(torch.from_numpy(singles.image), image).mean()
        coverage = (together & part).sum() / (together | part).sum().clamp_min(1)
        totals += torch.tensor([float(error), float(coverage), float(len(singles.depth))])
    mean = (totals / max(len(images), 1)).tolist()
    return {"mismatch": round(mean[0], 4), "coverage": round(mean[1], 4), "instances": round(mean[2], 2)}
