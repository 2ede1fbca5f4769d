"""The user's own part from an STL, OBJ or PLY file: checked, scaled to metres, cut into convex pieces for collision."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..errors import InputError
from .convex import convex_pieces, simplified
from .part import Part
from .symmetry import find_symmetries, is_chiral

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "in": 25.4e-3}
"""Unit → metres."""
FORMATS = (".stl", ".obj", ".ply")
SMALLEST, LARGEST = 3e-3, 1.0
"""Metres: parts beyond these were almost surely given in another unit."""
THINNEST = 1e-4
"""Metres: what the physics may let parts overlap."""
MANY_FACES, MOST_FACES = 5_000, 200_000
TOLERANCE = 5e-5
"""Metres: how far the surface of a mesh with many faces may move when it is simplified; a tenth of what a camera resolves."""


def load_mesh(path: str | Path, units: str, name: str | None = None) -> Part:
    """Read a closed triangle mesh as a part.

    The origin moves to the surface centroid; ``Part.offset`` keeps where that was in the file's frame (metres). Meshes of
    more than 5 000 faces are simplified within 0.05 mm. The convex pieces come from coacd, which takes seconds to minutes
    once; they are cached by the mesh's content (``convex.convex_pieces``).

    Args:
        path: STL, OBJ or PLY file.
        units: of the file's coordinates: mm, cm, m or in.
        name: of the part; by default the file's name.

    Raises:
        InputError: unknown unit or format; a file that is missing, unreadable or empty; a surface that is open, shares
            an edge between more than two faces or encloses nothing; a size below 3 mm or above 1 m.
    """
    path = Path(path)
    if units not in UNITS:
        raise InputError(f"unknown unit {units!r}: choose {', '.join(UNITS)}")
    vertices, faces = _read(path)
    vertices = vertices * UNITS[units]
    _check_size(path, vertices, units)
    vertices, faces = _closed(path, vertices, faces)
    if len(faces) > MANY_FACES:  # rendering costs grow with them
        vertices, faces = simplified(vertices, faces, TOLERANCE)
    if len(faces) > MOST_FACES:
        raise InputError(f"{path} has {len(faces)} faces after simplification: decimate it below {MOST_FACES}")
    name = name or re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_") or "part"
    hulls = convex_pieces(vertices, faces)
    symmetries = find_symmetries(vertices, faces)
    return Part.from_surface(name, vertices, faces, hulls, chiral=is_chiral(vertices, faces), symmetries=symmetries)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and faces (F, 3) int64 as they are in the file; equal vertices are merged."""
    import trimesh

    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: cannot read meshes of type {path.suffix or 'unknown'!r}, export it as STL, OBJ or PLY")
    if not path.is_file():
        raise InputError(f"mesh {path} does not exist")
    try:
        with path.open("rb") as file:  # an open file has no folder: nothing that the mesh refers to is read
            mesh = trimesh.load(file, file_type=path.suffix.lower()[1:], force="mesh", process=False, skip_materials=True)
    except OSError as error:
        raise InputError(f"mesh {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # trimesh's readers raise whatever the broken file made them stumble over
        raise InputError(f"{path} is not a readable {path.suffix[1:].upper()} file ({type(error).__name__}: {error})") from None
    vertices, faces = getattr(mesh, "vertices", ()), getattr(mesh, "faces", ())
    if len(vertices) == 0 or len(faces) == 0:
        raise InputError(f"{path} holds no triangles: export the part's surface, not its points or edges")
    if not np.isfinite(vertices).all():
        raise InputError(f"{path} holds coordinates that are not finite: export it again")
    return _welded(np.asarray(vertices, np.float64), np.asarray(faces, np.int64))


def _welded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices closer than a millionth of the size (STL repeats them, rounded) and drop faces that collapse."""
    grid = max(float(np.ptp(vertices, axis=0).max()), 1e-300) * 1e-6
    _, first, index = np.unique(np.round(vertices / grid), axis=0, return_index=True, return_inverse=True)
    faces = index.reshape(-1)[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    used, faces = np.unique(faces, return_inverse=True)
    return vertices[first][used], faces.reshape(-1, 3).astype(np.int64)


def _check_size(path: Path, vertices: np.ndarray, units: str) -> None:
    if len(vertices) < 4:
        raise InputError(f"{path} has no extent: export the part's surface as triangles")
    size = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    if SMALLEST <= size <= LARGEST:
        return
    others = [u for u, scale in UNITS.items() if SMALLEST <= size / UNITS[units] * scale <= LARGEST]
    remedy = f"did you mean --units {' or '.join(others)}" if others else "parts of 3 mm to 1 m can be simulated"
    raise InputError(f"{path} is {size * 1e3:.6g} mm across in units of {units}: {remedy}")


def _closed(path: Path, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same surface, faces turned consistently outwards; InputError if it does not enclose a volume."""
    import trimesh

    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    count = np.unique(edges, axis=0, return_counts=True)[1] if len(edges) else np.zeros(1, np.int64)
    if (count > 2).any():
        raise InputError(
            f"{path} is not a manifold: {int((count > 2).sum())} edges belong to more than two faces; "
            "remove inner or doubled faces and export it again"
        )
    if (count < 2).any():
        raise InputError(f"{path} is open: {int((count < 2).sum())} edges belong to one face only; close its holes and export it again")
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not mesh.is_winding_consistent:
        trimesh.repair.fix_winding(mesh)
    if not mesh.is_winding_consistent:
        raise InputError(f"{path} has faces that cannot be turned outwards consistently: export it again as one closed solid")
    if mesh.volume < 0:
        mesh.invert()
    thickness = 2 * mesh.volume / mesh.area
    if thickness < THINNEST:
        raise InputError(f"{path} encloses no volume (mean thickness {thickness * 1e3:.2g} mm): export it as a solid")
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
