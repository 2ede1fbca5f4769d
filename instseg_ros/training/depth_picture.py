"""What a training on depth images gets to see, as one picture: to be looked at before hours go into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from .depth_images import DepthImages

COLUMNS, ROWS, TILE, GAP = 6, 4, 160, 4


def depth_picture(images: DepthImages) -> np.ndarray:
    """Contact sheet (h, w) uint8: the empty bin that was found, brighter = nearer, then images spread over the recording."""
    n = images.normalisation
    known = n.background[np.isfinite(n.background)]
    low, high = float(known.max()), min(float(known.min()), n.near)
    empty = np.nan_to_num((low - n.background) / (low - high), nan=0.0)
    chosen = np.unique(np.linspace(0, len(images) - 1, COLUMNS * ROWS - 1).round().astype(int))
    tiles = [_tile(empty), *(_tile((images.images[i] + 1) / 2) for i in chosen)]
    sheet = np.full((ROWS * (TILE + GAP) - GAP, COLUMNS * (TILE + GAP) - GAP), 90, np.uint8)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, COLUMNS)
        sheet[row * (TILE + GAP) :, column * (TILE + GAP) :][:TILE, :TILE] = tile
    return sheet


def _tile(share: np.ndarray) -> np.ndarray:
    return cv2.resize((255 * share.clip(0, 1)).astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST)
