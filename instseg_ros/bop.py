"""Reading datasets in BOP format (https://bop.felk.cvut.cz, bop_toolkit docs/bop_datasets_format.md); NumPy and OpenCV only.

``root/models/`` holds the parts, ``root/<split>/<scene_id:06d>/`` one scene each: scene_camera.json, scene_gt.json,
scene_gt_info.json, depth/, rgb/ (or gray/), mask/ (amodal), mask_visib/ (visible). Millimetres on disk, metres in memory.

Our own sets carry some more, which other readers ignore: ``layers/`` (8-bit, four channels: the instance that is first …
fourth from the front at each pixel, 1…N, 0 = none; the first channel is the visible label; where parts lie deeper than that,
``NNNNNN_1.png`` has the fifth to the eighth, and so on), ``depth_order`` in
scene_gt_info.json, ``surface_centroid``, ``surface_covariance``, ``name`` and ``chiral`` in models_info.json (which has
BOP's own ``symmetries_discrete`` and ``symmetries_continuous`` too, where a part has any).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .bop_scene import Scene, SceneImage, read_scene
from .bop_writer import BopWriter, ModelInfo, SceneRecord, write_scene
from .errors import InputError
from .files import read_json
from .frame import Frame

__all__ = ["BopDataset", "BopWriter", "ModelInfo", "SceneRecord", "Truth", "write_scene"]

LAYERS = 4
"""Layers of the amodal stack that ``Truth`` has at least."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What is really in one view. Row ``i`` of every array is label ``i + 1``; rows are in the order of scene_gt.json and
    include instances without a visible pixel. Camera optical frame, metres.

    Attributes:
        labels: (H, W) uint16 visible instances, 0 = background.
        masks: (N, H, W) bool amodal masks, None unless asked for.
        layers: (L, H, W) uint16 amodal stack, layer 0 equals ``labels``; None unless asked for. Where something that is not
            an instance (a bin wall) hides the parts, layer 0 is 0 and the hidden parts start at layer 1. L is 4 or as many
            as the pile needs (older sets were cut at 4).
        visible_fraction: (N,) float32 visible over amodal pixels; NaN where the set does not say.
        centroid: (N, 3) float64 m, mean of the surface points of the whole part.
        covariance: (N, 3, 3) float64 m², second central moments of the surface points of the whole part.
        part: name of each instance's part.
        object_id: (N,) int64 BOP obj_id.
        pose: (N, 4, 4) float64 cam_T_part.
        depth_order: (N,) int32, 0 = nearest: by the 10th percentile of the instance's own depth in our sets, by the
            distance of the centroid in others.
    """

    labels: np.ndarray
    masks: np.ndarray | None
    layers: np.ndarray | None
    visible_fraction: np.ndarray
    centroid: np.ndarray
    covariance: np.ndarray
    part: list[str]
    object_id: np.ndarray
    pose: np.ndarray
    depth_order: np.ndarray

    def __len__(self) -> int:
        return len(self.object_id)


class BopDataset:
    """The images of one split of a BOP dataset, in order of scene and image number.

    Args:
        root: folder of the dataset, or of one split.
        split: name of the split's folder; may be left out when there is only one.

    Raises:
        InputError: names the file that is missing, corrupt or inconsistent, and the remedy. Images and masks are read,
            and checked, only when asked for.
    """

    def __init__(self, root: str | Path, split: str | None = None) -> None:
        self.root, self.folder = _find_split(Path(root), split)
        self.split = self.folder.name
        self.scenes: list[Scene] = [read_scene(folder) for folder in _scene_folders(self.folder)]
        self._index = [(scene, image_id) for scene in self.scenes for image_id in scene.image_ids]
        if not self._index:
            raise InputError(f"{self.folder} holds no image: its scene_camera.json files are empty")
        self.keys: list[tuple[int, int]] = [(scene.scene_id, image_id) for scene, image_id in self._index]

    def __len__(self) -> int:
        return len(self._index)

    @cached_property
    def part_names(self) -> dict[int, str]:
        """obj_id → name of the part; ``obj_000001`` and so on where the set has no names."""
        return {i: str(info.get("name", f"obj_{i:06d}")) for i, info in self._models_info.items()}

    @cached_property
    def chiral(self) -> dict[int, bool]:
        """obj_id → whether the part differs from its mirror image (True where the set does not say: the safe answer)."""
        return {i: bool(info.get("chiral", True)) for i, info in self._models_info.items()}

    def frame(self, i: int, color: bool = True) -> Frame:
        """Image ``i`` as a Frame; ``color=False`` leaves the colour image unread. ``color`` is None where there is none."""
        scene, image_id = self._index[i]
        camera = scene.camera(image_id)
        depth = scene.read_depth(image_id)
        rgb = scene.read_color(image_id, depth.shape) if color else None
        return Frame.from_raw(depth, camera.K, depth_scale=camera.depth_scale / 1000, color=rgb)

    def truth(self, i: int, *, amodal: bool = False, layers: bool = False) -> Truth:
        """Truth of image ``i``; amodal masks and layers are read only when asked for."""
        scene, image_id = self._index[i]
        image = scene.truth(image_id)
        stack = scene.read_layers(image_id, len(image.object_id))
        shape = scene.image_shape(image_id) if stack is None and not len(image.object_id) else None
        masks = None
        if stack is not None:
            labels = stack[0]
        else:
            visible = scene.read_masks(image_id, "mask_visib", len(image.object_id), shape)
            labels = np.zeros(visible.shape[1:], np.uint16)
            for k, mask in enumerate(visible):
                labels[mask] = k + 1
        if amodal or (layers and stack is None):
            masks = self._amodal(scene, image_id, len(image.object_id), labels, stack)
        centroid, covariance = self._moments(image)
        order = image.depth_order
        if order is None:
            order = np.empty(len(centroid), np.int32)
            order[np.argsort(np.linalg.norm(centroid, axis=1), kind="stable")] = np.arange(len(order))
        if layers and stack is None:
            stack = build_layers(labels, masks, order)
        return Truth(
            labels=labels,
            masks=masks if amodal else None,
            layers=stack if layers else None,
            visible_fraction=image.visible_fraction,
            centroid=centroid,
            covariance=covariance,
            part=[self.part_names.get(int(k), f"obj_{k:06d}") for k in image.object_id],
            object_id=image.object_id,
            pose=image.pose,
            depth_order=order,
        )

    def _amodal(
        self, scene: Scene, image_id: int, n: int, labels: np.ndarray, stack: np.ndarray | None
    ) -> np.ndarray:
        if stack is not None and not stack[-1].any():  # the stack is not full anywhere: it holds every mask
            return (stack[None] == np.arange(1, n + 1)[:, None, None, None]).any(1)
        masks = scene.read_masks(image_id, "mask", n, labels.shape)
        if masks.shape[1:] != labels.shape:
            raise InputError(
                f"{scene.folder / 'mask'}: masks of image {image_id} are {masks.shape[1:]}, the visible ones {labels.shape}"
            )
        return masks

    def _moments(self, image: SceneImage) -> tuple[np.ndarray, np.ndarray]:
        n = len(image.object_id)
        centroid, covariance = np.empty((n, 3)), np.empty((n, 3, 3))
        for i, k in enumerate(image.object_id):
            mean, second = self._part_moments(int(k))
            R, t = image.pose[i, :3, :3], image.pose[i, :3, 3]
            centroid[i], covariance[i] = R @ mean + t, R @ second @ R.T
        return centroid, covariance

    def _part_moments(self, object_id: int) -> tuple[np.ndarray, np.ndarray]:
        if object_id not in self._moment_cache:
            info = self._models_info.get(object_id, {})
            if "surface_centroid" in info and "surface_covariance" in info:
                mean = _numbers(info["surface_centroid"], (3,), self._models_folder / "models_info.json") / 1e3
                second = _numbers(info["surface_covariance"], (3, 3), self._models_folder / "models_info.json") / 1e6
            else:
                mean, second = _mesh_moments(self._models_folder / f"obj_{object_id:06d}.ply")
            self._moment_cache[object_id] = mean, second
        return self._moment_cache[object_id]

    @cached_property
    def _moment_cache(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        return {}

    @cached_property
    def _models_folder(self) -> Path:
        for name in ("models", "models_eval", "models_cad", "models_reconst"):
            if (self.root / name / "models_info.json").is_file():
                return self.root / name
        raise InputError(f"{self.root} has no models/models_info.json: copy the dataset's models beside its splits")

    @cached_property
    def _models_info(self) -> dict[int, dict[str, Any]]:
        path = self._models_folder / "models_info.json"
        info = read_json(path)
        if not isinstance(info, dict) or not all(re.fullmatch(r"\d+", k) and isinstance(v, dict) for k, v in info.items()):
            raise InputError(f"{path} must map object numbers to objects: copy it anew from the dataset")
        return {int(k): v for k, v in info.items()}


def build_layers(labels: np.ndarray, masks: np.ndarray, depth_order: np.ndarray) -> np.ndarray:
    """Amodal stack (L, H, W) uint16 from visible labels (H, W), amodal masks (N, H, W) and the instances' depth order (N,).

    Layer 0 is ``labels``; the hidden instances of each pixel follow in depth order. For sets that do not store the order
    per pixel: instances that interlock cannot be told apart by one order.
    """
    hidden = masks & (labels != np.arange(1, len(masks) + 1)[:, None, None])
    layers = np.zeros((max(LAYERS, 1 + int(hidden.sum(0).max(initial=0))), *labels.shape), np.uint16)
    layers[0] = labels
    level = np.ones(labels.shape, np.int64)
    for i in np.argsort(depth_order):
        rows, columns = np.nonzero(hidden[i])
        layers[level[rows, columns], rows, columns] = i + 1
        level[rows, columns] += 1
    return layers


def _find_split(root: Path, split: str | None) -> tuple[Path, Path]:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: give the folder of a BOP dataset")
    if split is not None:
        if not (root / split).is_dir():
            raise InputError(f"{root} has no split {split!r}; it has {', '.join(_splits(root)) or 'none'}")
        return root, root / split
    if any(_scene_folders(root, check=False)):
        return root.parent, root
    splits = _splits(root)
    if len(splits) != 1:
        if splits:
            raise InputError(f"{root} has the splits {', '.join(splits)}: choose one")
        raise InputError(f"{root} holds no BOP scenes (<split>/000000/scene_camera.json): give the folder of a BOP dataset")
    return root, root / splits[0]


def _splits(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and any(_scene_folders(p, check=False)))


def _scene_folders(folder: Path, check: bool = True) -> list[Path]:
    scenes = sorted(
        (p for p in folder.iterdir() if re.fullmatch(r"\d+", p.name) and (p / "scene_camera.json").is_file()),
        key=lambda p: int(p.name),
    )
    if check and not scenes:
        raise InputError(f"{folder} holds no BOP scene (000000/scene_camera.json)")
    return scenes


def _numbers(value: object, shape: tuple[int, ...], path: Path) -> np.ndarray:
    try:
        array = np.array(value, np.float64).reshape(shape)
    except (TypeError, ValueError):
        raise InputError(f"{path}: expected {shape} numbers, got {value!r}"[:300]) from None
    if not np.isfinite(array).all():
        raise InputError(f"{path}: expected finite numbers, got {value!r}"[:300])
    return array


def _mesh_moments(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Surface mean (3,) m and central second moments (3, 3) m² of a PLY mesh in millimetres, exact over its triangles."""
    import trimesh

    try:
        mesh = trimesh.load(path, process=False, force="mesh")
        v = np.asarray(mesh.vertices, np.float64)[np.asarray(mesh.faces)] / 1e3
    except Exception as error:  # trimesh raises all kinds
        raise InputError(f"{path} cannot be read as a mesh ({error}): it is needed for the parts' centroids") from None
    area = np.linalg.norm(np.cross(v[:, 1] - v[:, 0], v[:, 2] - v[:, 0]), axis=1)
    if not area.sum() > 0:
        raise InputError(f"{path} has no surface: it is needed for the parts' centroids")
    weight = area / area.sum()
    mean = weight @ v.mean(1)
    d = v - mean
    # ∫ x xᵀ over a triangle = A / 12 · (Σ vᵢ vᵢᵀ + (Σ vᵢ)(Σ vᵢ)ᵀ).
    total = d.sum(1)
    second = (np.einsum("f,fki,fkj->ij", weight, d, d) + np.einsum("f,fi,fj->ij", weight, total, total)) / 12
    return mean, second
