"""The numbers of a ``Normalisation`` as ``model.yaml`` holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .background import decode_background, encode_background

if TYPE_CHECKING:
    from .normalisation import Normalisation


def encode(n: Normalisation) -> dict[str, Any]:
    """Plain values; the background as a 16-bit PNG in base64, in steps of 0.1 mm, 0 = unknown."""
    return {
        "K": n.K.tolist(),
        "image_size": [int(v) for v in n.image_size],
        "roi": [int(v) for v in n.roi],
        "size": int(n.size),
        "near": float(n.near),
        "far": float(n.far),
        "margin": float(n.margin),
        "background_png": encode_background(n.background),
    }


def decode(values: Any) -> dict[str, Any]:
    """The constructor's arguments from what ``encode`` gave; InputError names the key that is missing, unknown or wrong."""
    known = ("K", "image_size", "roi", "size", "near", "far", "margin", "background_png")
    if not isinstance(values, dict):
        raise InputError(f"normalisation must hold {', '.join(known)}, got {values!r}"[:300])
    for key in known:
        if key not in values:
            raise InputError(f"normalisation: {key!r} is missing, copy the model anew")
    for key in values:
        if key not in known:
            raise InputError(f"normalisation: unknown key {key!r}, known are {', '.join(known)}")
    width, height = _integers(values, "image_size", 2)
    x, y, side = _integers(values, "roi", 3)
    return {
        "K": _numbers(values, "K", (3, 3)),
        "image_size": (width, height),
        "roi": (x, y, side),
        "size": _integers({"size": [values["size"]]}, "size", 1)[0],
        "near": float(_numbers(values, "near", ())),
        "far": float(_numbers(values, "far", ())),
        "background": decode_background(values["background_png"]),
        "margin": float(_numbers(values, "margin", ())),
    }


def _numbers(values: dict[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        array = np.array(values[key], np.float64).reshape(shape)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if not np.isfinite(array).all():
        raise InputError(f"normalisation: {key} must be {int(np.prod(shape))} finite number(s), got {values[key]!r}"[:300])
    return array


def _integers(values: dict[str, Any], key: str, count: int) -> list[int]:
    numbers = _numbers(values, key, (count,))
    if not (numbers == np.rint(numbers)).all() or np.abs(numbers).max() > 1e6:
        raise InputError(f"normalisation: {key} must be {count} whole number(s) of pixels, got {values[key]!r}"[:300])
    return [int(v) for v in numbers]
