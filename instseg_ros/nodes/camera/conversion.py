"""librealsense's frames → ``sensor_msgs``, with realsense2_camera's encodings: rgb8, and 16UC1 in millimetres."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from ... import images
from ...errors import InputError

ENCODINGS = {
    "rgb8": "rgb8",
    "bgr8": "bgr8",
    "rgba8": "rgba8",
    "bgra8": "bgra8",
    "yuyv": "yuv422_yuy2",
    "uyvy": "yuv422",
    "y8": "mono8",
}
"""Format of librealsense → encoding of ``sensor_msgs/Image``, the one to ask a camera for first."""


def depth_millimetres(frame: Any) -> np.ndarray:
    """(H, W) uint16 millimetres of a depth frame, 0 = no reading."""
    return to_millimetres(np.asanyarray(frame.get_data()), frame.get_units())


def to_millimetres(raw: np.ndarray, units: float) -> np.ndarray:
    """Depth (H, W) uint16 in ``units`` of metres → millimetres, halves rounded up; 0 and beyond 65.535 m = no reading."""
    table = _millimetres(f"{units:.7g}")  # the digits that a float32 has: 0.001 comes as 0.0010000000474974513
    return raw if table is None else np.take(table, raw)


def color_pixels(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a colour frame. InputError for a format that is none of ``ENCODINGS``."""
    name = frame.get_profile().format().name
    if name not in ENCODINGS:
        raise InputError(f"color format {name} is unknown: record or stream one of {', '.join(ENCODINGS)}")
    data = np.asanyarray(frame.get_data()).reshape(-1).view(np.uint8)
    return images.decode_color(ENCODINGS[name], frame.get_height(), frame.get_width(), frame.get_stride_in_bytes(), 0, data)


def camera_info(intrinsics: Any, header: Header) -> CameraInfo:
    """``sensor_msgs/CameraInfo`` of ``rs.intrinsics`` as realsense2_camera fills it: R = 1, P = [K 0]."""
    fisheye = intrinsics.model.name == "kannala_brandt4"
    K = np.array([[intrinsics.fx, 0, intrinsics.ppx], [0, intrinsics.fy, intrinsics.ppy], [0, 0, 1]])
    info = CameraInfo(header=header, width=intrinsics.width, height=intrinsics.height)
    info.distortion_model = "equidistant" if fisheye else "plumb_bob"
    info.d = [float(c) for c in intrinsics.coeffs[: 4 if fisheye else 5]]
    info.k = K.reshape(-1)
    info.r = np.eye(3).reshape(-1)
    info.p = np.hstack([K, np.zeros((3, 1))]).reshape(-1)
    return info


@lru_cache(maxsize=8)
def _millimetres(units: str) -> np.ndarray | None:
    """Millimetres of every raw value, exactly; None where they are the same."""
    factor = Fraction(units) * 1000
    if factor == 1:
        return None
    raw = np.arange(65536, dtype=np.int64)
    n, d = factor.numerator, factor.denominator
    if 65535 * n * 2 + d >= 2**63:
        raise InputError(f"depth units of {units} m are not a camera's: record it anew")
    table = (2 * raw * n + d) // (2 * d)
    return np.where(table < 65536, table, 0).astype(np.uint16)
