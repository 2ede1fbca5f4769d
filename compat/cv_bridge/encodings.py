"""Names of image encodings (sensor_msgs/image_encodings.hpp): their layout, and the conversions between colour encodings."""

from __future__ import annotations

import re

import cv2
import numpy as np

DTYPES = {"8U": "uint8", "8S": "int8", "16U": "uint16", "16S": "int16", "32S": "int32", "32F": "float32", "64F": "float64"}
GENERIC = re.compile(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([0-9]+))?")

COLORS = {"mono": ("GRAY", 1), "rgb": ("RGB", 3), "bgr": ("BGR", 3), "rgba": ("RGBA", 4), "bgra": ("BGRA", 4)}
"""Prefix of a colour encoding → OpenCV's name, channels; the bits of a channel follow the prefix."""
# OpenCV names a Bayer pattern by the second row's second and third pixel, ROS by the first row's first two.
BAYER = {"bayer_rggb": "BayerBG", "bayer_bggr": "BayerRG", "bayer_gbrg": "BayerGR", "bayer_grbg": "BayerGB"}
YUV = {"yuv422": "UYVY", "yuv422_yuy2": "YUY2"}


def layout(encoding: str) -> tuple[np.dtype, int]:
    """Encoding → dtype of a channel, channels. ValueError where it is unknown."""
    if encoding in YUV:
        return np.dtype(np.uint8), 2
    prefix, bits = color_parts(encoding)
    if prefix is not None:
        return np.dtype(f"uint{bits}"), 1 if prefix in BAYER else COLORS[prefix][1]
    match = GENERIC.fullmatch(encoding)
    if match is None:
        raise ValueError(f"Unrecognized image encoding [{encoding}]")
    return np.dtype(DTYPES[match[1]]), int(match[2] or 1)


def color_parts(encoding: str) -> tuple[str | None, int]:
    """``bgr8`` → ("bgr", 8); (None, 0) for what is no colour encoding of 8 or 16 bits."""
    match = re.fullmatch(r"(.*?)(8|16)", encoding)
    if match and (match[1] in COLORS or match[1] in BAYER):
        return match[1], int(match[2])
    return None, 0


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """Pixels of encoding ``source`` as ``target``. ValueError where that makes no sense."""
    if source == target:
        return image
    dtype, channels = layout(target)
    from_kind, _ = color_parts(source)
    to_kind, _ = color_parts(target)
    if from_kind is None and source not in YUV:
        if to_kind is not None or target in YUV:
            raise ValueError(f"[{source}] is not a color format. but [{target}] is. The conversion does not make sense")
    if to_kind is None and target not in YUV:
        if layout(source)[1] != channels:
            raise ValueError(f"[{source}] and [{target}] do not have the same number of channels")
    elif from_kind != to_kind or source in YUV:
        image = cv2.cvtColor(image, _code(source, target, from_kind, to_kind))
    return image if image.dtype == dtype else _requantise(image, dtype)


def _code(source: str, target: str, from_kind: str | None, to_kind: str | None) -> int:
    goal = COLORS[to_kind][0] if to_kind in COLORS else None
    if source in YUV:
        name = f"COLOR_YUV2{goal}_{YUV[source]}"
    elif from_kind in BAYER:
        name = f"COLOR_{BAYER[from_kind]}2{goal}"
    else:
        name = f"COLOR_{COLORS[from_kind][0]}2{goal}"
    code = getattr(cv2, name, None)
    if goal is None or code is None:
        raise ValueError(f"Unsupported conversion from [{source}] to [{target}]")
    return code


def _requantise(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Another number type: white stays white between 8 and 16 bits, everything else keeps its value, saturated."""
    scale = {(1, 2): 65535 / 255, (2, 1): 255 / 65535}.get((image.itemsize, dtype.itemsize), 1.0)
    values = image * scale
    if dtype.kind == "f":
        return values.astype(dtype)
    return np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max).astype(dtype)
