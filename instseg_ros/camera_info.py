"""``sensor_msgs/CameraInfo`` (of rclpy, rosbags or alike) → intrinsics of the image that it describes."""

from __future__ import annotations

from typing import Any

import cv2
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


def distortion_pixels(info: Any) -> float:
    """By how many pixels the lens moves the image's corners, at most; 0 without coefficients, inf for a model that is unknown."""
    D = np.array(info.d, np.float64)
    if not D.any():
        return 0.0
    K, width, height = np.array(info.k, np.float64).reshape(3, 3), info.width, info.height
    corners = np.array([(x, y) for x in (0, width - 1) for y in (0, height - 1)], np.float64)[:, None]
    undistort = cv2.fisheye.undistortPoints if info.distortion_model == "equidistant" else cv2.undistortPoints
    try:
        straight = undistort(corners, K, D, P=K)
    except cv2.error:  # a number of coefficients that no model of OpenCV has
        return np.inf
    return float(np.nan_to_num(np.abs(straight - corners), nan=np.inf).max())
