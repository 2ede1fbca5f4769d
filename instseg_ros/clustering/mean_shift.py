"""Mean shift with a flat kernel (Fukunaga and Hostetler 1975), as Layered Embeddings clusters: densest point first."""

from __future__ import annotations

import torch
from torch import Tensor

REFERENCES = 256
"""Points that the density of a point is counted over."""
STEPS = 50
"""Most steps of one mean; it stops as soon as its group stays the same."""


def mean_shift(
    points: Tensor, *, bandwidth: float, min_points: int = 1, sample: int = 4096, max_clusters: int = 500
) -> tuple[Tensor, Tensor]:
    """Cluster points; the same points in the same order give the same clusters, and no clock ends the search.

    The densest point that no cluster has yet is moved to the mean of all points within ``bandwidth`` until that group stays the
    same. What lies within ``bandwidth`` of the mode becomes a cluster, or joins the one whose mode lies that near to it.
    The paper groups *free* points around a random one, which makes clusters of the fringes that the first groups left.

    Args:
        points: (N, D). Distances are L1, as in the losses that make the embeddings.
        min_points: smaller clusters are dropped, and their points belong to what else is within reach.
        sample: modes are looked for among so many points at most, every k-th; all points are then assigned.
        max_clusters: upper bound on modes.

    Returns:
        labels (N,) int64, the cluster of each point, 0…K−1, that of the nearest mode; −1 = farther than twice ``bandwidth`` from
        each; modes (K, D).
    """
    modes = _modes(points[:: -(-len(points) // sample) or 1].T.contiguous(), bandwidth, max_clusters)
    labels = assign(points, modes, reach=2 * bandwidth)
    keep = torch.bincount(labels[labels >= 0], minlength=len(modes)) >= max(min_points, 1)
    if not bool(keep.all()):
        modes = modes[keep]
        labels = assign(points, modes, reach=2 * bandwidth)
    return labels, modes


def assign(points: Tensor, modes: Tensor, *, reach: float) -> Tensor:
    """(N,) int64 nearest of the modes (K, D) to each point (N, D) by L1, −1 = none within ``reach``."""
    if not len(modes):
        return torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    least, nearest = torch.cdist(points, modes, p=1).min(1)
    return torch.where(least <= reach, nearest, -1)


def _modes(x: Tensor, bandwidth: float, most: int) -> Tensor:
    """Modes (K, D) of points (D, N): coordinates first, so that every step runs along memory."""
    dims, n = x.shape
    references = x[:, :: -(-n // REFERENCES) or 1]
    density = (torch.cdist(x.T, references.T, p=1) <= bandwidth).sum(1)
    order = density.argsort(descending=True, stable=True)
    free = torch.ones(n, dtype=torch.bool, device=x.device)
    modes = torch.empty(0, dims, dtype=x.dtype, device=x.device)
    while len(modes) < most:
        left = order[free[order]]
        if not len(left):
            break
        order, mode = left, x[:, left[0]]
        group = None
        for _ in range(STEPS):
            inside = (x - mode[:, None]).abs().sum(0) <= bandwidth
            if group is not None and torch.equal(inside, group):
                break
            group = inside
            mode = x[:, inside].mean(1)
        free &= ~group
        free[left[0]] = False  # it may have moved away from where it began
        if not len(modes) or float((modes - mode).abs().sum(1).min()) > bandwidth:
            modes = torch.cat([modes, mode[None]])
    return modes
