"""ClusterNet's clustering (Shao et al., section III-B): seeds by centroid probability, spheres, one GMM iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from .gmm import GaussianMixture, most_likely


def sphere_clusters(features: Tensor, probability: Tensor, radius: Tensor, *, min_points: int, max_clusters: int) -> Tensor:
    """Greedy initialisation: the likeliest centroid left claims every free point within its own radius.

    Args:
        features: (N, D) metres.
        probability: (N,) η, probability of being a centroid.
        radius: (N,) metres, the radius B that each point would use as a seed.
        min_points: smaller spheres are dropped, their points stay unassigned; the search ends when fewer points are left.
        max_clusters: upper bound on clusters and on seeds tried beyond them.

    Returns:
        (N,) int64 cluster of each point, 0…K−1 in the order found, −1 = unassigned.
    """
    labels = torch.full((features.shape[0],), -1, dtype=torch.int64, device=features.device)
    # The points still free, compacted once a seed: every step touches only what is left. Axis by axis, sums over three are fast.
    index = torch.arange(features.shape[0], device=features.device)
    f, p, reach = features.T.contiguous(), probability.contiguous(), radius.square()
    found = 0
    for _ in range(2 * max_clusters):
        if index.numel() < max(min_points, 1) or found == max_clusters:
            break
        seed = p.argmax()
        inside = (f - f[:, seed, None]).square_().sum(0) <= reach[seed]
        inside[seed] = True  # also with radius 0: every step makes progress
        members = index[inside]
        if members.numel() >= min_points:
            labels.index_fill_(0, members, found)
            found += 1
        outside = torch.nonzero(~inside)[:, 0]
        index, p, reach = (x.index_select(0, outside) for x in (index, p, reach))
        f = f.index_select(1, outside)
    return labels


def merge_fragments(features: Tensor, labels: Tensor, radius: Tensor) -> Tensor:
    """Give clusters that are no parts of their own back to the part they broke off from.

    By Eq. 2 the features of two parts are at least 2 B apart, so a later cluster whose mean lies within the mean radius of
    an earlier one is what that one's sphere missed. (Not in the paper, which keeps such fragments.)

    Args:
        features: (N, D) m. labels: (N,) int64 in the order found, −1 = unassigned. radius: (N,) m.

    Returns:
        (N,) int64, renumbered without gaps.
    """
    use = torch.nonzero(labels >= 0)[:, 0]
    if not len(use):
        return labels
    k = labels[use]
    count = torch.bincount(k).to(features.dtype)
    mean = torch.zeros(len(count), features.shape[1], dtype=features.dtype, device=features.device)
    mean = mean.index_add_(0, k, features[use]) / count[:, None]
    reach = torch.zeros_like(count).index_add_(0, k, radius[use]) / count
    relative = (torch.cdist(mean, mean) / reach[None]).tolist()  # row: the later cluster, column: the earlier one
    roots: list[int] = []
    owner: list[int] = []
    for row in relative:
        nearest = min(range(len(roots)), key=lambda i: row[roots[i]], default=-1)
        if nearest >= 0 and row[roots[nearest]] < 1:
            owner.append(nearest)
        else:
            owner.append(len(roots))
            roots.append(len(owner) - 1)
    merged = labels.clone()
    merged[use] = torch.tensor(owner, device=labels.device)[k]
    return merged


def seeded_gmm(
    features: Tensor,
    probability: Tensor,
    radius: Tensor,
    *,
    min_points: int = 20,
    max_clusters: int = 100,
    noise: float = 1e-3,
) -> tuple[Tensor, GaussianMixture | None]:
    """Sphere initialisation refined by one iteration of a Gaussian mixture with one component a cluster.

    Components that end up with fewer than ``min_points`` points are dropped and their points go to the likeliest of the rest.

    Args:
        features, probability, radius, min_points, max_clusters: as in :func:`sphere_clusters`.
        noise: metres, standard deviation added to every component so that flat clusters stay invertible.

    Returns:
        labels (N,) int64 in 0…K−1, every point assigned (−1 only where K = 0), and the mixture behind them.
    """
    labels = sphere_clusters(features, probability, radius, min_points=min_points, max_clusters=max_clusters)
    labels = merge_fragments(features, labels, radius)
    if not bool((labels >= 0).any()):
        return labels, None
    mixture = GaussianMixture.fit(features, labels, noise=noise)
    likelihood = mixture.log_likelihood(features)
    labels = most_likely(likelihood)
    keep = torch.bincount(labels, minlength=len(mixture.mean)) >= min_points
    if not bool(keep.any()):
        return torch.full_like(labels, -1), None
    if not bool(keep.all()):
        mixture, labels = mixture.select(keep), most_likely(likelihood[keep])
    return labels, mixture
