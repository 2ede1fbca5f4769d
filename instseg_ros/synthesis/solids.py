"""Solid building blocks for parts (manifold3d), millimetres, axes along z."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from manifold3d import CrossSection, Manifold, Mesh64, OpType

SEGMENTS = 40
"""Sides of a full circle: the sagitta of a 30 mm radius is 0.09 mm."""


def cylinder(radius: float, low: float, high: float, top: float | None = None, *, segments: int = SEGMENTS) -> Manifold:
    """Cylinder or, with another ``top`` radius, frustum between two heights."""
    solid = Manifold.cylinder(high - low, radius, radius if top is None else top, segments)
    return solid.translate((0, 0, low))


def stack(profile: Sequence[tuple[float, float]], *, segments: int = SEGMENTS) -> list[Manifold]:
    """Convex frusta of a body of revolution given by (radius, height) points from the bottom to the top.

    Two points at the same height make a step and no frustum.
    """
    pairs = zip(profile, profile[1:])
    return [cylinder(r0, z0, z1, r1, segments=segments) for (r0, z0), (r1, z1) in pairs if z1 > z0]


def box(x: float, y: float, low: float, high: float, centre: tuple[float, float] = (0.0, 0.0)) -> Manifold:
    """Box of full sizes ``x``, ``y`` around ``centre`` between two heights."""
    return Manifold.cube((x, y, high - low)).translate((centre[0] - x / 2, centre[1] - y / 2, low))


def hexagon(across_flats: float, low: float, high: float, *, chamfered: Iterable[float] = ()) -> Manifold:
    """Hexagonal prism; its corners are turned off by 30° at the heights ``chamfered`` (ISO 4017 heads, ISO 4032 nuts)."""
    corner = across_flats / 3**0.5
    solid = Manifold.cylinder(high - low, corner, corner, 6).translate((0, 0, low))
    slope = 3**0.5  # radius gained per height
    for height in chamfered:
        reach = (high - low) * slope
        face = 0.475 * across_flats
        radii = (face, face + reach) if height == low else (face + reach, face)
        solid ^= cylinder(radii[0], low, high, radii[1])
    return solid


def wedges(solid: Manifold, count: int, inner: float, *, turn: float = 0.0) -> list[Manifold]:
    """Convex pieces that cover ``solid`` outside of a round bore of radius ``inner`` along z.

    Args:
        solid: convex body (before boring).
        count: number of equal sectors; the bore becomes a regular polygon inscribed in it.
        inner: radius of the bore.
        turn: degrees from x to the first sector boundary.
    """
    reach, step = 2 * _reach(solid), 2 * np.pi / count
    pieces = []
    for index in range(count):
        angle = np.radians(turn) + step * index
        rays = np.array([[np.cos(a), np.sin(a)] for a in (angle, angle + step)])
        outline = np.concatenate([rays * reach, rays[::-1] * inner])
        piece = Manifold.extrude(CrossSection([outline]), 2 * reach).translate((0, 0, -reach))
        pieces.append(solid ^ piece)
    return pieces


def thread(
    radius: float, depth: float, pitch: float, low: float, high: float, *, segments: int = 24
) -> Manifold:
    """Threaded rod: a right-handed helical thread with a symmetric trapezoidal profile, cut flat at both heights.

    The surface is a grid over angle and height, sheared so that a grid row follows the helix.
    """
    profile = np.array([radius, radius, radius - depth, radius - depth])  # crest, flank, root, flank
    rows = len(profile)
    turns = int(np.ceil((high - low) / pitch)) + 3
    angle = np.arange(segments) / segments
    count = turns * rows
    row = np.arange(count)
    z = low - 1.5 * pitch + (row[:, None] / rows + angle[None]) * pitch
    r = np.broadcast_to(profile[row % rows][:, None], z.shape)
    grid = np.stack([r * np.cos(2 * np.pi * angle), r * np.sin(2 * np.pi * angle), z], -1)
    # After one turn, column 0 goes on one pitch higher: the last column joins row + rows of the first.
    index = np.arange((count) * segments).reshape(count, segments)
    right = np.roll(index, -1, axis=1)
    right[:, -1] = np.append(index[rows:, 0], [-1] * rows)
    a, b, c, d = index[:-1], right[:-1], right[1:], index[1:]
    quads = np.stack([a, b, c, d], -1).reshape(-1, 4)
    quads = quads[(quads >= 0).all(1)]
    vertices = grid.reshape(-1, 3)
    bottom, top = len(vertices), len(vertices) + 1
    vertices = np.concatenate([vertices, [[0, 0, vertices[:, 2].min() - pitch], [0, 0, vertices[:, 2].max() + pitch]]])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    # Close both ends: a fan over the edges that have no partner.
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    partners = {(int(p), int(q)) for p, q in edges}
    open_edges = [edge for edge in map(tuple, edges.tolist()) if edge[::-1] not in partners]
    middle = len(vertices) // 2
    fans = [(q, p, bottom if p < middle else top) for p, q in open_edges]
    mesh = Mesh64(vertices, np.concatenate([triangles, fans]).astype(np.uint64))
    rod = Manifold(mesh)
    return rod ^ cylinder(2 * radius, low, high)


def union(solids: Sequence[Manifold]) -> Manifold:
    """All the solids in one."""
    return Manifold.batch_boolean(list(solids), OpType.Add)


def ring(solid: Manifold, count: int, *, turn: float = 0.0) -> list[Manifold]:
    """``count`` copies of a solid, turned evenly about z, the first by ``turn`` degrees."""
    return [solid.rotate((0, 0, turn + 360 * k / count)) for k in range(count)]


def surface(solid: Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 of a solid, in its own unit."""
    mesh = solid.to_mesh64()
    return np.array(mesh.vert_properties[:, :3], np.float64), np.array(mesh.tri_verts, np.int64)


def corners(piece: Manifold) -> np.ndarray:
    """Vertices (V, 3) float64 of the convex hull of a solid."""
    return surface(piece.hull())[0]


def _reach(solid: Manifold) -> float:
    return float(np.abs(solid.bounding_box()).max())
