"""Convex pieces of any closed mesh (coacd), kept in the user's cache: a decomposition takes seconds to minutes.

CoACD: X. Wei et al., Approximate Convex Decomposition for 3D Meshes with Collision-Aware Concavity, SIGGRAPH 2022.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import write_atomic
from .part import volume_moments

CONCAVITY = 0.05
MOST_PIECES = 16
PIECE_VERTICES = 64
COARSER = 0.002
"""Of the size: how far the surface may move before it is decomposed, which costs more than linearly in its faces."""
CONVEX = 0.995
"""Volume over the volume of the convex hull: above this the hull itself is the only piece."""

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """``$INSTSEG_CACHE``, else ``$XDG_CACHE_HOME/instseg``, else ``~/.cache/instseg``."""
    if folder := os.environ.get("INSTSEG_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instseg"


def convex_pieces(vertices: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Convex pieces that cover a closed mesh.

    The result is stored as ``convex-<sha256>.npz`` (no pickle) in the cache folder; a damaged file is made again, and a
    folder that cannot be written costs a warning and the time of the next decomposition.

    Args:
        vertices: (V, 3) float64 metres. faces: (F, 3) int64, outwards.

    Returns:
        up to 16 arrays (Vi, 3) float64 metres, the corners of convex polyhedra.
    """
    hull = _hull(vertices)
    if volume_moments(vertices, faces)[0] > CONVEX * hull[1]:
        return [hull[0]]
    parameters = f"coacd {COARSER} {CONCAVITY} {MOST_PIECES} {PIECE_VERTICES}".encode()
    digest = hashlib.sha256(parameters + vertices.tobytes() + faces.tobytes()).hexdigest()
    file = cache_folder() / f"convex-{digest}.npz"
    pieces = _cached(file)
    if pieces is None:
        pieces = _decompose(vertices, faces)
        arrays = {"points": np.concatenate(pieces), "sizes": np.array([len(piece) for piece in pieces])}
        try:
            write_atomic(file, lambda temporary: np.savez(temporary, **arrays))
        except InputError as error:
            logger.warning("%s; set INSTSEG_CACHE, or the part is decomposed again every time", error)
    return pieces


def _decompose(vertices: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    import coacd

    coacd.set_log_level("off")
    vertices, faces = simplified(vertices, faces, COARSER * float(np.linalg.norm(np.ptp(vertices, axis=0))))
    logger.info("decomposing a mesh of %d faces into convex pieces, once", len(faces))
    found = coacd.run_coacd(
        coacd.Mesh(vertices, faces),
        threshold=CONCAVITY,
        max_convex_hull=MOST_PIECES,
        max_ch_vertex=PIECE_VERTICES,
        preprocess_mode="off",  # the mesh is a checked manifold; remeshing would only blur it
        seed=0,
    )
    pieces = [np.asarray(points, np.float64) for points, _ in found]
    return [piece for piece in pieces if len(piece) >= 4] or [_hull(vertices)[0]]


def simplified(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh with fewer faces whose surface moved by ``tolerance`` (metres) at most; unchanged if that fails."""
    from manifold3d import Error, Manifold, Mesh64

    from .solids import surface

    solid = Manifold(Mesh64(np.ascontiguousarray(vertices), np.ascontiguousarray(faces, np.uint64)))
    if solid.status() != Error.NoError:
        return vertices, faces
    lighter = solid.simplify(tolerance)
    return (vertices, faces) if lighter.is_empty() else surface(lighter)


def _cached(file: Path) -> list[np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as stored:
            points, sizes = stored["points"], stored["sizes"]
    except Exception:  # missing, or damaged: zipfile, zlib and numpy raise anything
        return None
    if points.ndim != 2 or points.shape[1] != 3 or sizes.sum() != len(points) or not np.isfinite(points).all():
        return None
    return np.split(points.astype(np.float64), np.cumsum(sizes)[:-1])


def _hull(vertices: np.ndarray) -> tuple[np.ndarray, float]:
    from scipy.spatial import ConvexHull

    hull = ConvexHull(vertices)
    return vertices[hull.vertices], float(hull.volume)
