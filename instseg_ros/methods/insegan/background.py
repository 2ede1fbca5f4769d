"""The depth image of the empty bin: how it is stored, and its nearest side."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from ...errors import InputError

UNIT = 1e-4
"""Metres per step of a stored background."""


def encode_background(background: np.ndarray) -> str:
    """(h, w) metres → 16-bit PNG in base64, in steps of ``UNIT``, 0 = unknown (NaN)."""
    steps = np.nan_to_num(background / UNIT).clip(0, 65535).round().astype(np.uint16)
    return base64.b64encode(cv2.imencode(".png", steps, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()).decode("ascii")


def decode_background(text: Any) -> np.ndarray:
    """The inverse of ``encode_background``, float32; InputError for anything else."""
    try:
        steps = cv2.imdecode(np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_UNCHANGED)
    except (TypeError, ValueError, cv2.error):
        steps = None
    if steps is None or steps.ndim != 2 or steps.dtype != np.uint16:
        raise InputError(f"normalisation: background_png must be a 16-bit PNG in base64, got {str(text)[:40]!r}…: copy the model anew")
    return np.where(steps > 0, steps * np.float32(UNIT), np.float32(np.nan)).astype(np.float32)


def nearest_background(background: np.ndarray) -> np.ndarray:
    """(h, w) nearest known background in each 3 × 3 window, metres; 0 where it is unknown (NaN) itself."""
    unknown = np.isnan(background)
    nearest = cv2.erode(np.where(unknown, np.float32(1e3), background), np.ones((3, 3), np.uint8))
    return np.where(unknown, np.float32(0), nearest)
