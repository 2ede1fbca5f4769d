"""Is a part its own mirror image? Images of a chiral part must not be flipped for training."""

from __future__ import annotations

import numpy as np

from .part import surface_moments

SAMPLES = 20_000
TOLERANCE = 0.004
"""Of the part's size: a mirrored surface that stays this close to the surface is the same."""


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


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """``count`` points (count, 3) spread evenly over a surface and the unit normals (count, 3) there."""
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(cross, axis=1)
    cumulative = np.cumsum(doubled) / doubled.sum()
    face = np.minimum(np.searchsorted(cumulative, (np.arange(count) + 0.5) / count), len(faces) - 1)
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    a, b, c = corners[face].transpose(1, 0, 2)
    return a + u * (b - a) + v * (c - a), cross[face] / doubled[face, None]


def _is_mirror(points: np.ndarray, normals: np.ndarray, axis: int, tolerance: float) -> bool:
    from scipy.spatial import cKDTree

    flipped = points[::4].copy()
    flipped[:, axis] *= -1
    nearest = cKDTree(points).query(flipped)[1]
    distance = np.abs(np.einsum("ij,ij->i", flipped - points[nearest], normals[nearest]))  # to the tangent plane
    return bool(np.percentile(distance, 95) < tolerance)
