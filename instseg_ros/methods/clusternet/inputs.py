"""Frame → network inputs. The same code feeds training and the robot, so the two cannot drift apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import cv2
import numpy as np

from ...errors import InputError
from ...geometry import deproject

INPUT_CHANNELS = {"rgb": 3, "xyz": 4, "depth": 3}
"""Channels of each modality; xyz and depth carry a validity channel."""
POSITION_SCALE = 0.1  # metres per unit of the xyz channels
CONTRAST_SCALE = 0.01  # metres per unit of the local depth contrast
CONTRAST_WINDOW = 21  # pixels; about half a part at bin-picking range
CLIP = 5.0
SCALED_COLOR = np.arange(256, dtype=np.float32) / np.float32(127.5) - 1  # of each of the 256 values


def check_inputs(names: Collection[str]) -> None:
    """InputError unless ``names`` are one or more modalities."""
    if not names or set(names) - INPUT_CHANNELS.keys():
        raise InputError(f"inputs must be a non-empty subset of {', '.join(INPUT_CHANNELS)}, got {list(names)}")


def fill_depth(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replace missing readings by the nearest reading in the image.

    Args:
        depth: (H, W) float32 metres, NaN where there is no reading.

    Returns:
        filled (H, W) float32, and valid (H, W) bool. Without any reading, filled is all zeros.
    """
    valid = np.isfinite(depth)
    if valid.all():
        return depth, valid
    if not valid.any():
        return np.zeros_like(depth), valid
    hole = ~valid
    _, nearest = cv2.distanceTransformWithLabels(hole.view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    filled = depth.copy()
    filled[hole] = depth[valid][nearest[hole] - 1]  # labels count the valid pixels, row by row
    return filled, valid


def scaled_color(color: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 → float32 in [−1, 1]."""
    return cv2.LUT(color, SCALED_COLOR)


def network_inputs(
    depth: np.ndarray, K: np.ndarray, color: np.ndarray | None, names: Iterable[str], *, shift: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Build the input images of ClusterNet.

    Args:
        depth: (H, W) float32 metres, NaN where there is no reading.
        K: (3, 3) pixels.
        color: (H, W, 3) uint8 RGB; only read when ``names`` has rgb.
        names: modalities among rgb, xyz, depth.
        shift: (3,) metres added to the xyz channels; training jitters it so that nothing depends on where the bin stands.

    Returns:
        images: (H, W, C) float32 a modality. ``rgb``: [−1, 1]. ``xyz``: X, Y, Z minus the median Z, in units of 0.1 m, and
        validity. ``depth``: Z minus the median, in units of 0.1 m, minus its local mean, in units of 1 cm, and validity.
        points: (H, W, 3) float32 metres, missing depth filled with the nearest reading.
    """
    filled, valid = fill_depth(depth)
    points = deproject(filled, K)
    sample = depth[::4, ::4]
    sample = sample[np.isfinite(sample)]
    middle = np.float32(np.median(sample)) if sample.size else np.float32(0)
    move = np.zeros(3, np.float32) if shift is None else shift.astype(np.float32)
    images = {}
    for name in names:
        if name == "rgb":
            images[name] = scaled_color(color)
            continue
        # Plane by plane and merged at the end: several times faster than steps over interleaved channels.
        if name == "xyz":
            offset = np.array([0, 0, -middle], np.float32) + move
            planes = [(points[..., i] + offset[i]) * np.float32(1 / POSITION_SCALE) for i in range(3)]
        else:
            relative = filled - middle
            local = cv2.blur(relative, (CONTRAST_WINDOW, CONTRAST_WINDOW), borderType=cv2.BORDER_REFLECT_101)
            planes = [(relative + move[2]) / np.float32(POSITION_SCALE), (relative - local) / np.float32(CONTRAST_SCALE)]
        for plane in planes:
            np.clip(plane, -CLIP, CLIP, out=plane)
        images[name] = cv2.merge([*planes, valid.astype(np.float32)])
    return images, points
