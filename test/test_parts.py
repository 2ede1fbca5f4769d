"""Parts: closed surfaces, analytic volumes and moments, collision pieces that are convex and cover the part."""

from __future__ import annotations

import numpy as np
import pytest

manifold3d = pytest.importorskip("manifold3d")
trimesh = pytest.importorskip("trimesh")

from scipy.spatial import ConvexHull  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.synthesis.part import Part, largest_distance, surface_moments, volume_moments  # noqa: E402
from instseg_ros.synthesis.parts import PARTS, load_part  # noqa: E402
from instseg_ros.synthesis.solids import SEGMENTS, cylinder, surface, thread, union  # noqa: E402
from instseg_ros.synthesis.symmetry import find_symmetries, is_chiral, sample_surface, turn  # noqa: E402

MM = 1e-3
FILLED = {"connector": 0.55, "obj01": 0.26}
"""Part → share of its volume that the filled bores may add; 12 % for all others."""


SYMMETRIES = {"nut": 11, "cylinder": 1, "connector": 1, "obj01": 1, "obj14": 1}
"""Part → rotations other than the identity that leave it as it is; a nut's are the dihedral group of the hexagon."""


@pytest.fixture(params=PARTS)
def part(request: pytest.FixtureRequest) -> Part:
    return load_part(request.param)


def outside(points: np.ndarray, hulls: tuple[np.ndarray, ...]) -> np.ndarray:
    """How far every point lies outside of the nearest convex piece, by its most violated face; negative inside."""
    best = np.full(len(points), np.inf)
    for hull in hulls:
        planes = ConvexHull(hull).equations
        best = np.minimum(best, (points @ planes[:, :3].T + planes[:, 3]).max(1))
    return best


def test_surface_is_one_closed_solid(part: Part) -> None:
    mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.body_count == 1
    assert part.volume > 0 and mesh.volume == pytest.approx(part.volume)
    assert len(part.faces) <= 3000
    assert mesh.area_faces.min() > 0


def test_size_and_frame(part: Part) -> None:
    assert 45 * MM < part.diameter < 85 * MM
    assert part.diameter / 2 <= part.radius < part.diameter
    assert np.abs(part.surface_centroid).max() < 1e-12
    assert part.vertices.dtype == np.float64 and part.faces.dtype == np.int64
    assert not part.vertices.flags.writeable
    assert load_part(part.name) is part


def test_collision_pieces_are_convex_and_cover_the_part(part: Part) -> None:
    assert 1 <= len(part.hulls) <= 16
    for hull in part.hulls:
        assert len(ConvexHull(hull).vertices) == len(np.unique(hull.round(9), axis=0))  # no vertex lies inside
    points = np.concatenate([part.vertices, sample_surface(part.vertices, part.faces, 3000, np.random.default_rng(1))[0]])
    assert outside(points, part.hulls).max() < 0.03 * MM


def test_collision_pieces_add_little(part: Part) -> None:
    drawing = PARTS[part.name]()
    solid, pieces = drawing.solid, union([piece.hull() for piece in drawing.pieces])
    added = (pieces - solid).volume() / solid.volume()
    assert added < FILLED.get(part.name, 0.12)
    assert (solid - pieces).volume() < 2.0  # mm³
    low, high = part.vertices.min(0), part.vertices.max(0)
    points = np.concatenate(part.hulls)
    assert np.allclose(points.min(0), low, atol=0.05 * MM) and np.allclose(points.max(0), high, atol=0.05 * MM)


def test_chirality_is_declared_right(part: Part) -> None:
    assert part.chiral == (part.name == "bolt")
    assert is_chiral(part.vertices, part.faces) == part.chiral


def shared(part: Part, rotation: np.ndarray) -> float:
    """Volume that a part shares with itself, turned about the origin, over its volume: by booleans of exact solids."""
    one, other = (
        manifold3d.Manifold(manifold3d.Mesh64(vertices / MM, part.faces.astype(np.uint64)))
        for vertices in (part.vertices, part.vertices @ rotation.T)
    )
    return (one ^ other).volume() / one.volume()


def test_declared_symmetries_leave_the_part_as_it_is(part: Part) -> None:
    found = part.symmetries
    turns = [turn(axis, 360 / angle) for axis in found.axes for angle in (1.0, 17.0, 90.0)]
    for rotation in [*found.discrete, *turns, *(flip @ one for flip in found.discrete for one in turns)]:
        assert np.allclose(rotation @ rotation.T, np.eye(3)) and np.linalg.det(rotation) == pytest.approx(1)
        assert shared(part, rotation) > 0.98


def test_declared_symmetries_are_those_of_the_surface(part: Part) -> None:
    declared, found = part.symmetries, find_symmetries(part.vertices, part.faces)
    assert np.allclose(declared.axes, found.axes, atol=1e-3)
    assert len(declared.discrete) == len(found.discrete) == SYMMETRIES.get(part.name, 0)
    if not len(declared.axes):  # with an axis, which of the flips stands for all is free
        for rotation in declared.discrete:
            assert min(np.abs(rotation - other).max() for other in found.discrete) < 0.02


def test_thread_is_right_handed() -> None:
    """Walking up the crest, the angle grows: turned by +90° the thread is the same a quarter of a pitch lower."""
    rod = thread(10, 1.6, 5, 0, 40)
    middle = cylinder(12, 10, 30)
    turned = rod.rotate((0, 0, 90))
    up, down = turned.translate((0, 0, 1.25)) ^ middle, turned.translate((0, 0, -1.25)) ^ middle
    straight = rod ^ middle
    assert (up - straight).volume() < 1e-6 * straight.volume() < 0.05 * (down - straight).volume()


def test_volumes_against_formulas() -> None:
    polygon = SEGMENTS / 2 * np.sin(2 * np.pi / SEGMENTS)  # area of the inscribed regular polygon, unit radius
    assert load_part("cylinder").volume == pytest.approx(polygon * 15**2 * 42 * MM**3)
    assert load_part("cylinder").volume == pytest.approx(np.pi * 15**2 * 42 * MM**3, rel=5e-3)
    assert load_part("cone").volume == pytest.approx(np.pi * 18**2 * 48 / 3 * MM**3, rel=5e-3)


def test_surface_moments_of_box_and_sphere() -> None:
    box = trimesh.creation.box((2.0, 3.0, 5.0))
    area, centroid, covariance = surface_moments(box.vertices + 7, box.faces)
    a, b, c = 2.0, 3.0, 5.0
    x2 = 2 * (b * c * a**2 / 4 + (a * b + a * c) * a**2 / 12) / area  # two faces at ±a/2, four spread over a
    y2 = 2 * (a * c * b**2 / 4 + (a * b + b * c) * b**2 / 12) / area
    z2 = 2 * (a * b * c**2 / 4 + (a * c + b * c) * c**2 / 12) / area
    assert area == pytest.approx(62) and np.allclose(centroid, 7)
    assert np.allclose(covariance, np.diag([x2, y2, z2]))

    sphere = trimesh.creation.icosphere(subdivisions=5, radius=2.0)
    assert np.allclose(surface_moments(sphere.vertices, sphere.faces)[2], np.eye(3) * 4 / 3, rtol=2e-3, atol=1e-9)


def test_surface_moments_against_monte_carlo(part: Part) -> None:
    points = sample_surface(part.vertices, part.faces, 200_000, np.random.default_rng(3))[0]
    scale = part.diameter
    assert np.abs(points.mean(0) - part.surface_centroid).max() < 1e-3 * scale
    assert np.abs(np.cov(points.T) - part.surface_covariance).max() < 1e-3 * scale**2


def test_volume_moments_against_trimesh(part: Part) -> None:
    mesh = trimesh.Trimesh(part.vertices, part.faces, process=False)
    volume, centroid, covariance = volume_moments(part.vertices, part.faces)
    inertia = volume * (np.trace(covariance) * np.eye(3) - covariance)
    assert volume == pytest.approx(mesh.volume)
    assert np.allclose(centroid, mesh.center_mass, atol=1e-9)
    assert np.allclose(inertia, mesh.moment_inertia, rtol=1e-6, atol=1e-12)


def test_origin_moves_to_the_surface_centroid_and_is_recorded() -> None:
    vertices, faces = surface(cylinder(1, 0, 2))
    part = Part.from_surface("rod", vertices + [3, 0, 0], faces, [vertices + [3, 0, 0]], chiral=False)
    assert np.allclose(part.offset, [3, 0, 1])
    assert np.allclose(part.vertices + part.offset, vertices + [3, 0, 0])
    assert np.allclose(part.hulls[0], part.vertices)


def test_largest_distance_is_not_the_box_diagonal() -> None:
    assert largest_distance(trimesh.creation.icosphere(radius=1.0).vertices) == pytest.approx(2.0)


def test_unknown_part_names_the_ten() -> None:
    with pytest.raises(InputError, match="unknown part 'nutt'.*plug5.*--mesh"):
        load_part("nutt")
