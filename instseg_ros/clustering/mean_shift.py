"""Mean shift with a flat kernel (Fukunaga and Hostetler 1975), as Layered Embeddings clusters: densest point first."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

REFERENCES = 256
"""Points that the density of a point is counted over, and most candidates for seeds that climb at once."""
STEPS = 30
"""Most steps of one mean; it stops as soon as its group stays the same."""


def mean_shift(
    points: Tensor, *, bandwidth: float, norm: int = 1, min_points: int = 1, sample: int = 2048, max_clusters: int = 500
) -> tuple[Tensor, Tensor]:
    """Cluster points; the same points in the same order give the same clusters, and no clock ends the search.

    The densest points that no cluster has yet, as far apart as ``bandwidth``, are moved to the mean of all points within
    ``bandwidth`` until that group stays the same. What lies within ``bandwidth`` of the mode becomes a cluster, or joins the one
    whose mode lies that near to it. The paper groups *free* points around a random one, one after another, which makes clusters of
    the fringes that the first groups left.

    Args:
        points: (N, D).
        norm: of distances, 1 or 2, as in the losses that made the embeddings.
        min_points: smaller clusters are dropped, and their points belong to what else is within reach.
        sample: modes are looked for among so many points at most, every k-th; all points are then assigned.
        max_clusters: upper bound on modes.

    Returns:
        labels (N,) int64, the cluster of each point, 0…K−1, that of the nearest mode; −1 = farther than twice ``bandwidth`` from
        each; modes (K, D).
    """
    modes = _modes(points[:: -(-len(points) // sample) or 1].contiguous(), bandwidth, norm, max_clusters)
    labels = assign(points, modes, norm=norm, reach=2 * bandwidth)
    keep = torch.bincount(labels[labels >= 0], minlength=len(modes)) >= max(min_points, 1)
    if not bool(keep.all()):
        modes = modes[keep]
        labels = assign(points, modes, norm=norm, reach=2 * bandwidth)
    return labels, modes


def assign(points: Tensor, modes: Tensor, *, norm: int, reach: float) -> Tensor:
    """(N,) int64 nearest of the modes (K, D) to each point (N, D), −1 = none within ``reach``."""
    if not len(modes):
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    least, nearest = torch.cdist(points, modes, p=norm).min(1)
    return torch.where(least <= reach, nearest, -1)


def _modes(x: Tensor, bandwidth: float, norm: int, most: int) -> Tensor:
    """Modes (K, D) of points (N, D). Seeds climb side by side: one at a time, fringes take most of the time with steps of microseconds."""
    references = x[:: -(-len(x) // REFERENCES) or 1]
    density = (torch.cdist(x, references, p=norm) <= bandwidth).sum(1)
    order = density.argsort(descending=True, stable=True)
    free = torch.ones(len(x), dtype=torch.bool, device=x.device)
    modes = x[:0]
    while len(modes) < most:
        order = order[free[order]]
        if not len(order):
            break
        seeds = _apart(x, order[:: -(-len(order) // REFERENCES)], bandwidth, norm)
        distance = torch.cdist(x[seeds], x, p=norm)
        climbed, inside = _climb(x, distance <= bandwidth, modes, bandwidth, norm)
        reached = inside | (distance <= bandwidth / 2)  # what is so near to a seed climbs to the same mode
        for seed, mode, group in zip(seeds.tolist(), climbed, reached):
            if not free[seed]:  # an earlier one has taken it along
                continue
            free &= ~group
            if len(modes) < most and not bool((torch.cdist(mode[None], modes, p=norm) <= bandwidth).any()):
                modes = torch.cat([modes, mode[None]])
    return modes


def _apart(x: Tensor, candidates: Tensor, distance: float, norm: int) -> Tensor:
    """Those of ``candidates`` (indices, best first) that are farther than ``distance`` from each better one."""
    near = (torch.cdist(x[candidates], x[candidates], p=norm) <= distance).cpu().numpy()
    left, chosen = np.ones(len(near), bool), []
    for i in range(len(near)):
        if left[i]:
            chosen.append(i)
            left &= ~near[i]
    return candidates[chosen]


def _climb(x: Tensor, inside: Tensor, known: Tensor, bandwidth: float, norm: int) -> tuple[Tensor, Tensor]:
    """Move S seeds to the mean of the points (N, D) within reach until that group stays the same, or is that of a known mode.

    Args:
        inside: (S, N) bool, the points within reach of each seed.

    Returns:
        where they end (S, D), and the points within reach then.
    """
    means, inside = x.new_empty(len(inside), x.shape[1]), inside.clone()
    moving = torch.arange(len(inside), device=x.device)
    for _ in range(STEPS):
        group = inside[moving].to(x.dtype)
        mean = group @ x / group.sum(1, keepdim=True)
        now = torch.cdist(mean, x, p=norm) <= bandwidth
        still = (now != inside[moving]).any(1) & now.any(1)
        if len(known):
            still &= torch.cdist(mean, known, p=norm).amin(1) > bandwidth
        means[moving], inside[moving] = mean, now
        moving = moving[still]
        if not len(moving):
            break
    return means, inside
