"""InSeGAN's discriminator (section 3.3), its regularisers, and differentiable augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Discriminator(nn.Module):
    """Depth images (B, 1, S, S) → logits (B,), positive = real.

    Args:
        size: S, a multiple of 16 and at least 32.
        width: channels after the first convolution; they double three times.
        spectral: spectral normalisation (Miyato et al., ICLR 2018) in place of instance normalisation.
    """

    def __init__(self, size: int = 64, width: int = 64, *, spectral: bool = False) -> None:
        super().__init__()
        wrap = nn.utils.parametrizations.spectral_norm if spectral else (lambda layer: layer)
        widths = [1, *(width << i for i in range(4))]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(zip(widths, widths[1:])):
            layers.append(wrap(nn.Conv2d(a, b, 4, 2, 1)))
            if i and not spectral:
                layers.append(nn.InstanceNorm2d(b))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers, wrap(nn.Conv2d(widths[-1], 1, size // 16)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1).mean(1)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """L_D of Eq. 3 from logits (B,)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """L_G of Eq. 3 (non-saturating) from logits (B,)."""
    return F.softplus(-fake).mean()


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """½ E‖∇D‖² at real images that require a gradient (R1, Mescheder et al., ICML 2018)."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(1).mean()


def roll(images: Tensor, angle: Tensor) -> Tensor:
    """Roll every image (B, 1, S, S) about its middle by ``angle`` (B,) radians, from x towards y; corners fill with floor (−1).

    Never a mirror image: that would be of another part wherever the part is chiral.
    """
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    theta = torch.stack([cos, sin, zero, -sin, cos, zero], -1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def turn(images: Tensor, degrees: float) -> Tensor:
    """Roll every image by its own random angle up to ± ``degrees``."""
    return roll(images, (torch.rand(len(images), device=images.device) * 2 - 1) * math.radians(degrees))


def differentiable_augmentation(images: Tensor) -> Tensor:
    """DiffAugment (Zhao et al., NeurIPS 2020) for depth: any roll of the camera, and a square of a quarter side cut out."""
    images = turn(images, 180.0)
    b, _, size, _ = images.shape
    side = size // 4
    corner = torch.randint(0, size - side + 1, (2, b, 1), device=images.device)
    index = torch.arange(size, device=images.device)[None]
    inside = [(index >= c) & (index < c + side) for c in corner]
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], -1.0)
