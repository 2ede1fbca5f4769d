"""Scans in the format of ScanNet v2 (Dai et al., CVPR 2017): mesh and labels in PLY, instances in two JSON files.

``<scene>/<scene>_vh_clean_2.ply`` is the mesh, ``…_vh_clean_2.labels.ply`` the same with the NYU40 class of every vertex,
``…_vh_clean_2.0.010000.segs.json`` names the segment of every vertex, ``<scene>.aggregation.json`` the segments of every object.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import read_json

CLASSES = {
    3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window", 10: "bookshelf", 11: "picture", 12: "counter",
    14: "desk", 16: "curtain", 24: "refrigerator", 28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "otherfurniture",
}  # fmt: skip
"""NYU40 id → name of the classes whose instances the benchmark counts."""
MESH, LABELS, SEGMENTS, OBJECTS = "_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"


@dataclass(frozen=True, eq=False)
class Scan:
    """The N vertices of one scene.

    Attributes:
        points: (N, 3) float64 m, z up.
        semantic: (N,) int64 NYU40 id, 0 = unlabelled.
        instance: (N,) int64, 1…K, 0 = none. object_class: (K,) int64 NYU40 id of each, 0 = none.
    """

    name: str
    points: np.ndarray
    semantic: np.ndarray
    instance: np.ndarray
    object_class: np.ndarray


def scan_folders(root: Path) -> list[Path]:
    """Folders of the scenes under ``root``, in order; InputError where there are none."""
    found = sorted(file.parent for file in root.glob(f"*/*{MESH}"))
    if not found:
        raise InputError(f"{root} holds no scene in ScanNet's format (scene0000_00/scene0000_00{MESH}): give its folder `scans`")
    return found


def read_scan(folder: Path, names: dict[str, int] | None = None) -> Scan:
    """Read one scene.

    Args:
        names: NYU40 id of every object name (:func:`read_names`); without them an object has the class that most of its
            vertices have.

    Raises:
        InputError: names the file that is missing or does not fit the others.
    """
    name = folder.name
    mesh, labelled = _vertices(folder / f"{name}{MESH}"), _vertices(folder / f"{name}{LABELS}")
    if "label" not in (labelled.dtype.names or ()):
        raise InputError(f"{folder / (name + LABELS)} has no vertex property 'label': copy it again")
    semantic = labelled["label"].astype(np.int64).reshape(-1)
    points = np.stack([mesh[axis].astype(np.float64).reshape(-1) for axis in "xyz"], 1)
    segment = np.asarray(_entry(folder / f"{name}{SEGMENTS}", "segIndices"))
    if not len(points) == len(semantic) == len(segment) or segment.dtype.kind not in "iu":
        counts = f"{len(points)}, {len(semantic)} and {len(segment)}"
        raise InputError(f"{folder}: mesh, labels and segments have {counts} vertices: copy them again")
    instance, kinds = np.zeros(len(points), np.int64), []
    for group in _entry(folder / f"{name}{OBJECTS}", "segGroups"):
        own = np.isin(segment, group["segments"])
        kinds.append(_class_of(semantic[own]) if names is None else names.get(group["label"], 0))
        instance[own] = len(kinds)
    return Scan(name, points, semantic, instance, np.array(kinds, np.int64))


def read_names(file: Path) -> dict[str, int]:
    """Object name → NYU40 id from ``scannetv2-labels.combined.tsv``."""
    try:
        with file.open(newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t")
            if not {"raw_category", "nyu40id"} <= set(rows.fieldnames or ()):
                raise ValueError(f"its columns are {rows.fieldnames}")
            return {row["raw_category"]: int(row["nyu40id"]) for row in rows}
    except (OSError, ValueError, TypeError) as error:  # a UnicodeDecodeError is a ValueError
        raise InputError(f"{file} is not ScanNet's table of labels (raw_category, nyu40id): {error}") from None


def _class_of(semantic: np.ndarray) -> int:
    known = semantic[semantic > 0]
    return int(np.bincount(known).argmax()) if len(known) else 0


def _vertices(file: Path) -> np.ndarray:
    """Vertex table of a PLY file with all its properties."""
    import trimesh

    if not file.is_file():
        raise InputError(f"{file} does not exist: copy all of the scene's files")
    try:
        return trimesh.load(file, process=False).metadata["_ply_raw"]["vertex"]["data"]
    except Exception as error:  # trimesh's readers raise whatever the broken file made them stumble over
        raise InputError(f"{file} cannot be read as PLY ({error}): copy it again") from None


def _entry(file: Path, key: str) -> Any:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise InputError(f"{file} has no list {key!r}: it is not ScanNet's")
    return content[key]
