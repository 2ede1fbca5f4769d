"""Rotations for networks: the exponential map of axis-angle vectors and the six-number form, both safe to differentiate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def exponential_map(vector: Tensor) -> Tensor:
    """Axis-angle vectors (…, 3) radians → rotation matrices (…, 3, 3), by Rodrigues' formula.

    The rotational half of Λ (InSeGAN, section 3.2). Value and gradient are exact and finite at 0 as well.
    """
    square = vector.square().sum(-1)[..., None, None]
    small = square < 1e-6
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1 - square / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    cross = skew(vector)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + first * cross + second * (cross @ cross)


def skew(vector: Tensor) -> Tensor:
    """Vectors (…, 3) → matrices (…, 3, 3) with ``skew(a) @ b = a × b``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vector.shape, 3)


def from_six(six: Tensor) -> Tensor:
    """Two columns (…, 6), not yet orthonormal → rotation matrices (…, 3, 3) by Gram-Schmidt (Zhou et al., CVPR 2019)."""
    first = F.normalize(six[..., :3], dim=-1)
    second = F.normalize(six[..., 3:] - (first * six[..., 3:]).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


def to_six(rotation: Tensor) -> Tensor:
    """Rotation matrices (…, 3, 3) → their first two columns (…, 6)."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], -1)
