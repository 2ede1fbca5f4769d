"""ClusterNet's clustering (Shao et al., section III-B): seeds by centroid probability, spheres, one GMM iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from .gmm import GaussianMixture


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
    # The points still free, compacted once a seed: every step touches only what is left.
    index = torch.arange(features.shape[0], device=features.device)
    f, p, r = features, probability, radius
    found = 0
    for _ in range(2 * max_clusters):
        if index.numel() < max(min_points, 1) or found == max_clusters:
            break
        seed = int(p.argmax())
        inside = (f - f[seed]).square().sum(1) <= r[seed] ** 2
        inside[seed] = True  # also with radius 0: every step makes progress
        members = index[inside]
        if members.numel() >= min_points:
            labels[members] = found
            found += 1
        outside = ~inside
        index, f, p, r = index[outside], f[outside], p[outside], r[outside]
    return labels


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

    Args:
        features, probability, radius, min_points, max_clusters: as in :func:`sphere_clusters`.
        noise: metres, standard deviation added to every component so that flat clusters stay invertible.

    Returns:
        labels (N,) int64 in 0…K−1, every point assigned (−1 only where K = 0), and the mixture after the iteration.
    """
    labels = sphere_clusters(features, probability, radius, min_points=min_points, max_clusters=max_clusters)
    if not bool((labels >= 0).any()):
        return labels, None
    mixture = GaussianMixture.fit(features, labels, noise=noise)
    return mixture.assign(features), mixture
