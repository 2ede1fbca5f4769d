"""A part: its surface, the convex pieces it collides with, its symmetries, and the moments of its surface. Metres, part frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Symmetries:
    """Rotations about the part frame's origin after which a part looks the same.

    Attributes:
        discrete: (n, 3, 3) float64, all of them but the identity and those about a continuous axis alone. With a continuous
            axis, one rotation stands for all that differ from it by a turn about the axis.
        axes: (m, 3) float64 unit vectors: about these, any angle will do.
    """

    discrete: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 3)))
    axes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass(frozen=True, eq=False)
class Part:
    """One rigid part. The origin of the part frame is the surface centroid.

    Attributes:
        name: lower-case name, used in files and on the command line.
        vertices: (V, 3) float64, metres.
        faces: (F, 3) int64, counter-clockwise seen from outside; a closed surface.
        hulls: convex collision pieces, each the (Vi, 3) float64 vertices of a convex polyhedron, metres. Together they
            cover the part; narrow bores may be filled.
        chiral: True if the part is not its own mirror image (such images must not be flipped for training).
        color: RGB in [0, 1], what the part looks like when nothing else is asked for.
        symmetries: rotations that leave the part as it is.
        offset: (3,) float64 metres, origin of the part frame in the frame of the file or drawing the part came from.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    hulls: tuple[np.ndarray, ...]
    chiral: bool
    color: tuple[float, float, float] = (0.6, 0.6, 0.6)
    symmetries: Symmetries = Symmetries()
    offset: np.ndarray | None = None

    @classmethod
    def from_surface(
        cls,
        name: str,
        vertices: np.ndarray,
        faces: np.ndarray,
        hulls: list[np.ndarray],
        *,
        chiral: bool,
        color: tuple[float, float, float] = (0.6, 0.6, 0.6),
        symmetries: Symmetries = Symmetries(),
    ) -> Part:
        """Build a part from geometry in any frame (metres); the origin is moved to the surface centroid."""
        offset = surface_moments(vertices, faces)[1]
        arrays = [np.ascontiguousarray(points - offset, np.float64) for points in (vertices, *hulls)]
        faces = np.ascontiguousarray(faces, np.int64)
        for array in (*arrays, faces, offset):
            array.setflags(write=False)  # parts are cached and shared
        return cls(name, arrays[0], faces, tuple(arrays[1:]), chiral, color, symmetries, offset)

    @cached_property
    def diameter(self) -> float:
        """Largest distance between two vertices, metres (BOP's definition)."""
        return largest_distance(self.vertices)

    @cached_property
    def radius(self) -> float:
        """Radius of the smallest sphere around the origin of the part frame that holds the part, metres."""
        points = np.concatenate([self.vertices, *self.hulls])
        return float(np.linalg.norm(points, axis=1).max())

    @cached_property
    def surface_centroid(self) -> np.ndarray:
        """(3,) float64 metres: area-weighted centroid of the surface, zero but for rounding."""
        return surface_moments(self.vertices, self.faces)[1]

    @cached_property
    def surface_covariance(self) -> np.ndarray:
        """(3, 3) float64 m²: area-weighted second central moments of the surface."""
        return surface_moments(self.vertices, self.faces)[2]

    @cached_property
    def volume(self) -> float:
        """Enclosed volume, m³."""
        return volume_moments(self.vertices, self.faces)[0]


def surface_moments(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Exact moments of a triangulated surface of uniform density.

    For one triangle with corners a, b, c and area A: ∫x dA = A (a+b+c)/3 and
    ∫x xᵀ dA = A/12 (a aᵀ + b bᵀ + c cᵀ + (a+b+c)(a+b+c)ᵀ).

    Returns:
        area, centroid (3,), covariance (3, 3) about the centroid, divided by the area.
    """
    corners = vertices[faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = area.sum()
    centroid = area @ corners.mean(1) / total
    corners = corners - centroid
    sums = corners.sum(1)
    second = np.einsum("f,fki,fkj->ij", area, corners, corners) + np.einsum("f,fi,fj->ij", area, sums, sums)
    return float(total), centroid, second / (12 * total)


def volume_moments(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Exact moments of the solid inside a closed surface, from signed tetrahedra to a common corner.

    Returns:
        volume, centroid (3,), covariance (3, 3) about the centroid, divided by the volume.
    """
    origin = vertices.mean(0)
    corners = vertices[faces] - origin
    signed = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    volume = signed.sum()
    sums = corners.sum(1)
    centroid = signed @ sums / (4 * volume)
    second = np.einsum("f,fki,fkj->ij", signed, corners, corners) + np.einsum("f,fi,fj->ij", signed, sums, sums)
    return float(volume), centroid + origin, second / (20 * volume) - np.outer(centroid, centroid)


def largest_distance(points: np.ndarray) -> float:
    """Largest distance between two of the points (V, 3); only corners of their convex hull are compared."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    return float(pdist(points[ConvexHull(points).vertices]).max())
