"""What a Layered Embeddings model sees: true layers, classes, embeddings and instances, a column a layer."""

from __future__ import annotations

import cv2
import numpy as np

from ..drawing import label_colors
from ..frame import Frame
from ..methods.layered.network import STRIDE
from ..methods.layered.segmenter import LayeredSegmenter

WHITE = np.array([255, 255, 255], np.uint8)
CLASS_COLORS = np.array([[255, 255, 255], [214, 90, 80], [95, 170, 95], [80, 95, 205], [200, 160, 70], [120, 120, 120]], np.uint8)


def layered_picture(segmenter: LayeredSegmenter, frame: Frame, truth: np.ndarray) -> np.ndarray:
    """RGB uint8 picture: the image on the left; rows: true layers, predicted classes, embeddings, instances found.

    Instances found have the colour of the true shape that they overlap most; embeddings are shown by their three principal
    components over all layers.

    Args:
        truth: (D, H, W) uint16 true stack.
    """
    prediction = segmenter.predict(frame)
    kind = prediction.semantic[0].argmax(1).cpu().numpy()
    embedding = prediction.embedding[0].permute(0, 2, 3, 1).cpu().numpy()
    found = segmenter.segment(frame)
    depth = len(kind)
    n = int(truth.max(initial=0))
    colors = label_colors(n)
    colors[0] = WHITE
    whole = np.stack([(truth == i).any(0) for i in range(1, n + 1)]) if n else np.zeros((0, *frame.shape), bool)
    own = [colors[_nearest((found.layers == i).any(0), whole)] for i in range(1, len(found) + 1)]
    rows = [
        colors[_first(truth, depth)],
        _large(CLASS_COLORS[kind % len(CLASS_COLORS)], frame.shape),
        _large(np.where(kind[..., None] > 0, _principal(embedding, kind > 0), 255).astype(np.uint8), frame.shape),
        np.array([WHITE, *own], np.uint8)[_first(found.layers, depth)],
    ]
    image = frame.color if frame.color is not None else np.full((*frame.shape, 3), 255, np.uint8)
    return np.concatenate([np.concatenate([image, *(_framed(layer) for layer in row)], 1) for row in rows])


def _first(stack: np.ndarray, depth: int) -> np.ndarray:
    return np.concatenate([stack, np.zeros((max(depth - len(stack), 0), *stack.shape[1:]), stack.dtype)])[:depth]


def _nearest(mask: np.ndarray, masks: np.ndarray) -> int:
    """1 + index of the mask of largest IoU, 0 = none overlaps."""
    shared = (masks & mask).sum((1, 2)) / np.maximum((masks | mask).sum((1, 2)), 1)
    return int(shared.argmax()) + 1 if shared.any() else 0


def _principal(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The three principal components of the vectors (…, C) at ``where``, each stretched to 0…255."""
    chosen = values[where]
    if len(chosen) < 4:
        return np.zeros((*values.shape[:-1], 3))
    mean = chosen.mean(0)
    axes = np.linalg.eigh(np.cov((chosen - mean).T))[1][:, ::-1][:, :3]
    low, high = np.percentile((chosen - mean) @ axes, [2, 98], axis=0)
    return np.clip(((values - mean) @ axes - low) / np.maximum(high - low, 1e-9), 0, 1) * 235


def _large(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cells.repeat(STRIDE, 1).repeat(STRIDE, 2)[:, : shape[0], : shape[1]]


def _framed(layer: np.ndarray) -> np.ndarray:
    return cv2.rectangle(np.ascontiguousarray(layer), (0, 0), (layer.shape[1] - 1, layer.shape[0] - 1), (190, 190, 190), 1)
