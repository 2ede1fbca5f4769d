"""Pictures of depth and labels (NumPy and OpenCV): for people, RViz and reports."""

from __future__ import annotations

import cv2
import numpy as np

from .errors import InputError

NO_READING = (0, 0, 0)
_GOLDEN = 0.6180339887498949


def label_colors(n: int) -> np.ndarray:
    """(n + 1, 3) uint8 RGB: row ``i`` is the colour of label ``i`` wherever it is drawn; row 0 (background) is black."""
    return id_colors(np.arange(n + 1))


def id_colors(ids: np.ndarray) -> np.ndarray:
    """(n,) integers, n > 0 → (n, 3) uint8 RGB, black for 0.

    Hues step by the golden ratio, so that neighbouring ids differ much and no two of the first dozens look alike.
    """
    index = np.asarray(ids, np.int64)
    hsv = np.empty((1, len(index), 3), np.float32)
    hsv[0, :, 0] = (index * _GOLDEN) % 1.0 * 360.0
    hsv[0, :, 1] = np.array([0.90, 0.60, 0.75])[index % 3]
    hsv[0, :, 2] = np.array([1.00, 0.95, 0.75])[index // 3 % 3]
    colors = np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0] * 255).astype(np.uint8)
    colors[index == 0] = 0
    return colors


def outlines(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of a label whose right or lower neighbour has another label, and the pixels on its other side."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge & (labels > 0)


def draw_overlay(
    background: np.ndarray,
    labels: np.ndarray,
    *,
    alpha: float = 0.5,
    outline: bool = True,
    ids: bool = False,
    names: np.ndarray | None = None,
) -> np.ndarray:
    """Labels over an image.

    Args:
        background: (H, W, 3) uint8 RGB.
        labels: (H, W) integers, 0 = background.
        alpha: share of the label's colour inside of it, 0…1.
        outline: draw the border of every label in its full colour.
        ids: write each label's number at its middle.
        names: (N + 1,) integers, the number by which a label is coloured and written; None = the label itself.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    if background.shape != (*labels.shape, 3) or background.dtype != np.uint8:
        raise InputError(
            f"the background must be uint8 RGB of shape {(*labels.shape, 3)}, got {background.dtype} of {background.shape}"
        )
    if names is None:
        names = np.arange(int(labels.max(initial=0)) + 1)
    color = id_colors(names).take(labels, 0)
    picture = np.array(background, order="C")  # a copy that OpenCV can write to, also of a view with channels swapped
    background = np.ascontiguousarray(background)
    cv2.copyTo(cv2.addWeighted(background, 1 - alpha, color, alpha, 0), (labels > 0).astype(np.uint8), picture)
    if outline:
        cv2.copyTo(color, outlines(labels).astype(np.uint8), picture)
    if ids:
        _write_ids(picture, labels, names)
    return picture


def colorize_depth(
    depth: np.ndarray, *, near: float | None = None, far: float | None = None, gray: bool = False
) -> np.ndarray:
    """Depth (H, W) metres → (H, W, 3) uint8 RGB, near = warm, far = cold, no reading = black.

    Args:
        depth: metres, NaN where there is no reading.
        near, far: ends of the scale in metres; by default the 1st and 99th percentile of the image.
        gray: near = white, far = dark gray instead: the background on which labels stay readable.
    """
    valid = np.isfinite(depth)
    if not valid.any():
        return np.full((*depth.shape, 3), NO_READING, np.uint8)
    if near is None or far is None:
        sample = depth[valid]
        low, high = np.percentile(sample[:: max(1, sample.size // 20000)], (1, 99))  # a sample is enough for a scale
        near, far = (low if near is None else near), (high if far is None else far)
    low = 64.0 if gray else 0.0
    scaled = (far - depth) * np.float32((255.0 - low) / max(far - near, 1e-6)) + np.float32(low)
    level = np.clip(np.nan_to_num(scaled, copy=False), low, 255).astype(np.uint8)
    if gray:
        level[~valid] = 0
        return cv2.cvtColor(level, cv2.COLOR_GRAY2RGB)
    picture = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    picture[~valid] = NO_READING
    return picture


def _write_ids(picture: np.ndarray, labels: np.ndarray, names: np.ndarray) -> None:
    """White numbers with a black rim, at the pixel of each label that is nearest to its mean (a ring's middle is empty)."""
    flat = labels.reshape(-1)
    pixels = np.flatnonzero(flat)
    pixels = pixels[np.argsort(flat[pixels], kind="stable")]  # label by label
    ids, first, count = np.unique(flat[pixels], return_index=True, return_counts=True)
    rows, cols = np.divmod(pixels, labels.shape[1])
    middle = [np.add.reduceat(axis, first) / count for axis in (rows, cols)]
    distance = (rows - np.repeat(middle[0], count)) ** 2 + (cols - np.repeat(middle[1], count)) ** 2
    for label, start, size in zip(ids, first, count):
        at = start + int(np.argmin(distance[start : start + size]))
        text = str(names[label])
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        origin = int(cols[at] - width / 2), int(rows[at] + height / 2)
        cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(picture, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
