"""Teaching ClusterNet's scorer: what became of the clusters that the trained network finds in its training images?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..evaluation.metrics import overlap
from ..frame import Frame
from ..methods.clusternet.scoring import Scorer
from ..methods.clusternet.segmenter import ClusterNetSegmenter
from ..synthesis.sensor import SensorParams, add_noise
from .data import DataConfig, PackedViews

EPOCHS, BATCH, LEARNING_RATE, DECAY = 60, 256, 3e-3, 1e-2


def fit_scorer(segmenter: ClusterNetSegmenter, views: PackedViews, config: DataConfig, indices: Iterable[int], *, seed: int) -> int:
    """Fit the scorer of ``segmenter``'s network on whole views, with the noise of a sensor where crops would get it, too.

    Returns:
        how many clusters it learned from; with none it stays as it was.
    """
    facts, targets = [], []
    for i in indices:
        sample = views.sample(i, min_visible=config.min_visible)
        depth = np.ascontiguousarray(sample.depth)
        if config.noise:
            rng = np.random.default_rng([seed, i])
            depth = add_noise(depth, sample.K, rng, SensorParams().jittered(rng))
        found = segmenter.find(Frame(depth, sample.K, sample.color))
        if found is None:
            continue
        known = segmenter.facts(found)
        image = found.labels
        kept = np.bincount(image.ravel(), minlength=len(known) + 1)[1:] >= segmenter.thresholds.min_pixels
        facts.append(known[kept].cpu())
        targets.append(torch.from_numpy(main_piece_iou(image, sample.labels, len(known), len(sample.centroid))[kept]))
    count = sum(len(rows) for rows in facts)
    if count:
        fit(segmenter.network.scorer, torch.cat(facts), torch.cat(targets), seed=seed)
    return count


def main_piece_iou(labels: np.ndarray, truth: np.ndarray, count: int, parts: int) -> np.ndarray:
    """IoU of each cluster with its part if no other cluster covers that part better, else 0; (count,) float32.

    Args:
        labels: (H, W) of clusters, 0 = background, 1…count. truth: (H, W) of parts, 0 = background, 1…parts.
    """
    return main_pieces(labels, truth, count, parts).max(1, initial=0).astype(np.float32)


def main_pieces(labels: np.ndarray, truth: np.ndarray, count: int, parts: int) -> np.ndarray:
    """IoU (count, parts) of each cluster with each part that no other cluster covers better, else 0. Arguments as of :func:`main_piece_iou`."""
    iou = overlap(labels, truth, count, parts)[1]
    return np.where(iou == iou.max(0, initial=0), iou, 0)


def fit(scorer: Scorer, facts: Tensor, targets: Tensor, *, seed: int) -> None:
    """Cross-entropy of facts (N, len(FACTS)) with IoUs (N,), repeatable; the caller's random state stays."""
    device = scorer.mean.device
    facts, targets = facts.to(device).float(), targets.to(device).float()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        scorer.standardise(facts)
        scorer.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(scorer.parameters(), LEARNING_RATE, weight_decay=DECAY)
        for epoch in range(EPOCHS):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - epoch / EPOCHS)
            for rows in torch.randperm(len(facts)).split(BATCH):
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(scorer.logits(facts[rows]), targets[rows]).backward()
                optimizer.step()
    scorer.requires_grad_(False).eval()
