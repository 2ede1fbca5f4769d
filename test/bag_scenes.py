"""Small scenes with known truth, and bags of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from instseg_ros.bags import BagWriter
from instseg_ros.bop import Truth
from instseg_ros.frame import Frame
from instseg_ros.geometry import deproject, label_moments

SHAPE = (48, 64)
K = np.array([[60.0, 0, 31.5], [0, 60.0, 23.5], [0, 0, 1]])
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
FLOOR, HEIGHT = 0.6, 0.05


def scene(index: int) -> tuple[Frame, Truth]:
    """Two boxes on a floor, one shifted by ``index``; the second lies partly under the first. Exact in millimetres."""
    x = 8 + index % 16
    boxes = [(slice(10, 26), slice(x, x + 14)), (slice(20, 40), slice(x + 6, x + 24))]
    masks = np.zeros((2, *SHAPE), bool)
    for mask, box in zip(masks, boxes):
        mask[box] = True
    depth = np.full(SHAPE, FLOOR, np.float32)
    labels = np.zeros(SHAPE, np.uint16)
    for label in (2, 1):
        depth[masks[label - 1]] = np.float32(FLOOR - HEIGHT * (3 - label))
        labels[masks[label - 1]] = label
    depth[0, 0] = np.nan
    layers = np.stack([labels, np.where(masks.all(0), 2, 0).astype(np.uint16)])
    centroid, covariance, _ = label_moments(labels, deproject(depth, K), 2)
    truth = Truth(
        labels=labels,
        masks=masks,
        layers=layers,
        visible_fraction=np.array([(labels == k).sum() / masks[k - 1].sum() for k in (1, 2)], np.float32),
        centroid=centroid,
        covariance=covariance,
        part=["nut", "cone"],
        object_id=np.array([3, 7]),
        pose=np.tile(np.eye(4), (2, 1, 1)),
        depth_order=np.array([0, 1], np.int32),
    )
    color = np.full((*SHAPE, 3), 90, np.uint8)
    color[labels > 0] = (200, 120, 40)
    return Frame(depth, K, color, START_NS + index * PERIOD_NS, "camera_color_optical_frame"), truth


def write_bag(path: Path, count: int, *, truth: bool = True, **options: bool) -> Path:
    """A bag of ``count`` scenes."""
    with BagWriter(path, **options) as bag:
        for frame, answer in scenes(count):
            bag.write(frame, answer if truth else None)
    return path


def scenes(count: int) -> Iterator[tuple[Frame, Truth]]:
    """The first ``count`` scenes."""
    return map(scene, range(count))
