"""One picture a frame at full size: the answer over the camera's image, and beside it the truth where it is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..drawing import colorize_depth, draw_overlay
from ..errors import InputError
from ..files import write_atomic
from .pictures import align

GAP = 4
CAPTION = 24


def side_by_side(
    depth: np.ndarray, color: np.ndarray | None, found: np.ndarray, true: np.ndarray | None, text: str
) -> np.ndarray:
    """RGB picture: a caption, below it the answer and, in the same colours where they match, the truth.

    Args:
        depth: (H, W) float32 m; drawn where there is no colour.
        color: (H, W, 3) uint8 RGB or None.
        found, true: (H, W) labels.
        text: the caption.
    """
    background = colorize_depth(depth, gray=True) if color is None else color
    if true is None:
        body = draw_overlay(background, found, ids=True)
    else:
        gap = np.full((found.shape[0], GAP, 3), 255, np.uint8)
        answer = draw_overlay(background, align(true, found), ids=True)
        body = np.hstack([answer, gap, draw_overlay(background, true, ids=True)])
    caption = np.full((CAPTION, body.shape[1], 3), 255, np.uint8)
    _write(caption, f"answer   {text}", 4)
    if true is not None:
        _write(caption, "truth", found.shape[1] + GAP + 4)
    return np.vstack([caption, body])


def _write(picture: np.ndarray, text: str, left: int) -> None:
    cv2.putText(picture, text, (left, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Write an RGB picture as PNG, atomically."""
    ok, png = cv2.imencode(".png", picture[..., ::-1])
    if not ok:
        raise InputError(f"cannot encode a picture of shape {picture.shape} for {path}")
    write_atomic(path, lambda temporary: temporary.write_bytes(png.tobytes()))
