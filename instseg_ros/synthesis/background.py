"""The bin and the ground around it as one triangle mesh."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .physics import Bin

GROUND, FLOOR, WALLS = 0, 1, 2
"""Surface numbers of the background's faces."""

GROUND_HALF = 5.0
"""Half side of the square ground plane (m): fills any view of a bin from above."""

_BOX_CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
_BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    + [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)


def background_mesh(bin: Bin) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3) m in the bin frame, faces (F, 3), surface number (F,): ground, bin floor and the four walls.

    The bin stands on the ground: its floor plate is as thick as its walls.
    """
    a, b, t, top = bin.half_x, bin.half_y, bin.wall_thickness, bin.wall_height
    g = GROUND_HALF
    quad = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    vertices = [
        np.column_stack([quad * g, np.full(4, -t)]),
        np.column_stack([quad * (a, b), np.zeros(4)]),
    ]
    faces = [np.array([[0, 1, 2], [0, 2, 3]]), np.array([[4, 5, 6], [4, 6, 7]])]
    surface = [GROUND] * 2 + [FLOOR] * 2
    for low, high in (
        ((-a - t, -b - t), (-a, b + t)),
        ((a, -b - t), (a + t, b + t)),
        ((-a, -b - t), (a, -b)),
        ((-a, b), (a, b + t)),
    ):
        low3, high3 = np.array([*low, -t]), np.array([*high, top])
        faces.append(_BOX_FACES + sum(map(len, vertices)))
        vertices.append(low3 + _BOX_CORNERS * (high3 - low3))
        surface += [WALLS] * len(_BOX_FACES)
    return np.concatenate(vertices).astype(np.float64), np.concatenate(faces).astype(np.int64), np.array(surface)
