"""One scene folder of a BOP dataset: its JSON files, checked, and its images, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .errors import InputError
from .files import read_json


@dataclass(frozen=True, eq=False)
class SceneCamera:
    """K (3, 3) float64 pixels, depth_scale mm per unit of the depth PNG."""

    K: np.ndarray
    depth_scale: float


@dataclass(frozen=True, eq=False)
class SceneImage:
    """Truth of one image as the JSON files give it: object_id (N,) int64, pose (N, 4, 4) float64 cam_T_part in metres,
    visible_fraction (N,) float32 (NaN: unknown), depth_order (N,) int32 or None."""

    object_id: np.ndarray
    pose: np.ndarray
    visible_fraction: np.ndarray
    depth_order: np.ndarray | None


def read_scene(folder: Path) -> Scene:
    """Open a scene; only scene_camera.json is read now."""
    return Scene(folder)


class Scene:
    """A scene folder. Every method raises InputError naming the file that is missing, corrupt or inconsistent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scene_id = int(folder.name)
        path = folder / "scene_camera.json"
        self._cameras = _by_image(path, dict)
        self.image_ids = sorted(self._cameras)

    def camera(self, image_id: int) -> SceneCamera:
        """Intrinsics and depth scale of an image."""
        path, entry = self.folder / "scene_camera.json", self._cameras[image_id]
        K = _array(entry, "cam_K", (3, 3), path, image_id)
        scale = _array(entry, "depth_scale", (), path, image_id, default=1.0)
        if not scale > 0:
            raise InputError(f"{path}: depth_scale of image {image_id} must be positive (mm per unit), got {scale}")
        return SceneCamera(K, float(scale))

    def pose(self, image_id: int) -> np.ndarray:
        """world_T_camera (4, 4) float64, m, of ``cam_R_w2c`` and ``cam_t_w2c``; InputError where the image has none."""
        path, entry = self.folder / "scene_camera.json", self._cameras[image_id]
        pose = np.eye(4)
        pose[:3, :3] = _array(entry, "cam_R_w2c", (3, 3), path, image_id)
        pose[:3, 3] = _array(entry, "cam_t_w2c", (3,), path, image_id) / 1000
        if not np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-3) or np.linalg.det(pose[:3, :3]) < 0:
            raise InputError(f"{path}: cam_R_w2c of image {image_id} is no rotation")
        return np.linalg.inv(pose)

    def truth(self, image_id: int) -> SceneImage:
        """What scene_gt.json and scene_gt_info.json say of an image."""
        if image_id not in self._truth:
            raise InputError(
                f"{self.folder / 'scene_gt.json'} has no image {image_id}: this split has no truth for it, choose another"
            )
        return self._truth[image_id]

    @cached_property
    def _truth(self) -> dict[int, SceneImage]:
        """Everything as small arrays: the parsed JSON would take ten times the memory."""
        gt_path, info_path = self.folder / "scene_gt.json", self.folder / "scene_gt_info.json"
        gt = _by_image(gt_path, list)
        info = _by_image(info_path, list) if info_path.is_file() else {}
        return {image_id: _scene_image(rows, info.get(image_id), gt_path, info_path, image_id) for image_id, rows in gt.items()}

    def read_depth(self, image_id: int) -> np.ndarray:
        """(H, W) uint16, in units of depth_scale."""
        path = self.folder / "depth" / f"{image_id:06d}.png"
        if not path.is_file() and path.with_suffix(".tif").is_file():
            raise InputError(f"{path.with_suffix('.tif')}: depth as TIFF is not read; convert it to 16-bit PNG")
        depth = _read_image(path, cv2.IMREAD_UNCHANGED)
        if depth.ndim != 2 or depth.dtype != np.uint16:
            raise InputError(f"{path} must be a 16-bit image with one channel, got {depth.dtype} of shape {depth.shape}")
        return depth

    def read_color(self, image_id: int, shape: tuple[int, int]) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB from rgb/ or gray/; None where neither folder exists."""
        for name in ("rgb", "gray"):
            if not (self.folder / name).is_dir():
                continue
            for suffix in (".png", ".jpg", ".jpeg"):
                path = self.folder / name / f"{image_id:06d}{suffix}"
                if path.is_file():
                    color = cv2.cvtColor(_read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                    if color.shape[:2] != shape:
                        raise InputError(f"{path} is {color.shape[:2]}, the depth image {shape}: they must be aligned")
                    return color
            raise InputError(f"{self.folder / name} has no image {image_id:06d}.png or .jpg")
        return None

    def read_layers(self, image_id: int, n: int) -> np.ndarray | None:
        """(L, H, W) uint16 from layers/, 4 or as many as the pile needs; None in sets of others."""
        first = self.folder / "layers" / f"{image_id:06d}.png"
        if not first.parent.is_dir():
            return None
        stack = [_read_layers(first, n)]
        while (path := first.with_stem(f"{first.stem}_{len(stack)}")).is_file():
            stack.append(_read_layers(path, n))
            if stack[-1].shape != stack[0].shape:
                raise InputError(f"{path} is {stack[-1].shape[1:]}, {first.name} {stack[0].shape[1:]}: copy the dataset anew")
        layers = np.concatenate(stack)
        used = np.flatnonzero(layers.any((1, 2)))
        return layers[: max(len(stack[0]), used[-1] + 1 if used.size else 0)]

    def read_masks(self, image_id: int, kind: str, n: int, shape: tuple[int, int] | None) -> np.ndarray:
        """(n, H, W) bool from ``mask`` or ``mask_visib``; ``shape`` (H, W) is needed, and checked, when known."""
        masks = []
        for k in range(n):
            path = self.folder / kind / f"{image_id:06d}_{k:06d}.png"
            mask = _read_image(path, cv2.IMREAD_GRAYSCALE)
            shape = mask.shape if shape is None else shape
            if mask.shape != shape:
                raise InputError(f"{path} is {mask.shape}, the other images of this view {shape}: the set is inconsistent")
            masks.append(mask > 0)
        return np.stack(masks) if masks else np.zeros((0, *(shape or (0, 0))), bool)

    def image_shape(self, image_id: int) -> tuple[int, int]:
        """(H, W) of an image without instances."""
        return self.read_depth(image_id).shape  # type: ignore[return-value]


def _read_layers(path: Path, n: int) -> np.ndarray:
    """(4, H, W) uint16 of one file."""
    image = _read_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.dtype != np.uint8 or image.shape[2] != 4 or image.max(initial=0) > n:
        raise InputError(
            f"{path} must be 8-bit with four channels and values up to the {n} instances of scene_gt.json, "
            f"got {image.dtype} of shape {image.shape} up to {image.max(initial=0)}"
        )
    return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.uint16)


def _scene_image(
    rows: list[Any], info: list[Any] | None, gt_path: Path, info_path: Path, image_id: int
) -> SceneImage:
    n = len(rows)
    object_id, pose = np.empty(n, np.int64), np.tile(np.eye(4), (n, 1, 1))
    for k, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{gt_path}: instance {k} of image {image_id} must be an object, got {row!r}"[:300])
        number = float(_array(row, "obj_id", (), gt_path, image_id))
        if not (0 <= number < 1e9 and number.is_integer()):
            raise InputError(f"{gt_path}: obj_id of image {image_id} must be a whole number, got {row['obj_id']!r}"[:300])
        object_id[k] = int(number)
        pose[k, :3, :3] = _array(row, "cam_R_m2c", (3, 3), gt_path, image_id)
        pose[k, :3, 3] = _array(row, "cam_t_m2c", (3,), gt_path, image_id) / 1000
    visible, order = np.full(n, np.nan, np.float32), None
    if info is not None:
        if len(info) != n or not all(isinstance(row, dict) for row in info):
            raise InputError(f"{info_path}: image {image_id} must have {n} instances like scene_gt.json, got {len(info)}")
        visible[:] = [_array(row, "visib_fract", (), info_path, image_id, default=np.nan) for row in info]
        if not (np.isnan(visible) | ((visible >= 0) & (visible <= 1))).all():
            raise InputError(f"{info_path}: visib_fract of image {image_id} must lie in [0, 1], got {visible}")
        if n and all("depth_order" in row for row in info):
            order = np.array([_array(row, "depth_order", (), info_path, image_id) for row in info]).astype(np.int32)
            if not np.array_equal(np.sort(order), np.arange(n)):
                raise InputError(f"{info_path}: depth_order of image {image_id} must be a permutation of 0…{n - 1}, got {order}")
    return SceneImage(object_id, pose, visible, order)


def _by_image(path: Path, kind: type) -> dict[int, Any]:
    """A JSON object whose keys are image numbers and whose values are of ``kind``."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} must be a JSON object with image numbers as keys, got {type(value).__name__}")
    result = {}
    for key, entry in value.items():
        if not (key.isascii() and key.isdigit()) or not isinstance(entry, kind):
            raise InputError(f"{path}: entry {key!r} must be an image number with a {kind.__name__}, got {entry!r}"[:300])
        result[int(key)] = entry
    return result


def _array(
    entry: dict[str, Any], key: str, shape: tuple[int, ...], path: Path, image_id: int, default: float | None = None
) -> np.ndarray:
    """Numbers of one JSON entry as float64 of ``shape``, with a clear error."""
    if key not in entry:
        if default is not None:
            return np.float64(default)
        raise InputError(f"{path}: image {image_id} lacks {key}")
    try:
        array = np.array(entry[key], np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        size = int(np.prod(shape))
        kind = f"{size} finite number{'s' * (size > 1)}"
        raise InputError(f"{path}: {key} of image {image_id} must be {kind}, got {entry[key]!r}"[:300])
    return array


def _read_image(path: Path, flags: int) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist: copy the dataset anew")
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:  # absurd sizes in a corrupt header
        image = None
    if image is None:
        raise InputError(f"{path} is not a readable image: copy the dataset anew")
    return image
