"""The shapes of Layered Embeddings (Liu et al. 2019, section 3): white shapes with black outlines that cover one another.

Circles (diameter 64 px), equilateral triangles (side 76.8 px) and rectangles (25.6 × 204.8 px) on white, 256 × 256 px, N of each
class, order and rotation random; a reference corner (of a circle: a point of its rim) is uniform in the middle 80 % of the
image, so shapes may leave it. Sizes: paper-facts of the reference set.

Stored as a BOP set that any reader of such sets takes: a camera 1 m above a sheet of paper, 256 px to the metre, so depth
is 1 m everywhere and gives nothing away. ``visib_fract`` counts pixels inside the image only: one minus the share that
other shapes hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..bop_writer import BopWriter, ModelInfo, SceneRecord
from .runner import Recipe, check

SIZE = 256
LINE = 2
"""Width of the outlines (px)."""
IMAGES_PER_FOLDER = 100
LAYERS = 4
"""Least depth of the amodal stack."""
REVISION = 1


def _regular(corners: int, radius: float, turn: float = 0.0) -> np.ndarray:
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angle), np.sin(angle)], -1)


SHAPES = {
    "circle": _regular(90, 32.0),
    "triangle": _regular(3, 76.8 / np.sqrt(3)),
    "rectangle": np.array([[-102.4, -12.8], [102.4, -12.8], [102.4, 12.8], [-102.4, 12.8]]),
}
"""Class → corners (C, 2) in pixels around its centroid; obj_id is the position in this list, from 1."""


@dataclass(frozen=True)
class ShapesRecipe(Recipe):
    """A set of shapes.

    Attributes:
        scenes: number of images.
        instances: shapes of each class in an image (6 and 12 in the paper).
        classes: names out of ``SHAPES``; the paper's study of capacity uses rectangles alone.
    """

    scenes: int
    instances: int = 6
    classes: tuple[str, ...] = tuple(SHAPES)
    split: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_common()
        check(self.scenes > 0, f"--scenes must be positive, got {self.scenes}")
        check(1 <= self.instances <= 60, f"--instances must lie in 1…60, got {self.instances}")
        for name in self.classes:
            check(name in SHAPES, f"unknown class {name!r}: choose from {', '.join(SHAPES)}")
        check(len(set(self.classes)) == len(self.classes) > 0, "--classes needs each class at most once")

    @property
    def units(self) -> int:
        return -(-self.scenes // IMAGES_PER_FOLDER)

    def images_in(self, unit: int) -> int:
        return min(IMAGES_PER_FOLDER, self.scenes - unit * IMAGES_PER_FOLDER)

    def bytes_per_image(self) -> int:
        return (2 * self.instances * len(self.classes) + 8) * 4096

    def describe(self) -> dict[str, Any]:
        return {"kind": "shapes", **asdict(self), "classes": list(self.classes), "revision": REVISION}

    def start(self, root: Path) -> None:
        BopWriter(root, self.split).write_models({k + 1: _model(name) for k, name in enumerate(SHAPES)})

    def path(self, root: Path, unit: int) -> Path:
        return BopWriter(root, self.split).scene_folder(unit)

    def write(self, root: Path, unit: int) -> None:
        first = unit * IMAGES_PER_FOLDER
        BopWriter(root, self.split).write_scene(unit, self._records(range(first, first + self.images_in(unit))))

    def _records(self, images: range) -> Iterator[SceneRecord]:
        for image in images:
            yield self.draw(image)

    def draw(self, image: int) -> SceneRecord:
        """Image number ``image``; instance rows are grouped by class, depth order 0 = on top."""
        rng = np.random.default_rng(self.entropy(image))
        names = [name for name in self.classes for _ in range(self.instances)]
        n = len(names)
        turn, order = rng.uniform(0, 2 * np.pi, n), rng.permutation(n)
        reference = rng.uniform(0.1, 0.9, (n, 2)) * SIZE
        centre = np.empty((n, 2))
        masks = np.zeros((n, SIZE, SIZE), bool)
        windows: list[tuple[slice, slice]] = []
        paper = np.full((SIZE, SIZE), 255, np.uint8)
        outlines, box = [], np.zeros((n, 4), np.int64)
        for i, name in enumerate(names):
            c, s = np.cos(turn[i]), np.sin(turn[i])
            corners = SHAPES[name] @ np.array([[c, s], [-s, c]])
            centre[i] = reference[i] - corners[0]
            outlines.append(np.rint((corners + centre[i]) * 16).astype(np.int32))  # cv2: 4 fractional bits
            cv2.fillPoly(masks[i].view(np.uint8), [outlines[i]], 1, cv2.LINE_8, 4)
            box[i] = x, y, w, h = cv2.boundingRect(masks[i].view(np.uint8))
            windows.append((slice(y, y + h), slice(x, x + w)))
        edge = np.zeros((SIZE, SIZE), np.uint8)
        for i in np.argsort(-order):  # from the bottom up
            cv2.polylines(edge, [outlines[i]], True, 1, 2 * LINE - 1, cv2.LINE_8, 4)
            mask, line, part = masks[i][windows[i]], edge[windows[i]], paper[windows[i]]
            part[mask] = 255 * (1 - line[mask])  # the outline lies inside its shape
            cv2.polylines(edge, [outlines[i]], True, 0, 2 * LINE - 1, cv2.LINE_8, 4)
        layers = np.zeros((max(LAYERS, int(masks.sum(0, dtype=np.uint8).max())), SIZE, SIZE), np.uint16)
        level = np.zeros((SIZE, SIZE), np.int64)
        for i in np.argsort(order):  # from the top down
            rows, columns = np.nonzero(masks[i][windows[i]])
            rows, columns = rows + windows[i][0].start, columns + windows[i][1].start
            layers[level[rows, columns], rows, columns] = i + 1
            level[rows, columns] += 1
        pose = np.tile(np.eye(4), (n, 1, 1))
        pose[:, 0, 0] = pose[:, 1, 1] = np.cos(turn)
        pose[:, 1, 0] = np.sin(turn)
        pose[:, 0, 1] = -np.sin(turn)
        pose[:, :2, 3] = (centre - (SIZE - 1) / 2) / SIZE
        pose[:, 2, 3] = 1.0
        return SceneRecord(
            K=np.array([[SIZE, 0, (SIZE - 1) / 2], [0, SIZE, (SIZE - 1) / 2], [0, 0, 1.0]]),
            depth=np.ones((SIZE, SIZE), np.float32),
            color=np.repeat(paper[..., None], 3, axis=2),
            cam_T_world=np.eye(4),
            object_id=np.array([list(SHAPES).index(name) + 1 for name in names]),
            pose=pose,
            masks=masks,
            layers=layers,
            pixels=masks.sum((1, 2)),
            box=box,
            depth_order=order,
        )


def _model(name: str) -> ModelInfo:
    """A flat part, one fan of triangles, seen from the side of −z."""
    corners = SHAPES[name] / SIZE
    vertices = np.column_stack([corners, np.zeros(len(corners))])
    k = np.arange(1, len(corners) - 1)
    faces = np.stack([np.zeros_like(k), k + 1, k], -1)
    moments = _flat_moments(corners)
    covariance = np.zeros((3, 3))
    covariance[:2, :2] = moments
    diameter = float(np.linalg.norm(corners[:, None] - corners[None], axis=-1).max())
    return ModelInfo(name, vertices, faces, diameter, False, np.zeros(3), covariance)


def _flat_moments(corners: np.ndarray) -> np.ndarray:
    """(2, 2) second moments of a convex polygon (C, 2) about its centroid at 0.

    A triangle (0, a, b) of area A has A/12 (aaᵀ + bbᵀ + (a+b)(a+b)ᵀ).
    """
    a, b = corners, np.roll(corners, -1, axis=0)
    area = 0.5 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    outer = np.einsum("ci,cj->cij", a, a) + np.einsum("ci,cj->cij", b, b) + np.einsum("ci,cj->cij", a + b, a + b)
    return (area[:, None, None] * outer).sum(0) / (12 * area.sum())
