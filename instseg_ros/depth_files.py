"""Frames from single files: a depth PNG or NPY, or an image of a BOP scene with its camera beside it."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np

from .bop_scene import Scene, read_scene
from .errors import InputError
from .frame import Frame


def read_frame(
    file: str | Path,
    *,
    intrinsics: np.ndarray | None = None,
    depth_scale: float | None = None,
    color: str | Path | None = None,
) -> Frame:
    """One file → Frame.

    Args:
        file: depth as 16-bit PNG or as NPY (H, W) or (H, W, 1), 0 or non-finite = no reading; or any image of a BOP scene
            (``…/<split>/000003/rgb/000012.png``, ``…/depth/…``), whose camera and colour are found beside it.
        intrinsics: K (3, 3); a BOP image brings its own.
        depth_scale: metres a unit; by default 0.001 for integers (millimetres), 1 for floats (metres); a BOP image brings
            its own.
        color: RGB image of the same view; one of another size but the same proportions is resized.

    Raises:
        InputError: the file is missing, unreadable or not depth, or its camera is unknown.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(f"{path} does not exist: give depth files (PNG, NPY) or images of a BOP scene")
    if depth_scale is not None and not (np.isfinite(depth_scale) and depth_scale > 0):
        raise InputError(f"--depth-scale must be positive (metres a unit), got {depth_scale}")
    scene_folder = path.parent.parent
    if intrinsics is None and (scene_folder / "scene_camera.json").is_file():
        return _bop_frame(path, scene_folder, depth_scale, color)
    depth = read_depth(path)
    if intrinsics is None:
        raise InputError(f"the camera of {path} is unknown: give --intrinsics fx,fy,cx,cy in pixels")
    if depth_scale is None:
        depth_scale = 0.001 if np.issubdtype(depth.dtype, np.integer) else 1.0
    rgb = read_color(color, depth.shape) if color is not None else None
    return Frame.from_raw(depth, intrinsics, depth_scale=depth_scale, color=rgb)


def read_pose(file: str | Path) -> np.ndarray:
    """world_T_camera (4, 4) float64, m, of an image of a BOP scene.

    Raises:
        InputError: another file, or a scene without poses of its cameras.
    """
    path = Path(file)
    folder = path.parent.parent
    if not (folder / "scene_camera.json").is_file():
        raise InputError(f"the pose of {path} is unknown: views are fused from images of a BOP scene with cam_R_w2c and cam_t_w2c")
    scene, image_id = _bop_image(path, folder)
    return scene.pose(image_id)


def read_depth(path: Path) -> np.ndarray:
    """(H, W) depth in the file's own units, uint16 or float; InputError for anything that is not a depth image."""
    if path.suffix.lower() == ".npy":
        try:
            depth = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path} is not a readable NPY array: {' '.join(str(error).split())[:120]}") from None
        if depth.ndim == 3 and depth.shape[2] == 1:
            depth = depth[..., 0]
        if depth.ndim != 2 or depth.size == 0 or depth.dtype.kind not in "uif":
            raise InputError(f"{path} must hold numbers of shape (H, W), got {depth.dtype} of shape {depth.shape}")
        return depth
    depth = _read_image(path, cv2.IMREAD_UNCHANGED)
    if depth.ndim != 2 or depth.dtype not in (np.uint16, np.float32):
        kind = f"{depth.dtype} with {depth.shape[2] if depth.ndim == 3 else 1} channels"
        raise InputError(f"{path} is {kind}, not depth: depth is a 16-bit PNG with one channel, or NPY")
    return depth


def read_color(file: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 RGB of ``shape`` (H, W); a picture of the same proportions is resized."""
    path = Path(file)
    if not path.is_file():
        raise InputError(f"color image {path} does not exist")
    rgb = cv2.cvtColor(_read_image(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    h, w = shape
    if abs(rgb.shape[1] / w - rgb.shape[0] / h) > 0.01:
        raise InputError(f"color image {path} is {rgb.shape[1]} × {rgb.shape[0]}, the depth {w} × {h}: align them first")
    return rgb if rgb.shape[:2] == shape else cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA)


def parse_intrinsics(text: str) -> np.ndarray:
    """``fx,fy,cx,cy`` in pixels → K (3, 3) float64."""
    try:
        fx, fy, cx, cy = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--intrinsics must be four numbers fx,fy,cx,cy in pixels, got {text!r}") from None
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    if not np.isfinite(K).all() or fx <= 0 or fy <= 0:
        raise InputError(f"--intrinsics must be finite with positive focal lengths, got {text!r}")
    return K


def output_names(files: list[str]) -> list[str]:
    """One distinct name for each file: its stem, with the scene (BOP) or as many parents as needed in front."""
    paths = [Path(file) for file in files]
    names = [
        f"{p.parent.parent.name}_{p.stem}" if (p.parent.parent / "scene_camera.json").is_file() else p.stem for p in paths
    ]
    for level in range(1, 10):
        repeated = {name for name in names if names.count(name) > 1}
        if not repeated:
            return names
        parents = [Path(*p.absolute().parts[:-level]).name for p in paths]
        names = [f"{parent}_{name}" if name in repeated and parent else name for parent, name in zip(parents, names)]
    raise InputError(f"{next(iter(repeated))!r} is given twice: give each file once")


def _bop_frame(path: Path, folder: Path, depth_scale: float | None, color: str | Path | None) -> Frame:
    scene, image_id = _bop_image(path, folder)
    camera, depth = scene.camera(image_id), scene.read_depth(image_id)
    rgb = read_color(color, depth.shape) if color is not None else scene.read_color(image_id, depth.shape)
    scale = camera.depth_scale / 1000 if depth_scale is None else depth_scale
    return Frame.from_raw(depth, camera.K, depth_scale=scale, color=rgb)


def _bop_image(path: Path, folder: Path) -> tuple[Scene, int]:
    """The scene of a file in it, and the number of its image."""
    number = re.match(r"\d+", path.stem)
    if not number or not re.fullmatch(r"\d+", folder.name):
        raise InputError(f"{path} is not an image of the BOP scene {folder}: its name must be the image number")
    scene, image_id = read_scene(folder), int(number[0])
    if image_id not in scene.image_ids:
        raise InputError(f"{folder / 'scene_camera.json'} has no image {image_id}: the scene is incomplete")
    return scene, image_id


def _read_image(path: Path, flags: int) -> np.ndarray:
    try:
        image = cv2.imread(str(path), flags)
    except cv2.error:
        image = None
    if image is None or image.size == 0:
        raise InputError(f"{path} is not a readable image: it is truncated, corrupt, or of another format")
    return image
