"""``sensor_msgs/CameraInfo`` (of rclpy, rosbags or alike) → intrinsics of the image that it describes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError
from .geometry import crop_intrinsics, scale_intrinsics


def read_camera_info(info: Any) -> tuple[np.ndarray, tuple[int, int]]:
    """K (3, 3) float64 pixels and size (H, W) of the image, its region of interest and binning applied.

    Raises:
        InputError: the camera is not calibrated (REP 104: K[0] == 0).
    """
    K = np.array(info.k, np.float64).reshape(3, 3)
    if not (np.isfinite(K).all() and K[0, 0] > 0 and K[1, 1] > 0):
        raise InputError(f"camera_info has fx = {K[0, 0]:g}, fy = {K[1, 1]:g}: calibrate the camera or fix its driver")
    width, height = info.width, info.height
    if info.roi.width and info.roi.height:
        K = crop_intrinsics(K, info.roi.x_offset, info.roi.y_offset)
        width, height = info.roi.width, info.roi.height
    bin_x, bin_y = max(info.binning_x, 1), max(info.binning_y, 1)
    if (bin_x, bin_y) != (1, 1):
        K = scale_intrinsics(K, 1 / bin_x, 1 / bin_y)
        width, height = width // bin_x, height // bin_y
    return K, (height, width)
