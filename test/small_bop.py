"""A small BOP dataset of boxes on a floor, written through the package's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from evaluation_truth import stack

from instseg_ros.bop import BopWriter, ModelInfo, SceneRecord

K = np.array([[120.0, 0, 63.5], [0, 120.0, 47.5], [0, 0, 1]])
SHAPE = (96, 128)


def record(n: int, object_id: int, seed: int) -> SceneRecord:
    """n boxes of 20 × 20 pixels, 8 cm above a floor at 0.6 m; their poses are the middles of their upper faces."""
    rng = np.random.default_rng(seed)
    masks, depth, pose = np.zeros((n, *SHAPE), bool), np.full(SHAPE, 0.6, np.float32), np.tile(np.eye(4), (n, 1, 1))
    for i in range(n):
        top, left = 8 + 42 * (i // 3) + rng.integers(0, 8), 4 + 40 * (i % 3) + rng.integers(0, 8)
        masks[i, top : top + 20, left : left + 20] = True
        depth[masks[i]] = 0.52
        pose[i, :3, 3] = 0.52 * (left + 9.5 - K[0, 2]) / 120, 0.52 * (top + 9.5 - K[1, 2]) / 120, 0.52
    layers = np.zeros((4, *SHAPE), np.uint16)
    layers[0] = stack(masks)[0]
    box = np.tile([0, 0, 20, 20], (n, 1))
    color = rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8)
    order = np.arange(n)
    return SceneRecord(K, depth, color, np.eye(4), np.full(n, object_id), pose, masks, layers, masks.sum((1, 2)), box, order)


def write_small_bop(root: Path, split: str = "test") -> Path:
    """Two scenes of two images: 3 and 4 boxes named nut, 5 and 2 boxes named bolt."""
    writer = BopWriter(root, split)
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.0433
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    models = {
        i: ModelInfo(name, corners, faces, 0.12, False, np.zeros(3), np.diag([6.3e-4, 6.3e-4, 0]))
        for i, name in ((1, "nut"), (2, "bolt"))
    }
    writer.write_models(models)
    writer.write_scene(0, [record(3, 1, 0), record(4, 1, 1)])
    writer.write_scene(1, [record(5, 2, 2), record(2, 2, 3)])
    return root
