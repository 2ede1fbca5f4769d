"""A Gaussian mixture with full covariances, in torch, for clusters that are already found."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """K Gaussians in D dimensions.

    Attributes:
        mean: (K, D). whitening: (K, D, D) lower-triangular inverse Cholesky factors L⁻¹ of the covariances.
        log_weight: (K,) log of weight over the square root of the determinant.
    """

    mean: Tensor
    whitening: Tensor
    log_weight: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, *, noise: float) -> GaussianMixture:
        """Maximum-likelihood mean, covariance and weight of every cluster (the M step for hard assignments).

        Args:
            features: (N, D). labels: (N,) int64 in 0…K−1, −1 = left out. noise: standard deviation added to each axis.
        """
        use = torch.nonzero(labels >= 0)[:, 0]
        x, k = features[use], labels[use]
        count_k, d = int(k.max()) + 1, features.shape[1]
        count = torch.bincount(k, minlength=count_k).clamp_min(1).to(x.dtype)
        mean = torch.zeros(count_k, d, dtype=x.dtype, device=x.device).index_add_(0, k, x) / count[:, None]
        centred = x - mean[k]
        covariance = torch.zeros(count_k, d * d, dtype=x.dtype, device=x.device)
        covariance.index_add_(0, k, (centred[:, :, None] * centred[:, None, :]).flatten(1))
        covariance = covariance.view(count_k, d, d) / count[:, None, None]
        covariance.diagonal(dim1=1, dim2=2).add_(noise**2)
        factor = torch.linalg.cholesky(covariance)
        identity = torch.eye(d, dtype=x.dtype, device=x.device).expand(count_k, d, d)
        whitening = torch.linalg.solve_triangular(factor, identity, upper=False)
        log_det = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return cls(mean, whitening, (count / count.sum()).log() - log_det)

    def select(self, keep: Tensor) -> GaussianMixture:
        """The components where ``keep`` (K,) bool holds; their weights keep their ratios."""
        return GaussianMixture(self.mean[keep], self.whitening[keep], self.log_weight[keep])

    def log_likelihood(self, features: Tensor) -> Tensor:
        """log(weight · density) of (N, D) features under every component, (K, N): sums over components run over whole rows."""
        k, d = self.mean.shape
        # One matrix product for all components: L⁻¹x − L⁻¹μ.
        shift = (self.whitening @ self.mean[:, :, None]).view(k * d, 1)
        z = torch.addmm(shift, self.whitening.reshape(k * d, d), features.T, beta=-1)
        distance = z.view(k, d, len(features)).square_().sum(1)
        return (self.log_weight - 0.5 * d * math.log(2 * math.pi))[:, None] - 0.5 * distance

    def assign(self, features: Tensor) -> Tensor:
        """Most likely component of every feature, (N,) int64 (the E step, hard)."""
        return most_likely(self.log_likelihood(features))


def most_likely(likelihood: Tensor) -> Tensor:
    """Component (N,) int64 of the largest of (K, N)."""
    return likelihood.max(0).indices  # argmax(0) takes four times as long
