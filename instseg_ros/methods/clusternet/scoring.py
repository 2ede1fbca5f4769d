"""How well does a cluster cover a part, or is it a fragment of one? Learned from how clusters of the training images turned out.

The paper leaves the score open. The product of how sure and how tight a cluster is cannot tell a part from a piece that broke off it,
which is as sure and as tight; that its centroid lies within another part, and that it is small for the whole it claims, can.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .votes import Votes, cluster_means, seedness, spread

FACTS = (
    "mean probability of a centroid around the seed",
    "highest probability of a centroid",
    "part probability",
    "spread of the votes, m",
    "spread, in radii",
    "radius B, m",
    "size of the whole part, m",
    "pixels, log",
    "visible surface over the whole part's size",
    "the same, log",
    "to the nearest centroid, m",
    "to the nearest centroid of a larger cluster, m",
    "the same, in radii",
    "from the visible surface to the centroid, m",
    "distance from the camera, m",
    "agreement of the votes",
    "pixels of the cluster with the nearest centroid, log",
)
"""What ``cluster_facts`` knows of a cluster, in this order."""

ALONE = 0.3  # metres, where there is no other cluster


def cluster_facts(votes: Votes, labels: Tensor, table: dict[str, Tensor], image: Tensor, points: Tensor, focal: float) -> Tensor:
    """Describe the K clusters of a view, (K, len(FACTS)).

    Args:
        labels: (N,) int64, the cluster of each vote, 0…K−1.
        table: score (K,), the agreement of the votes; centroid (K, 3) m; and where predicted covariance (K, 3, 3) m².
        image: (H, W) int64 labels, 0 = background, cluster + 1. points: (H, W, 3) m. focal: pixels.
    """
    count = len(table["score"])

    def mean(values: Tensor) -> Tensor:
        return cluster_means(values, labels, count)

    probability = votes.probability
    peak = torch.zeros(count, device=points.device).scatter_reduce_(0, labels, probability, "amax")
    centroid, radius = table["centroid"], mean(votes.radius).clamp_min(1e-4)
    scatter = spread(votes, labels, centroid)
    size = table["covariance"].diagonal(dim1=1, dim2=2).sum(1).sqrt() if "covariance" in table else 2 * radius
    rows = torch.nonzero(image.flatten())[:, 0]
    owner = image.flatten()[rows] - 1
    pixels = torch.bincount(owner, minlength=count).to(centroid.dtype)
    seen = cluster_means(points.reshape(-1, 3)[rows], owner, count)
    depth = centroid[:, 2].clamp_min(0.05)
    visible = (pixels * (depth / focal).square() / size.square().clamp_min(1e-6)).clamp_max(3)
    distance = torch.cdist(centroid, centroid).fill_diagonal_(ALONE).clamp_max(ALONE)
    nearest, neighbour = distance.min(1)
    larger = torch.where(pixels[None] > pixels[:, None], distance, distance.new_tensor(ALONE)).min(1).values
    return torch.stack(
        [
            seedness(votes, labels, count), peak, mean(votes.confidence), scatter, scatter / radius, radius, size, (pixels + 1).log(), visible, (visible + 1e-3).log(),
            nearest, larger, (larger / radius).clamp_max(6), (seen - centroid).norm(dim=1), depth, table["score"], (pixels[neighbour] + 1).log(),
        ],
        1,
    )  # fmt: skip


class Scorer(nn.Module):
    """Facts of a cluster → the IoU of its mask with its part, 0 for what is not the part's main piece.

    Until ``standardise`` was called it knows nothing: ``ready`` is 0. Its weights take no part in the training of the network.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        facts = len(FACTS)
        for name, value in (("mean", torch.zeros(facts)), ("deviation", torch.ones(facts)), ("ready", torch.zeros(()))):
            self.register_buffer(name, value)
        self.layers = nn.Sequential(
            nn.Linear(facts, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 1)
        )
        self.requires_grad_(False)

    @torch.no_grad()
    def standardise(self, facts: Tensor) -> None:
        """Take the scale of each fact from (N, len(FACTS)) of them."""
        self.mean.copy_(facts.mean(0))
        self.deviation.copy_(facts.std(0, unbiased=False).clamp_min(1e-6))
        self.ready.fill_(1)

    def logits(self, facts: Tensor) -> Tensor:
        """(N,) logits of the IoU."""
        return self.layers(((facts - self.mean) / self.deviation).clamp(-4, 4))[:, 0]

    def forward(self, facts: Tensor) -> Tensor:
        """(N, len(FACTS)) → (N,) in [0, 1]."""
        return self.logits(facts).sigmoid()
