"""Bores of the template: holes drilled into it somewhere, to be kept where they explain the images better.

A template begins as a ball and stays closed. A part that shows the mouth of its bore to the camera is contradicted there: the camera
sees farther than the closed end allows. So its pose is not found, nothing pulls the end inwards, and the part is left out of the answer.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from ..methods.insegan.shape import Shape

RADIUS = 0.4
"""Of a bore, in the half width of what it is drilled into."""
SOLID = 0.6
"""Share of its length, at least, that a bore must lead through the solid: otherwise it is one already, or misses it."""


@torch.no_grad()
def bored(shape: Shape) -> list[Shape]:
    """The solid with a round bore at each of several places, along each axis of its box: through it, or from either end to the middle.

    Bores lie in the middle and, where there is room, towards the sides. An empty template has none.
    """
    bounds = shape.bounds()
    if bounds is None:
        return []
    low, high = bounds
    middle, half = (low + high) / 2, (high - low) / 2
    result = []
    for axis in range(3):
        across = [i for i in range(3) if i != axis]
        width = half[across].min()  # of what is drilled into
        along = [[0.0] if side < 1.4 * width else [-float(side - width), 0.0, float(side - width)] for side in half[across]]
        for place in product(*along):
            point = middle.clone()
            point[across] += torch.tensor(place).to(point)
            for begin, end in ((low, high), (low, middle), (middle, high)):
                if _solid(shape, axis, point, begin[axis], end[axis]) > SOLID:
                    result.append(drilled(shape, axis, point, RADIUS * float(width), float(begin[axis]), float(end[axis])))
    return result


def _solid(shape: Shape, axis: int, point: Tensor, begin: Tensor, end: Tensor) -> float:
    """The share that is inside of the line through ``point`` (3,) along ``axis``, between two coordinates."""
    line = point.expand(16, 3).clone()
    line[:, axis] = begin + (end - begin) * torch.linspace(0, 1, 16, device=point.device)
    return float((shape.field(line) > 0).float().mean())


@torch.no_grad()
def drilled(shape: Shape, axis: int, point: Tensor, radius: float, begin: float, end: float) -> Shape:
    """The solid less a cylinder about the line through ``point`` (3,) along ``axis``, between two coordinates; metres."""
    points = shape.voxels()
    offset = points - point.to(points)
    offset[..., axis] = 0
    beyond = (end - begin) / 8  # open at the mouth, whose face need not be flat
    position = points[..., axis]
    hole = torch.minimum(radius - offset.norm(dim=-1), torch.minimum(position - begin, end - position) + beyond)
    return _with(shape, torch.minimum(shape.grid, -hole[None, None] * 1e3))


@torch.no_grad()
def united(first: Shape, second: Shape) -> Shape:
    """A solid with the bores of two that have the same grid."""
    return _with(first, torch.minimum(first.grid, second.grid))


def _with(shape: Shape, grid: Tensor) -> Shape:
    other = Shape(tuple(grid.shape[2:]), tuple(shape.extent.tolist()), shape.softness).to(grid.device)
    other.grid.copy_(grid)
    return other
