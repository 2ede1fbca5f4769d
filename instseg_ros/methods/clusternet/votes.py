"""What the part pixels of a view say, one row a pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Votes(NamedTuple):
    """N part pixels in object-feature space.

    Attributes:
        features: (N, 3) or (N, 9) m, what is clustered. centroid: (N, 3) m. moments: (N, 6) m or None.
        probability: (N,) η. radius: (N,) m, B. confidence: (N,) part probability.
    """

    features: Tensor
    centroid: Tensor
    moments: Tensor | None
    probability: Tensor
    radius: Tensor
    confidence: Tensor


def cluster_means(values: Tensor, labels: Tensor, count: int) -> Tensor:
    """Mean of ``values`` (N, …) over each cluster 0…count−1 of ``labels`` (N,), (count, …); 0 for one without rows."""
    rows = torch.bincount(labels, minlength=count).clamp_min(1).to(values.dtype)
    total = torch.zeros(count, *values.shape[1:], dtype=values.dtype, device=values.device).index_add_(0, labels, values)
    return total / rows.view(-1, *[1] * (values.ndim - 1))


def seedness(votes: Votes, labels: Tensor, count: int) -> Tensor:
    """(count,) mean η of each cluster where η is high, that is around the seed, without a sort a cluster: the η-weighted mean of η."""
    squared = cluster_means(votes.probability.square(), labels, count)
    return squared / cluster_means(votes.probability, labels, count).clamp_min(1e-6)


def spread(votes: Votes, labels: Tensor, centroid: Tensor) -> Tensor:
    """(K,) root mean square distance (m) of each cluster's votes from its centroid (K, 3) m."""
    return cluster_means((votes.centroid - centroid[labels]).square().sum(1), labels, len(centroid)).sqrt()
