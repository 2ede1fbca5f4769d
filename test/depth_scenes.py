"""Depth frames of boxes in a bin with known truth: a tilted floor, four walls, one fixed camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from instseg_ros.bags import BagWriter
from instseg_ros.bop import BopWriter, ModelInfo, SceneRecord
from instseg_ros.frame import Frame

SHAPE = (72, 96)
K = np.array([[90.0, 0, 47.5], [0, 90.0, 35.5], [0, 0, 1]])
FLOOR, TILT = 0.6, 0.2  # depth in the middle (m); fall of the floor along y (m per m)
RIM, WALL = 6, 0.5  # pixels; depth of the top of the walls (m)
HEIGHT = 0.04  # of a box, give or take half
BOX = 14  # pixels


def empty_bin() -> np.ndarray:
    """(H, W) float32 depth of the empty bin: the plane z = FLOOR + TILT · y, seen through K, and walls around it."""
    v = np.arange(SHAPE[0])[:, None]
    floor = np.broadcast_to(FLOOR / (1 - TILT * (v - K[1, 2]) / K[1, 1]), SHAPE)
    depth = np.full(SHAPE, WALL)
    depth[RIM:-RIM, RIM:-RIM] = floor[RIM:-RIM, RIM:-RIM]
    return depth.astype(np.float32)


def pile(seed: int, boxes: int = 5, noise: float = 0.0, noise_seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Depth (H, W) float32 m of boxes thrown into the bin, and where they are (H, W) bool."""
    rng = np.random.default_rng([7, seed])
    depth = empty_bin()
    part = np.zeros(SHAPE, bool)
    for _ in range(boxes):
        top, left = rng.integers(RIM + 1, SHAPE[0] - RIM - BOX), rng.integers(RIM + 1, SHAPE[1] - RIM - BOX)
        area = np.s_[top : top + BOX, left : left + BOX]
        top_face = empty_bin()[area].min() - HEIGHT * rng.uniform(0.5, 1.5)
        depth[area] = np.minimum(depth[area], top_face)
        part[area] = True
    if noise:
        depth = depth + np.random.default_rng([8, noise_seed]).normal(0, noise, SHAPE)
    return depth.astype(np.float32), part


def frame(seed: int, **options: float) -> Frame:
    """A pile as a frame."""
    return Frame(pile(seed, **options)[0], K)


def write_bag(path: Path, images: list[np.ndarray], intrinsics: np.ndarray = K) -> Path:
    """A bag of depth images (H, W) float32 m, 30 a second."""
    with BagWriter(path) as bag:
        for i, depth in enumerate(images):
            bag.write(Frame(depth, intrinsics, None, 10**9 + i * 33_333_333))
    return path


def write_bop(root: Path, count: int, split: str = "train") -> Path:
    """A BOP split of piles, with the masks and truth files that a labelled set has."""
    writer = BopWriter(root, split)
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.04
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    writer.write_models({1: ModelInfo("box", corners, faces, 0.12, False, np.zeros(3), np.diag([5e-4, 5e-4, 0]))})
    writer.write_scene(0, [_record(seed) for seed in range(count)])
    return root


def _record(seed: int) -> SceneRecord:
    depth, part = pile(seed)
    layers = np.zeros((4, *SHAPE), np.uint16)
    layers[0] = part
    pose = np.eye(4)[None].copy()
    pose[0, 2, 3] = 0.5
    color = np.zeros((*SHAPE, 3), np.uint8)
    return SceneRecord(
        K, depth, color, np.eye(4), np.array([1]), pose, part[None], layers, np.array([part.sum()]), np.array([[0, 0, 9, 9]]), np.array([0])
    )
