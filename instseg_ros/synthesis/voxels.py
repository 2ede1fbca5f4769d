"""The voxel scenes of MTML (Lahoud et al., ICCV 2019, section 4): boxes of five classes that differ only in their edge
lengths, randomly turned, on a plane, some of them touching.

The paper gives neither sizes nor the share that touches. Ours are chosen so that connected components on the true classes score
about the paper's AP50 (Table 1: 92.5, 85.1, 86.9, 93.5, 79.9): the toy is as hard as theirs.

One ``<split>/<scene:06d>.npz`` a scene, read with ``load_scene``. The plane itself is not stored: every box stands on z = 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import write_atomic, write_json
from .runner import Recipe, check

GRID = (64, 64, 16)
"""Voxels along x, y, z (up)."""
VOXEL = 0.1
"""Edge of a voxel (m), as in the paper."""
CLASSES = {"cube": (6, 6, 6), "block": (10, 10, 8), "slab": (13, 8, 4), "bar": (18, 5, 5), "tower": (6, 6, 14)}
"""Class → edge lengths (voxels); the class number is the position in this list, from 1."""
TOUCHING = 0.4
"""Share of the boxes that are pushed against one that is there already."""
REVISION = 1


@dataclass(frozen=True)
class VoxelsRecipe(Recipe):
    """A set of voxel scenes.

    Attributes:
        scenes: number of scenes (900 train and 100 test in the paper).
        instances: smallest and largest number of boxes in a scene.
    """

    scenes: int
    instances: tuple[int, int] = (6, 14)
    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_common()
        low, high = self.instances
        check(self.scenes > 0, f"--scenes must be positive, got {self.scenes}")
        check(1 <= low <= high <= 20, f"--instances must lie in 1…20, got {low}-{high}")

    @property
    def units(self) -> int:
        return self.scenes

    def images_in(self, unit: int) -> int:
        return 1

    def bytes_per_image(self) -> int:
        return 2 * 4096

    def describe(self) -> dict[str, Any]:
        config = {**asdict(self), "instances": list(self.instances)}
        classes = {name: list(edges) for name, edges in CLASSES.items()}
        grid = {"voxel_size": VOXEL, "grid": list(GRID), "classes": classes}
        return {"kind": "voxels", **config, **grid, "revision": REVISION}

    def start(self, root: Path) -> None:
        write_json(root / "classes.json", {str(k + 1): name for k, name in enumerate(CLASSES)})

    def path(self, root: Path, unit: int) -> Path:
        return root / self.split / f"{unit:06d}.npz"

    def write(self, root: Path, unit: int) -> None:
        scene = self.build(unit)
        write_atomic(self.path(root, unit), lambda path: np.savez_compressed(path, **vars(scene)))

    def build(self, scene: int) -> VoxelScene:
        """Scene number ``scene``. Boxes that find no room after some tries are left out."""
        rng = np.random.default_rng(self.entropy(scene))
        wanted = int(rng.integers(self.instances[0], self.instances[1] + 1))
        occupied = np.zeros(GRID, np.uint16)
        classes: list[int] = []
        for _ in range(wanted):
            kind, yaw = int(rng.integers(len(CLASSES))), rng.uniform(0, np.pi)
            edges = np.array(list(CLASSES.values())[kind], float)
            place = _touching if classes and rng.random() < TOUCHING else _anywhere
            box = place(occupied, edges, yaw, rng)
            if box is not None:
                classes.append(kind + 1)
                occupied[box] = len(classes)
        lookup = np.array([0, *classes], np.uint8)
        index = np.argwhere(occupied)
        label = occupied[tuple(index.T)]
        count = np.bincount(label, minlength=len(classes) + 1)[1:]
        centre = np.stack([np.bincount(label, index[:, k] + 0.5, len(classes) + 1)[1:] for k in range(3)], -1) / count[:, None]
        return VoxelScene(lookup[occupied], occupied, lookup[1:], (centre * VOXEL).astype(np.float32))


@dataclass(frozen=True, eq=False)
class VoxelScene:
    """Boxes in a grid.

    Attributes:
        semantic: (X, Y, Z) uint8 class of each voxel, 1…5, 0 = empty.
        instance: (X, Y, Z) uint16, 1…N, 0 = empty.
        object_class: (N,) uint8 class of each instance.
        centre: (N, 3) float32 m, mean of its voxels' centres; the grid's corner is the origin.
    """

    semantic: np.ndarray
    instance: np.ndarray
    object_class: np.ndarray
    centre: np.ndarray


def load_scene(path: str | Path) -> VoxelScene:
    """Read a scene; InputError names the file and what is wrong with it."""
    try:
        with np.load(path, allow_pickle=False) as data:
            scene = VoxelScene(data["semantic"], data["instance"], data["object_class"], data["centre"])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except Exception as error:  # a corrupt zip raises all kinds
        raise InputError(f"{path} is not a voxel scene ({error}): make the set anew") from None
    n = len(scene.object_class)
    fits = scene.semantic.ndim == 3 and scene.semantic.shape == scene.instance.shape and scene.centre.shape == (n, 3)
    if not fits or scene.instance.max(initial=0) > n:
        raise InputError(f"{path} is inconsistent: make the set anew")
    return scene


def _anywhere(occupied: np.ndarray, edges: np.ndarray, yaw: float, rng: np.random.Generator) -> tuple[np.ndarray, ...] | None:
    """Voxels of a box at a random free place with no neighbour, or None."""
    reach = np.hypot(edges[0], edges[1]) / 2 + 1
    for _ in range(30):
        voxels = _rasterize(edges, yaw, rng.uniform(reach, np.array(GRID[:2]) - reach))
        if not _near(occupied, voxels):
            return voxels
    return None


def _touching(occupied: np.ndarray, edges: np.ndarray, yaw: float, rng: np.random.Generator) -> tuple[np.ndarray, ...] | None:
    """Voxels of a box pushed from outside against what is there until they are neighbours, or None."""
    reach = np.hypot(edges[0], edges[1]) / 2 + 1
    for _ in range(30):
        target = np.argwhere(occupied.any(2))
        target = target[rng.integers(len(target))] + 0.5
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        for distance in np.arange(2.0, 24.0, 0.5):  # from inside outwards: the first place that is free touches
            place = target + distance * direction
            if (place < reach).any() or (place > np.array(GRID[:2]) - reach).any():
                break
            voxels = _rasterize(edges, yaw, place)
            if not occupied[voxels].any():
                if _near(occupied, voxels):
                    return voxels
                break
    return None


def _rasterize(edges: np.ndarray, yaw: float, centre: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices (x, y, z) of the voxels whose centres lie in a box that stands on the plane, turned by ``yaw`` about z."""
    reach = int(np.ceil(np.hypot(edges[0], edges[1]) / 2)) + 1
    low = np.floor(centre).astype(int) - reach
    x, y = np.meshgrid(low[0] + np.arange(2 * reach + 1), low[1] + np.arange(2 * reach + 1), indexing="ij")
    dx, dy = x + 0.5 - centre[0], y + 0.5 - centre[1]
    c, s = np.cos(yaw), np.sin(yaw)
    inside = (np.abs(c * dx + s * dy) <= edges[0] / 2) & (np.abs(c * dy - s * dx) <= edges[1] / 2)
    inside &= (x >= 0) & (y >= 0) & (x < GRID[0]) & (y < GRID[1])
    x, y = x[inside], y[inside]
    height = int(edges[2])
    return np.repeat(x, height), np.repeat(y, height), np.tile(np.arange(height), len(x))


def _near(occupied: np.ndarray, voxels: tuple[np.ndarray, ...]) -> bool:
    """Whether any voxel, or one of its 26 neighbours, is occupied."""
    x, y, z = voxels
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            a, b = np.clip(x + i, 0, GRID[0] - 1), np.clip(y + j, 0, GRID[1] - 1)
            if occupied[a, b, z].any():
                return True
    return False
