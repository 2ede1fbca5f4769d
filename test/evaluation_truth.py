"""Hand-made truths and answers for the evaluation tests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from instseg_ros.instances import Instances


def truth_of(masks: np.ndarray, *, part: list[str] | None = None, centroid: np.ndarray | None = None) -> SimpleNamespace:
    """The truth of amodal masks (N, H, W) bool of which the first lies on top (the fields of ``bop.Truth``)."""
    masks = np.asarray(masks, bool)
    n = len(masks)
    layers = stack(masks)
    visible = np.bincount(layers[0].ravel(), minlength=n + 1)[1:]
    return SimpleNamespace(
        labels=layers[0],
        masks=masks,
        layers=layers,
        visible_fraction=(visible / np.maximum(masks.sum((1, 2)), 1)).astype(np.float32),
        centroid=np.zeros((n, 3)) if centroid is None else np.asarray(centroid, float),
        covariance=np.tile(np.diag([4e-4, 1e-4, 1e-4]), (n, 1, 1)),
        part=part or ["nut"] * n,
        object_id=np.ones(n, np.int64),
    )


def stack(masks: np.ndarray) -> np.ndarray:
    """Amodal masks (N, H, W), first on top → layers (L, H, W) uint16 with L = the deepest pile, at least 1."""
    depth = np.where(masks, np.cumsum(masks, 0), 0)
    layers = np.zeros((max(int(masks.sum(0).max(initial=0)), 1), *masks.shape[1:]), np.uint16)
    for row in range(len(masks)):
        for level in range(len(layers)):
            layers[level][depth[row] == level + 1] = row + 1
    return layers


def answer(labels: np.ndarray, *, score: np.ndarray | None = None, layers: np.ndarray | None = None, **fields) -> Instances:
    """Instances of a label image; rows in depth order unless ``depth_order`` says otherwise."""
    n = int(max(labels.max(initial=0), 0 if layers is None else layers.max(initial=0)))
    rows = dict(
        centroid=np.zeros((n, 3), np.float32),
        covariance=np.tile(np.diag([4e-4, 1e-4, 1e-4]), (n, 1, 1)).astype(np.float32),
        visible_fraction=np.ones(n, np.float32),
        depth_order=np.arange(n, dtype=np.int32),
    )
    rows |= {name: np.asarray(value, rows[name].dtype) for name, value in fields.items()}
    score = np.linspace(1.0, 0.5, n) if score is None else np.asarray(score)
    return Instances(labels.astype(np.uint16), score.astype(np.float32), layers=layers, **rows)


def squares(n: int, size: int = 20, shape: tuple[int, int] = (80, 400)) -> np.ndarray:
    """n squares side by side, not touching, (n, H, W) bool."""
    masks = np.zeros((n, *shape), bool)
    for i in range(n):
        masks[i, 10 : 10 + size, 5 + i * (size + 5) : 5 + i * (size + 5) + size] = True
    return masks


def labels_of(masks: np.ndarray) -> np.ndarray:
    """Visible labels of masks (N, H, W), first on top."""
    return stack(np.asarray(masks, bool))[0]
