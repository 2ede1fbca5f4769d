"""Rendering of a settled pile: depth, masks, layers, order and colour, every instance drawn once, alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..geometry import window_overlap
from .appearance import shade
from .background import background_mesh
from .rasterizer import draw, merge, window

if TYPE_CHECKING:
    from .physics import Settled

LAYERS = 4
"""Least depth of the amodal stack."""


@dataclass(frozen=True, eq=False)
class Rendering:
    """One view of a pile. Row ``i`` of every array is label ``i + 1``; camera optical frame; pixel centres at integers.

    Attributes:
        depth: (H, W) float32 m, the nearest surface (parts, bin, ground); NaN where there is none.
        labels: (H, W) uint16, the visible instance, 0 = bin or ground.
        masks: (n, H, W) bool amodal: every pixel that the instance covers, hidden or not.
        layers: (L, H, W) uint16: layer 0 equals ``labels``; the instances behind it follow in order. Where a bin wall is
            in front of the parts, layer 0 is 0 and the hidden parts start at layer 1. L is as many as the pile needs, 4 or more.
        visible_fraction: (n,) float32, visible pixels over all pixels of the silhouette, those beyond the image border
            included (BOP's visib_fract); 0 for an instance outside the view.
        pixels: (n,) int64 all pixels of the silhouette (BOP's px_count_all).
        box: (n, 4) int64 x, y, width, height of the silhouette (BOP's bbox_obj); may reach past the border.
        depth_order: (n,) int32, 0 = nearest, by the 10th percentile of the instance's own depth.
        poses: (n, 4, 4) float64 cam_T_part, m.
        rgb: (H, W, 3) uint8, or None when no generator for the appearance was given.
    """

    depth: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    layers: np.ndarray
    visible_fraction: np.ndarray
    pixels: np.ndarray
    box: np.ndarray
    depth_order: np.ndarray
    poses: np.ndarray
    rgb: np.ndarray | None


def render(
    settled: Settled,
    K: np.ndarray,
    size: tuple[int, int],
    cam_T_bin: np.ndarray,
    rng: np.random.Generator | None = None,
) -> Rendering:
    """Draw a settled pile in its bin.

    Args:
        settled: part, bin and poses.
        K: (3, 3) float64 pixels.
        size: (H, W).
        cam_T_bin: (4, 4) float64.
        rng: draws light, colours and textures; None = no colour image.
    """
    n, (h, w) = len(settled.poses), size
    vertices, faces = settled.part.vertices, settled.part.faces
    poses = cam_T_bin @ settled.poses

    ground_vertices, ground_faces, _ = background_mesh(settled.bin)
    background = np.full(size, np.inf, np.float32)
    face = np.full(size, -1, np.int32)
    draw(ground_vertices @ cam_T_bin[:3, :3].T + cam_T_bin[:3, 3], ground_faces, K, 0, 0, 0, background, face)

    masks = np.zeros((n, h, w), bool)
    pixels, box, near = np.zeros(n, np.int64), np.zeros((n, 4), np.int64), np.full(n, np.inf)
    drawn = []
    for i, pose in enumerate(poses):
        placed = vertices @ pose[:3, :3].T + pose[:3, 3]
        left, top, width, height = window(placed, K, size)
        if width <= 0 or height <= 0:
            continue
        alone, alone_face = np.full((height, width), np.inf, np.float32), np.empty((height, width), np.int32)
        draw(placed, faces, K, left, top, len(ground_faces) + i * len(faces), alone, alone_face)
        covered = alone < np.inf
        pixels[i] = np.count_nonzero(covered)
        if pixels[i]:
            rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
            box[i] = left + columns[0], top + rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1
            z = alone[covered]
            near[i] = np.partition(z, z.size // 10)[z.size // 10]
            inside, part = window_overlap(left, top, covered.shape, size)
            masks[i][inside] = covered[part]
            drawn.append((i + 1, left, top, alone, alone_face))

    deepest = int(masks.sum(0, dtype=np.uint8).max(initial=0))
    part_face = np.full(size, -1, np.int32)
    stack_depth = np.full((max(LAYERS, deepest + 1), h, w), np.inf, np.float32)  # one more: a wall may come before them all
    stack_label = np.zeros(stack_depth.shape, np.uint16)
    for label, left, top, alone, alone_face in drawn:
        merge(alone, alone_face, left, top, label, stack_depth, stack_label, part_face)

    depth = np.minimum(background, stack_depth[0])
    behind = np.flatnonzero((background <= stack_depth[0]) & (stack_label[0] > 0))
    if behind.size:  # a wall hides the front part: everything moves one layer back
        flat = stack_label.reshape(len(stack_label), -1)
        flat[1:, behind] = flat[:-1, behind]
        flat[0, behind] = 0
    if len(stack_label) > LAYERS and not stack_label[-1].any():
        stack_label = stack_label[:-1]
    labels = stack_label[0].copy()
    in_front = labels > 0
    face[in_front] = part_face[in_front]
    visible = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    order = np.empty(n, np.int32)
    order[np.argsort(near, kind="stable")] = np.arange(n)
    depth[~np.isfinite(depth)] = np.nan
    rgb = None if rng is None else shade(settled, depth, face, K, cam_T_bin, rng)
    return Rendering(
        depth=depth,
        labels=labels,
        masks=masks,
        layers=stack_label,
        visible_fraction=(visible / np.maximum(pixels, 1)).astype(np.float32),
        pixels=pixels,
        box=box,
        depth_order=order,
        poses=poses,
        rgb=rgb,
    )
