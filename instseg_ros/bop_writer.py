"""Writing datasets in BOP format: scene folders appear complete or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import InputError
from .files import read_json, write_atomic, write_json

DEPTH_SCALE = 0.1
"""Millimetres per unit of the depth images: 0.1 mm steps up to 6.5 m."""

LAYERS_A_FILE = 4
"""Channels of a PNG in layers/."""

_FLAT = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_NOISY = [*_FLAT, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
"""PNG settings; colour noise has no repeats to look for: without looking it is written faster, and smaller."""


@dataclass(frozen=True, eq=False)
class SceneRecord:
    """One image to be written. Row ``i`` of every array of instances is label ``i + 1``; metres, camera optical frame.

    Attributes:
        K: (3, 3) float64 pixels.
        depth: (H, W) float32 m, NaN or 0 = no reading.
        color: (H, W, 3) uint8 RGB or None.
        cam_T_world: (4, 4) float64.
        object_id: (N,) int. pose: (N, 4, 4) float64 cam_T_part.
        masks: (N, H, W) bool amodal. layers: (L, H, W) uint16, layer 0 = visible labels.
        pixels: (N,) pixels of the whole silhouette; box: (N, 4) its x, y, width, height.
        depth_order: (N,) int, 0 = nearest.
    """

    K: np.ndarray
    depth: np.ndarray
    color: np.ndarray | None
    cam_T_world: np.ndarray
    object_id: np.ndarray
    pose: np.ndarray
    masks: np.ndarray
    layers: np.ndarray
    pixels: np.ndarray
    box: np.ndarray
    depth_order: np.ndarray


@dataclass(frozen=True, eq=False)
class ModelInfo:
    """A part for models/: vertices (V, 3) m, faces (F, 3), surface centroid (3,) m and covariance (3, 3) m².

    ``rotations`` (n, 3, 3) about the origin, the identity left out, and turns by any angle about ``axes`` (m, 3) through the
    origin leave the part as it is.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    diameter: float
    chiral: bool
    surface_centroid: np.ndarray
    surface_covariance: np.ndarray
    rotations: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 3)))
    axes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


class BopWriter:
    """Writes a dataset: ``models`` once, then any number of scenes, from any number of processes.

    Args:
        root: folder of the dataset.
        split: name of the split.
    """

    def __init__(self, root: str | Path, split: str) -> None:
        self.root, self.split = Path(root), split

    def scene_folder(self, scene_id: int) -> Path:
        """Where a scene lies, or will."""
        return self.root / self.split / f"{scene_id:06d}"

    def has_scene(self, scene_id: int) -> bool:
        """Whether the scene is there; scenes are renamed into place when complete, so then it is complete."""
        return self.scene_folder(scene_id).is_dir()

    def write_scene(
        self, scene_id: int, records: Iterable[SceneRecord], extra: Callable[[], dict[str, Any]] | None = None
    ) -> None:
        """Write one scene, see ``write_scene``."""
        write_scene(self.scene_folder(scene_id), records, extra)

    def remove_leftovers(self) -> None:
        """Delete what a killed run left half-written. Call before the first scene, from one process."""
        for path in (self.root / self.split).glob(".*.part"):
            shutil.rmtree(path, ignore_errors=True)

    def write_models(self, models: dict[int, ModelInfo]) -> None:
        """Write models/obj_NNNNNN.ply and models_info.json; parts that are there already stay.

        Raises:
            InputError: the folder holds another part under the same number.
        """
        path = self.root / "models" / "models_info.json"
        known: dict[str, Any] = read_json(path) if path.is_file() else {}
        if not isinstance(known, dict) or not all(isinstance(entry, dict) for entry in known.values()):
            raise InputError(f"{path} is not a list of parts by number: delete it or choose another folder")
        for object_id, model in models.items():
            entry = _model_entry(model)
            old = known.get(str(object_id), entry)
            if any(old[key] != entry[key] for key in old.keys() & entry.keys()):  # an older set may say less of the same part
                raise InputError(
                    f"{path} has another part {old.get('name')!r} as number {object_id}: write {model.name!r} to another folder"
                )
            known[str(object_id)] = entry
            write_atomic(path.parent / f"obj_{object_id:06d}.ply", lambda p, m=model: _write_ply(p, m.vertices, m.faces))
        write_json(path, dict(sorted(known.items(), key=lambda item: int(item[0]))))


def write_scene(
    folder: str | Path, records: Iterable[SceneRecord], extra: Callable[[], dict[str, Any]] | None = None
) -> None:
    """Write one scene folder: all of it into a hidden folder beside it, then one rename.

    Args:
        folder: ``root/<split>/<scene_id:06d>``; must not exist.
        records: the images, numbered from 0; may be made while they are written.
        extra: called when all images are written; gives further JSON files, name → value.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    folder = Path(folder)
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.part"
    try:
        for name in ("depth", "rgb", "mask", "mask_visib", "layers"):
            (temporary / name).mkdir(parents=True, exist_ok=True)
        cameras, truths, infos = {}, {}, {}
        for image_id, record in enumerate(records):
            cameras[str(image_id)] = {
                "cam_K": record.K.ravel().tolist(),
                "depth_scale": DEPTH_SCALE,
                "cam_R_w2c": record.cam_T_world[:3, :3].ravel().tolist(),
                "cam_t_w2c": (record.cam_T_world[:3, 3] * 1000).tolist(),
            }
            truths[str(image_id)] = [
                {"cam_R_m2c": T[:3, :3].ravel().tolist(), "cam_t_m2c": (T[:3, 3] * 1000).tolist(), "obj_id": int(k)}
                for T, k in zip(record.pose, record.object_id)
            ]
            infos[str(image_id)] = _write_images(temporary, image_id, record)
        files = {"scene_camera.json": cameras, "scene_gt.json": truths, "scene_gt_info.json": infos}
        for name, value in (files | (extra() if extra else {})).items():
            (temporary / name).write_text(json.dumps(value))
        if not any((temporary / "rgb").iterdir()):
            (temporary / "rgb").rmdir()
        os.rename(temporary, folder)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; choose a folder with space and permission"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_images(folder: Path, image_id: int, record: SceneRecord) -> list[dict[str, Any]]:
    """Write the images of one record; returns its entry of scene_gt_info.json."""
    n = len(record.object_id)
    if n > 255:
        raise InputError(f"{n} instances in one image: layers/ holds at most 255")
    name = f"{image_id:06d}"
    units = np.nan_to_num(record.depth / np.float32(DEPTH_SCALE / 1000), nan=0.0, posinf=0.0)
    units = np.where(units < 65535.5, np.rint(units), 0).astype(np.uint16)
    _write_png(folder / "depth" / f"{name}.png", units)
    if record.color is not None:
        _write_png(folder / "rgb" / f"{name}.png", np.ascontiguousarray(record.color[..., ::-1]), _NOISY)
    for number, first in enumerate(range(0, _deepest(record.layers), LAYERS_A_FILE)):
        layers = record.layers[first : first + LAYERS_A_FILE].astype(np.uint8).transpose(1, 2, 0)
        padded = np.pad(layers, ((0, 0), (0, 0), (0, LAYERS_A_FILE - layers.shape[2])))
        _write_png(folder / "layers" / f"{name}{f'_{number}' if number else ''}.png", padded)
    info = []
    labels = record.layers[0]
    for k in range(n):
        visible, amodal = labels == k + 1, record.masks[k]
        _write_png(folder / "mask" / f"{name}_{k:06d}.png", amodal.view(np.uint8) * np.uint8(255))
        _write_png(folder / "mask_visib" / f"{name}_{k:06d}.png", visible.view(np.uint8) * np.uint8(255))
        seen, whole = int(np.count_nonzero(visible)), int(record.pixels[k])
        info.append(
            {
                "bbox_obj": [int(b) for b in record.box[k]] if whole else [-1, -1, -1, -1],
                "bbox_visib": _bounding_box(visible),
                "px_count_all": whole,
                "px_count_valid": int(np.count_nonzero(units[amodal])),
                "px_count_visib": seen,
                "visib_fract": seen / whole if whole else 0.0,
                "depth_order": int(record.depth_order[k]),
            }
        )
    return info


def _deepest(layers: np.ndarray) -> int:
    """Number of layers up to the last one that is not empty, 1 or more."""
    used = np.flatnonzero(layers.any((1, 2)))
    return int(used[-1]) + 1 if used.size else 1


def _write_png(path: Path, image: np.ndarray, settings: list[int] = _FLAT) -> None:
    """Encode, then write as a plain file: OpenCV's own writing does not say why it failed."""
    ok, data = cv2.imencode(".png", image, settings)
    if not ok:
        raise OSError(f"{path.name} cannot be encoded")
    path.write_bytes(data.tobytes())


def _bounding_box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] of a mask, −1 four times when empty (as bop_toolkit writes it)."""
    if not mask.any():
        return [-1, -1, -1, -1]
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return [int(x), int(y), int(w), int(h)]


def _model_entry(model: ModelInfo) -> dict[str, Any]:
    low, size = model.vertices.min(0) * 1000, np.ptp(model.vertices, axis=0) * 1000
    entry: dict[str, Any] = {"diameter": model.diameter * 1000}
    entry |= {f"min_{axis}": float(v) for axis, v in zip("xyz", low)} | {f"size_{axis}": float(v) for axis, v in zip("xyz", size)}
    if len(model.rotations):
        entry["symmetries_discrete"] = [_matrix(rotation).ravel().tolist() for rotation in model.rotations]
    if len(model.axes):
        entry["symmetries_continuous"] = [{"axis": axis.tolist(), "offset": [0.0] * 3} for axis in model.axes.round(9) + 0.0]
    return entry | {
        "name": model.name,
        "chiral": bool(model.chiral),
        "surface_centroid": (model.surface_centroid * 1e3).tolist(),
        "surface_covariance": (model.surface_covariance * 1e6).tolist(),
    }


def _matrix(rotation: np.ndarray) -> np.ndarray:
    """(4, 4) of a rotation (3, 3) about the origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.round(9) + 0.0  # no −0
    return matrix


def _write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Binary PLY in millimetres."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment millimetres\n"
        f"element vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), np.dtype([("n", "u1"), ("v", "<i4", 3)]))
    rows["n"], rows["v"] = 3, faces
    path.write_bytes(header.encode() + (vertices * 1000).astype("<f4").tobytes() + rows.tobytes())
