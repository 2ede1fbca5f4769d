"""The user's own mesh: read in any format and unit, refused with one clear sentence, decomposed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

trimesh = pytest.importorskip("trimesh")
manifold3d = pytest.importorskip("manifold3d")
pytest.importorskip("coacd")

from scipy.spatial import ConvexHull  # noqa: E402

from instseg_ros.errors import InputError  # noqa: E402
from instseg_ros.synthesis import convex  # noqa: E402
from instseg_ros.synthesis.mesh import MOST_FACES, load_mesh  # noqa: E402
from instseg_ros.synthesis.symmetry import find_symmetries, is_chiral, turn  # noqa: E402


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("INSTSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def bracket() -> trimesh.Trimesh:
    """An L of 40 × 10 × 20 mm with a leg of 30 mm: 12 000 mm³."""
    outline = manifold3d.CrossSection([[(0, 0), (40, 0), (40, 10), (10, 10), (10, 30), (0, 30)]])
    mesh = manifold3d.Manifold.extrude(outline, 20).to_mesh64()
    return trimesh.Trimesh(mesh.vert_properties, mesh.tri_verts, process=False)


def save(mesh: trimesh.Trimesh, file: Path) -> Path:
    mesh.export(file)
    return file


def refuse(file: Path, message: str, units: str = "mm") -> None:
    with pytest.raises(InputError, match=message) as error:
        load_mesh(file, units)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["stl", "obj", "ply", "STL"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    box = trimesh.creation.box((20, 30, 50))
    box.apply_translation((100, 0, 0))
    file = tmp_path / f"My Part.{suffix}"
    box.export(file, file_type=suffix.lower())
    part = load_mesh(file, "mm")
    assert part.name == "my_part"
    assert part.volume == pytest.approx(30e-6) and part.diameter == pytest.approx(np.sqrt(3800) * 1e-3)
    assert np.allclose(part.offset, (0.1, 0, 0)) and np.allclose(part.surface_centroid, 0, atol=1e-9)
    assert len(part.hulls) == 1 and len(part.hulls[0]) == 8 and not part.chiral


@pytest.mark.parametrize(("units", "scale"), [("mm", 1e-3), ("cm", 1e-2), ("m", 1.0), ("in", 0.0254)])
def test_units(tmp_path: Path, units: str, scale: float) -> None:
    file = save(trimesh.creation.box((0.04 / scale, 0.04 / scale, 0.04 / scale)), tmp_path / "box.ply")
    assert load_mesh(file, units, name="cube").volume == pytest.approx(0.04**3, rel=1e-5)


def test_concave_part_is_covered_and_decomposed_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save(bracket(), tmp_path / "bracket.stl")
    part = load_mesh(file, "mm")
    assert 2 <= len(part.hulls) <= 16
    volume = sum(ConvexHull(hull).volume for hull in part.hulls)
    assert volume == pytest.approx(part.volume, rel=0.02) and part.volume == pytest.approx(12e-6)
    inside = [ConvexHull(hull).equations for hull in part.hulls]
    gap = np.min([(part.vertices @ e[:, :3].T + e[:, 3]).max(1) for e in inside], axis=0)
    assert gap.max() < 0.1e-3

    stored = list(cache.iterdir())
    assert len(stored) == 1 and stored[0].suffix == ".npz"
    monkeypatch.setattr(convex, "_decompose", lambda *_: pytest.fail("decomposed again"))
    again = load_mesh(file, "mm")
    assert [h.tobytes() for h in again.hulls] == [h.tobytes() for h in part.hulls]


def test_damaged_cache_is_made_again(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [np.eye(4, 3), np.eye(4, 3) + 1]
    monkeypatch.setattr(convex, "_decompose", lambda *_: pieces)
    file = save(bracket(), tmp_path / "bracket.stl")
    load_mesh(file, "mm")
    stored = next(cache.iterdir())
    for damage in (b"", b"not a zip", stored.read_bytes()[:100]):
        stored.write_bytes(damage)
        assert len(load_mesh(file, "mm").hulls) == 2
        assert convex._cached(stored) is not None
    np.savez(stored, points=np.array([{"a": 1}], dtype=object), sizes=np.array([1]))  # a pickle inside
    assert convex._cached(stored) is None


def test_unwritable_cache_is_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INSTSEG_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(convex, "_decompose", lambda *_: [np.eye(4, 3)])
    load_mesh(save(bracket(), tmp_path / "bracket.stl"), "mm")
    assert "INSTSEG_CACHE" in caplog.text


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INSTSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert convex.cache_folder() == Path("/somewhere/instseg")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert convex.cache_folder() == Path.home() / ".cache" / "instseg"


def test_inside_out_and_mixed_faces_are_turned(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=20)
    mesh.faces[:] = mesh.faces[:, ::-1]
    mesh.faces[::3] = mesh.faces[::3, ::-1]
    part = load_mesh(save(mesh, tmp_path / "ball.ply"), "mm")
    assert part.volume == pytest.approx(4 / 3 * np.pi * 0.02**3, rel=0.05)


def test_fine_meshes_are_simplified_within_tolerance(tmp_path: Path) -> None:
    mesh = trimesh.creation.icosphere(subdivisions=6, radius=20)
    part = load_mesh(save(mesh, tmp_path / "ball.ply"), "mm")
    assert len(part.faces) < len(mesh.faces) / 2 < MOST_FACES
    assert np.abs(np.linalg.norm(part.vertices, axis=1) - 0.02).max() < 6e-5
    assert part.volume == pytest.approx(4 / 3 * np.pi * 0.02**3, rel=0.01)


def test_open_mesh_is_refused(tmp_path: Path) -> None:
    box = trimesh.creation.box((20, 30, 50))
    box.update_faces(np.arange(len(box.faces)) != 0)
    refuse(save(box, tmp_path / "box.stl"), "box.stl is open: 3 edges")


def test_non_manifold_mesh_is_refused(tmp_path: Path) -> None:
    vertices = np.array([[0, 0, 0], [30, 0, 0], [0, 30, 0], [0, 0, 30], [0, -30, -30]], float)
    two_on_one_edge = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [0, 1, 4], [1, 0, 4]]
    mesh = trimesh.Trimesh(vertices, two_on_one_edge, process=False)
    refuse(save(mesh, tmp_path / "fin.ply"), "fin.ply is not a manifold: 1 edges belong to more than two faces")


def test_flat_mesh_is_refused(tmp_path: Path) -> None:
    mesh = trimesh.creation.box((30, 30, 0.05))
    refuse(save(mesh, tmp_path / "sheet.ply"), "encloses no volume")


@pytest.mark.parametrize(
    ("size", "units", "remedy"), [(50, "m", "--units mm"), (0.05, "mm", "--units m$"), (1e-7, "m", "3 mm to 1 m")]
)
def test_absurd_sizes_suggest_other_units(tmp_path: Path, size: float, units: str, remedy: str) -> None:
    refuse(save(trimesh.creation.box((size,) * 3), tmp_path / "box.ply"), remedy, units)


def test_empty_and_missing_files_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "none.stl", "none.stl does not exist")
    refuse(tmp_path, "cannot read meshes of type")
    for suffix in ("stl", "obj", "ply"):
        (tmp_path / f"empty.{suffix}").write_bytes(b"")
        refuse(tmp_path / f"empty.{suffix}", "not a readable|holds no triangles")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    refuse(tmp_path / "points.obj", "points.obj")
    (tmp_path / "part.step").write_text("ISO-10303-21;")
    refuse(tmp_path / "part.step", "'.step', export it as STL, OBJ or PLY")


def test_coordinates_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    mesh = trimesh.creation.box((20, 30, 50))
    mesh.vertices[0, 0] = np.nan
    (tmp_path / "nan.obj").write_text(trimesh.exchange.obj.export_obj(mesh))
    refuse(tmp_path / "nan.obj", "not finite|not a readable")


def test_unknown_unit_is_refused(tmp_path: Path) -> None:
    refuse(save(trimesh.creation.box((20,) * 3), tmp_path / "box.stl"), "unknown unit 'furlong': choose mm, cm, m, in", "furlong")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400), suffix=st.sampled_from(["stl", "obj", "ply"]), ply=st.booleans())
def test_garbage_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str, ply: bool) -> None:
    file = tmp_path_factory.mktemp("garbage") / f"x.{suffix}"
    file.write_bytes((b"ply\nformat ascii 1.0\nelement vertex 3\n" if ply else b"") + data)
    with pytest.raises(InputError) as error:
        load_mesh(file, "mm")
    assert "\n" not in str(error.value)


def test_truncated_stl_is_refused(tmp_path: Path) -> None:
    file = save(trimesh.creation.box((20, 30, 50)), tmp_path / "box.stl")
    for keep in (40, 100, 300, 600):
        file.write_bytes(file.read_bytes()[:keep])
        refuse(file, "box.stl")


def test_chirality() -> None:
    box = trimesh.creation.box((20, 30, 50))
    assert not is_chiral(box.vertices, box.faces)
    outline = manifold3d.CrossSection([[(0, 0), (40, 0), (40, 10), (10, 10), (10, 30), (0, 30)]])
    mesh = manifold3d.Manifold.extrude(outline, 20)
    assert not is_chiral(*_surface(mesh))  # mirrored at half its height
    hook = mesh + manifold3d.Manifold.cube((10, 10, 15)).translate((0, 20, 20))
    assert is_chiral(*_surface(hook))


@pytest.mark.parametrize(
    ("mesh", "count", "axes"),
    [
        (trimesh.creation.box((30, 20, 10)), 3, 0),
        (trimesh.creation.box((20, 20, 50)), 7, 0),  # the dihedral group of the square
        (trimesh.creation.box((20, 20, 20)), 23, 0),  # rotations of the cube
        (trimesh.creation.cylinder(10, 40), 1, 1),
        (trimesh.creation.cone(10, 40), 0, 1),
        (trimesh.creation.icosphere(subdivisions=3), 0, 3),
        (trimesh.creation.cylinder(10, 8, sections=5), 9, 0),  # a pentagonal prism
    ],
)
def test_symmetries_of_known_solids(mesh: trimesh.Trimesh, count: int, axes: int) -> None:
    tilted = mesh.vertices @ turn((0.6, 0, 0.8), 7.3).T + [1, 2, 3]
    found = find_symmetries(tilted, mesh.faces)
    assert len(found.discrete) == count and len(found.axes) == axes
    products = [a @ b for a in found.discrete for b in found.discrete] if not axes else []
    group = [np.eye(3), *found.discrete]
    assert all(min(np.abs(product - one).max() for one in group) < 0.02 for product in products), "it must be a group"


def test_what_breaks_a_symmetry() -> None:
    box = manifold3d.Manifold.cube((30, 20, 10))
    for depth, count in ((0.1, 3), (2.0, 0)):  # too shallow to see, and not
        notched = box - manifold3d.Manifold.cube((4, 4, 4)).translate((3, 3, 10 - depth))
        assert len(find_symmetries(*_surface(notched)).discrete) == count


def _surface(solid: manifold3d.Manifold) -> tuple[np.ndarray, np.ndarray]:
    mesh = solid.to_mesh64()
    return mesh.vert_properties[:, :3], mesh.tri_verts.astype(np.int64)
