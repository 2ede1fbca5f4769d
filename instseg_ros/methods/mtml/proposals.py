"""From embeddings and directions to scored, overlapping proposals (Lahoud et al., section 3.2, post-processing)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...clustering.nms import suppress
from ...clustering.voxel_graph import neighbour_pairs, split_components


class Proposals(NamedTuple):
    """P candidates over N voxels.

    Attributes:
        masks: (P, N) bool. score: (P,) in [0, 1].
    """

    masks: Tensor
    score: Tensor

    def select(self, rows: Tensor) -> Proposals:
        """The candidates with these row numbers."""
        return Proposals(self.masks[rows], self.score[rows])


def candidate_masks(labelings: Sequence[Tensor], voxels: Tensor, *, least: int) -> Tensor:
    """Every cluster of every labelling, and every connected component of a cluster that falls apart in space.

    Args:
        labelings: (N,) int64 each, clusters 0, 1, …, −1 = none; one of every threshold of the mean shift.
        voxels: (N, 3) int64 grid indices.
        least: candidates with fewer voxels are left out.

    Returns:
        (P, N) bool, no two alike.
    """
    pairs = neighbour_pairs(voxels.cpu().numpy())
    masks = []
    for labels in labelings:
        parts = torch.from_numpy(split_components(labels.cpu().numpy(), pairs)).to(labels.device)
        for rows in (labels, parts):
            counts = torch.bincount(rows[rows >= 0]) if bool((rows >= 0).any()) else rows.new_zeros(0)
            large = torch.nonzero(counts >= least)[:, 0]
            masks.append(rows[None] == large[:, None])
    return torch.unique(torch.cat(masks), dim=0)


def embedding_coherency(embedding: Tensor, masks: Tensor, *, radius: float) -> Tensor:
    """Share of a candidate's voxels whose embedding lies within ``radius`` of the candidate's mean.

    Args:
        embedding: (N, E). masks: (P, N) bool. radius: δ_var of the training.

    Returns:
        (P,) in [0, 1].
    """
    weight = masks.to(embedding.dtype)
    size = weight.sum(1).clamp_min(1)
    mean = weight @ embedding / size[:, None]
    near = (torch.cdist(mean, embedding) <= radius) & masks
    return near.sum(1) / size


def direction_coherency(direction: Tensor, points: Tensor, masks: Tensor) -> Tensor:
    """−L_dir of Eq. 5: mean cosine between v and the direction from a voxel to the candidate's own centre.

    Args:
        direction: (N, 3) unit vectors. points: (N, 3) voxel centres in the same axes. masks: (P, N) bool.

    Returns:
        (P,) in [−1, 1].
    """
    weight = masks.to(points.dtype)
    size = weight.sum(1).clamp_min(1)
    centre = weight @ points / size[:, None]
    score = []
    for row, middle, count in zip(masks, centre, size):  # a candidate at a time: (P, N, 3) would not fit
        towards = F.normalize(middle - points[row], dim=1, eps=1e-6)
        score.append((towards * direction[row]).sum() / count)
    return torch.stack(score) if score else points.new_zeros(0)


def size_prior(size: Tensor, usual: Sequence[tuple[float, float]]) -> Tensor:
    """Regular sizes before extremely small or large ones: 1 at a usual size, falling off like a Gaussian of its logarithm.

    Args:
        size: (P,) voxels. usual: mean and standard deviation of ln(voxels) of every class in the training set.

    Returns:
        (P,) in (0, 1], by the class whose sizes fit best.
    """
    mean, deviation = torch.tensor(usual, dtype=torch.float32, device=size.device).unbind(1)
    z = (size.float().clamp_min(1).log()[:, None] - mean) / deviation.clamp_min(0.1)
    return (-0.5 * z.square()).exp().amax(1)


def score_proposals(
    embedding: Tensor,
    direction: Tensor | None,
    points: Tensor,
    masks: Tensor,
    *,
    radius: float,
    usual: Sequence[tuple[float, float]],
) -> Proposals:
    """Score candidates by embedding coherency, direction coherency and size.

    The paper "appends" the three and leaves open how: here it is their product, the direction's cosine clipped at 0.

    Args:
        direction: None leaves it out (the paper's "FE only").
    """
    score = embedding_coherency(embedding, masks, radius=radius) * size_prior(masks.sum(1), usual)
    if direction is not None:
        score = score * direction_coherency(direction, points, masks).clamp_min(0)
    return Proposals(masks, score)


def best_proposals(proposals: Proposals, *, overlap: float, least_score: float) -> Proposals:
    """Non-maximum suppression among what scores at least ``least_score``; best first."""
    proposals = proposals.select(torch.nonzero(proposals.score >= least_score)[:, 0])
    return proposals.select(suppress(proposals.masks, proposals.score, overlap=overlap))


def resolve(proposals: Proposals, embedding: Tensor, *, reach: float) -> Tensor:
    """One coherent labelling: a voxel goes to the best proposal that holds it.

    Args:
        proposals: best first. embedding: (N, E).
        reach: voxels in no proposal go to the one with the nearest mean embedding, if it is at most so far away.

    Returns:
        (N,) int64 row of ``proposals``, −1 = none.
    """
    masks = proposals.masks
    if not len(masks):
        return torch.full(embedding.shape[:1], -1, dtype=torch.int64, device=embedding.device)
    labels = torch.where(masks.any(0), masks.to(torch.uint8).argmax(0), -1)
    weight = masks.to(embedding.dtype)
    mean = weight @ embedding / weight.sum(1, keepdim=True).clamp_min(1)
    left = torch.nonzero(labels < 0)[:, 0]
    distance, nearest = torch.cdist(embedding[left], mean).min(1)
    labels[left] = torch.where(distance <= reach, nearest, -1)
    return labels


def majority_class(labels: Tensor, classes: Tensor, count: int) -> np.ndarray:
    """Commonest class of the voxels of every label: labels and classes (N,) int64 → (count,) int64 (section 3.2)."""
    table = torch.zeros(count, int(classes.max()) + 1, dtype=torch.int64, device=labels.device)
    use = labels >= 0
    table.index_put_((labels[use], classes[use]), torch.ones_like(labels[use]), accumulate=True)
    return table.argmax(1).cpu().numpy()
