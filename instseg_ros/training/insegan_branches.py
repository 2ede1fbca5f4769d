"""Branches of the template: balls that stick out of it somewhere, to be kept where they explain the images better.

A solid of revolution stays one. Nothing tells its roll about its axis, so poses are found at any roll, and what stands out of the part to
a side is averaged away: of a tee the straight run is learned, the branch never. No gradient leads out of this; a ball on its
side does, for then there is a roll at which it explains something.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from ..methods.insegan.shape import Shape

RADIUS, SUNK = 0.8, 0.25
"""Of the ball, in the smallest half side of the solid; and how far its centre lies outside the solid's box, in radii."""


@torch.no_grad()
def branched(shape: Shape) -> list[Shape]:
    """The solid with a ball at each of several places: on each side of its box in the middle and, where there is room, towards its ends.

    An empty template has none.
    """
    bounds = shape.bounds()
    if bounds is None:
        return []
    low, high = bounds
    middle, half = (low + high) / 2, (high - low) / 2
    radius = RADIUS * half.min()
    along = [[0.0] if side < 2 * radius else [-float(side - radius), 0.0, float(side - radius)] for side in half]
    result = []
    for axis in range(3):
        beyond = float(half[axis] + SUNK * radius)
        places = [[-beyond, beyond] if i == axis else along[i] for i in range(3)]
        result += [_with_ball(shape, middle + torch.tensor(place).to(middle), radius, low, high) for place in product(*places)]
    return result


def _with_ball(shape: Shape, centre: Tensor, radius: Tensor, low: Tensor, high: Tensor) -> Shape:
    """The union of a solid that lies between ``low`` and ``high`` (3,) and a ball, in a box around both; metres, the same origin."""
    low, high = torch.minimum(low, centre - radius), torch.maximum(high, centre + radius)
    reach = torch.maximum(high, -low)  # the box is centred on the origin
    other = Shape.in_box(max(shape.grid.shape), (reach + 0.2 * reach.mean()).cpu(), shape.softness).to(shape.grid.device)
    points = other.voxels().view(-1, 3)
    field = torch.maximum(shape.field(points), radius - (points - centre).norm(dim=-1))
    other.grid.copy_(field.view(other.grid.shape) * 1e3)
    return other
