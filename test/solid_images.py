"""Images of one solid each, for the tests of how the InSeGAN template is learned."""

from __future__ import annotations

import torch

from instseg_ros.methods.insegan.refine import Camera, Poses, draw
from instseg_ros.methods.insegan.search import spread_rotations
from instseg_ros.methods.insegan.shape import Shape


def turned(shape: Shape, count: int, camera: Camera) -> torch.Tensor:
    """(count, P) values of one solid each, turned anyhow."""
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))[:count]
    rotation = spread_rotations(400)[order].view(count, 1, 3, 3)
    translation = torch.tensor([0.0, 0.0, 0.45]).expand(count, 1, 3)
    with torch.no_grad():
        return draw(shape, Poses(rotation, translation, torch.ones(count, 1, dtype=torch.bool)), camera).image.clamp(-1, 1)
