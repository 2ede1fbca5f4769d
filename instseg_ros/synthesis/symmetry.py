"""Which rotations and mirrors map a part on itself, found from its surface."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.spatial import ConvexHull, cKDTree
from scipy.spatial.transform import Rotation

from .part import Symmetries, largest_distance, surface_moments

SAMPLES = 20_000
TOLERANCE = 0.004
"""Of the part's size: a mirrored surface that stays this close to the surface is the same."""
ALIKE = 0.01
"""Of the part's diameter: a turned surface that stays this close to the surface everywhere is the same (0.5 to 0.8 mm of our
parts, what a depth camera resolves at 0.6 m)."""
MOST_TURNS = 36
"""Highest order of an axis; a part with more equal teeth counts as round where they are shallow, as not symmetric otherwise."""
MOST_AXES, APART = 60, np.radians(8)
"""Candidates for axes of a part with the moments of a ball: so many where it reaches farthest, so many where least."""
ODD_ANGLES = 2 * np.pi * np.array([0.0809, 0.1306, 0.2113, 0.3422, 0.4287])
"""No multiples of a small fraction of a turn: after all of these only a surface of revolution looks the same."""


def is_chiral(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether no mirror plane was found among the three planes normal to the principal axes of the surface.

    Errs towards True, the safe side: it forbids an augmentation. A part whose principal axes are not unique and whose
    only mirror planes lie between them (a square pyramid) can count as chiral.

    Args:
        vertices: (V, 3). faces: (F, 3), a closed surface.
    """
    _, centroid, covariance = surface_moments(vertices, faces)
    axes = np.linalg.eigh(covariance)[1]
    moved = (vertices - centroid) @ axes
    size = float(np.ptp(moved, axis=0).max())
    points, normals = sample_surface(moved, faces, SAMPLES, np.random.default_rng(0))
    return not any(_is_mirror(points, normals, axis, TOLERANCE * size) for axis in range(3))


def find_symmetries(vertices: np.ndarray, faces: np.ndarray) -> Symmetries:
    """Rotations about the surface centroid that map a part on itself within ``ALIKE``.

    Each rotation in the answer was tested by itself. Every symmetry keeps the centroid and the principal axes of the surface. So an axis of order two is a principal axis, or
    lies in a plane (for a part with the moments of a ball: in space) in which all axes are principal ones, and an axis of
    higher order is normal to such a plane.

    Args:
        vertices: (V, 3). faces: (F, 3), a closed surface.
    """
    _, centroid, covariance = surface_moments(vertices, faces)
    surface = _Surface(vertices - centroid, faces)
    moments, principal = np.linalg.eigh(covariance)
    equal = np.diff(moments) < 0.02 * moments[-1]
    if equal.all():
        found = _of_a_ball(surface)
    elif equal.any():
        axis, across = (principal[:, 2], principal[:, 0]) if equal[0] else (principal[:, 0], principal[:, 2])
        found = _of_an_axis(surface, axis, across)
    else:
        found = Symmetries(_group(turn(axis, 2) for axis in principal.T if surface.same(turn(axis, 2))))
    tested = [rotation for rotation in found.discrete if surface.same(rotation)]
    signs = [np.sign(axis[np.abs(axis).argmax()]) for axis in found.axes]  # an axis has no direction: the same one every time
    return Symmetries(np.array(tested).reshape(-1, 3, 3), found.axes * np.reshape(signs, (-1, 1)))


def turn(axis: np.ndarray | tuple[float, float, float], order: float) -> np.ndarray:
    """(3, 3) rotation by 1 / ``order`` of a full turn about a unit vector."""
    return Rotation.from_rotvec(2 * np.pi / order * np.asarray(axis, float)).as_matrix()


def about(
    axis: tuple[float, float, float], order: int | None, across: tuple[float, float, float] | None = None
) -> Symmetries:
    """Symmetries of a part with one main axis (unit vector).

    Args:
        order: of the axis, None = any angle.
        across: another axis, normal to the first, about which half a turn is a symmetry too.
    """
    flips = [] if across is None else [turn(across, 2)]
    if order is None:
        return Symmetries(np.array(flips).reshape(-1, 3, 3), np.array([axis], float))
    return Symmetries(_group([turn(axis, order), *flips]))


class _Surface:
    """Asks how far a rotated surface is from itself. Origin at the centroid."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self.vertices, self.limit = vertices, ALIKE * largest_distance(vertices)
        self.triangles = vertices[faces]
        samples, _, face = sample_faces(vertices, faces, SAMPLES, np.random.default_rng(0))
        # Faces too small for a sample must be found too: by points near their corners.
        inset = 0.9 * self.triangles + 0.1 * self.triangles.mean(1, keepdims=True)
        self.tree = cKDTree(np.concatenate([samples, inset.reshape(-1, 3)]))
        self.face = np.concatenate([face, np.repeat(np.arange(len(faces)), 3)])
        corners = vertices[np.unique(faces)]
        self.probes = np.concatenate([samples[:: SAMPLES // 1500], corners[:: max(len(corners) // 500, 1)]])

    def same(self, rotation: np.ndarray) -> bool:
        """Whether the rotated surface stays within the limit of the surface."""
        few = self.probes[::16] @ rotation.T
        if (self.tree.query(few)[0] > 3 * self.limit).any():  # most rotations are far off: seen without triangles
            return False
        return self.deviation(rotation) < self.limit

    def deviation(self, rotation: np.ndarray, every: int = 1) -> float:
        """Largest distance of the rotated probes from the surface: to the triangles that hold the nearest samples."""
        from trimesh.triangles import closest_point

        probes = self.probes[::every] @ rotation.T
        near = self.face[self.tree.query(probes, k=12)[1]]
        points = np.repeat(probes, near.shape[1], axis=0)
        distance = np.linalg.norm(closest_point(self.triangles[near.ravel()], points) - points, axis=1)
        return float(distance.reshape(near.shape).min(1).max())


def _of_an_axis(surface: _Surface, axis: np.ndarray, across: np.ndarray) -> Symmetries:
    """A part with two equal moments: turns about ``axis``, and flips about axes normal to it."""
    order = _order(surface, axis)
    if order is None:  # then one axis across is as good as another
        return about(axis, None, across if surface.same(turn(across, 2)) else None)
    return about(axis, order, _flip(surface, axis, across, order))


def _order(surface: _Surface, axis: np.ndarray) -> int | None:
    """Order of an axis, None for a surface of revolution, 1 for no axis of symmetry."""
    if all(surface.same(turn(axis, 2 * np.pi / angle)) for angle in ODD_ANGLES):
        return None
    orders = (n for n in range(MOST_TURNS, 1, -1) if all(surface.same(turn(axis, n / k)) for k in range(1, n // 2 + 1)))
    return next(orders, 1)


def _flip(surface: _Surface, axis: np.ndarray, across: np.ndarray, order: int) -> np.ndarray | None:
    """An axis normal to ``axis`` about which half a turn is a symmetry. They come every 1 / (2 order) of a turn: looked for at
    every degree in such a sector, then at the best one's neighbours."""
    other = np.cross(axis, across)
    sector = np.pi / order
    direction = lambda angle: np.cos(angle) * across + np.sin(angle) * other  # noqa: E731
    coarse = np.arange(0, sector, np.radians(1.0))
    best = min(coarse, key=lambda angle: surface.deviation(turn(direction(angle), 2), every=8))
    for step in np.radians((0.25, 0.05)):
        fine = best + step * np.arange(-4, 5)
        best = min(fine, key=lambda angle: surface.deviation(turn(direction(angle), 2), every=4))
    found = direction(best)
    return found if surface.same(turn(found, 2)) else None


def _of_a_ball(surface: _Surface) -> Symmetries:
    """A part with three equal moments (cube, ball). Axes are looked for where its hull is farthest and nearest: corners and
    faces of a cube, rounded or not; half turns about the edges follow from these. Rounder bodies may have some not found."""
    if all(surface.same(turn(axis, 2 * np.pi / angle)) for axis in np.eye(3) for angle in ODD_ANGLES):
        return Symmetries(axes=np.eye(3))
    hull = ConvexHull(surface.vertices)
    corners = surface.vertices[hull.simplices]
    edges = (corners + np.roll(corners, 1, axis=1)).reshape(-1, 3) / 2
    faces = -hull.equations[:, :3] * hull.equations[:, 3:]
    points = np.concatenate([faces, surface.vertices[hull.vertices], edges])
    reach = np.linalg.norm(points, axis=1)
    axes = np.concatenate([_spread(points[np.argsort(way * reach)]) for way in (-1, 1)])
    found = [turn(axis, n) for axis in axes for n in (2, 3, 4, 5) if surface.same(turn(axis, n))]
    return Symmetries(_group(found))


def _spread(points: np.ndarray) -> np.ndarray:
    """Directions of the first points that lie ``APART`` from all before them, signs apart; ``MOST_AXES`` of them at most."""
    axes = points / np.linalg.norm(points, axis=1, keepdims=True)
    kept = np.zeros((0, 3))
    while len(axes) and len(kept) < MOST_AXES:
        kept = np.concatenate([kept, axes[:1]])
        axes = axes[np.abs(axes @ axes[0]) < np.cos(APART)]
    return kept


def _group(generators: Iterable[np.ndarray]) -> np.ndarray:
    """(n, 3, 3) all products of rotations, without the identity."""
    found, new = [np.eye(3)], [np.eye(3)]
    generators = list(generators)
    while new and len(found) <= 120:
        products = [a @ b for a in new for b in generators]
        new = []
        for product in products:
            if all(np.abs(product - known).max() > 0.05 for known in found):
                found.append(product)
                new.append(product)
    return np.array(found[1:]).reshape(-1, 3, 3)


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` points (count, 3) spread evenly over a surface and the unit normals (count, 3) there."""
    return sample_faces(vertices, faces, count, rng)[:2]


def sample_faces(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As ``sample_surface``, and the face (count,) of each point."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(cross, axis=1)
    cumulative = np.cumsum(doubled) / doubled.sum()
    face = np.minimum(np.searchsorted(cumulative, (np.arange(count) + 0.5) / count), len(faces) - 1)
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    return a + u * (b - a) + v * (c - a), cross[face] / doubled[face, None], face


def _is_mirror(points: np.ndarray, normals: np.ndarray, axis: int, tolerance: float) -> bool:
    flipped = points[::4].copy()
    flipped[:, axis] *= -1
    nearest = cKDTree(points).query(flipped)[1]
    distance = np.abs(np.einsum("ij,ij->i", flipped - points[nearest], normals[nearest]))  # to the tangent plane
    return bool(np.percentile(distance, 95) < tolerance)
