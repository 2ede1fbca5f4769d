"""Two solids cannot be in one place: how much of each posed template lies inside the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .shape import Shape

POINTS = 80
"""Inner points of the template on which volumes are compared."""


@torch.no_grad()
def inner_points(shape: Shape, count: int = POINTS) -> Tensor:
    """(≤ count, 3) metres, part frame: points spread evenly over the inside of the template; the same in every call."""
    inside = shape.voxels().view(-1, 3)[shape.grid[0, 0].flatten() > 0]
    return inside[torch.linspace(0, max(len(inside) - 1, 0), min(count, len(inside))).round().long().to(inside.device)]


@torch.no_grad()
def shared_volume(shape: Shape, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """(M, N) in [0, 1]: the share of its volume that solid i of ``first`` has in common with solid j of ``second``.

    Args:
        first, second: rotations (·, 3, 3) part → camera and translations (·, 3) metres.
    """
    points = inner_points(shape)
    (r1, t1), (r2, t2) = first, second
    if not len(points) or not len(t1) or not len(t2):
        return torch.zeros(len(t1), len(t2), device=t1.device)
    placed = torch.einsum("mij,qj->mqi", r1, points) + t1[:, None]
    local = torch.einsum("nij,mnqi->mnqj", r2, placed[:, None] - t2[:, None])
    where = (local / shape.extent).reshape(1, 1, 1, -1, 3)
    # Outside of the box there is nothing; the padding by zeros is outside as well, for inside is > 0.
    inside = F.grid_sample(shape.grid, where, align_corners=True)[0, 0, 0, 0] > 0
    return (inside & (where[0, 0, 0].abs() <= 1).all(-1)).view(len(t1), len(t2), -1).float().mean(-1)
