"""Camera presets and random viewpoints over a bin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .physics import Bin


@dataclass(frozen=True)
class CameraPreset:
    """Where a camera may stand and what lens it has. Lengths in metres, angles in radians, the rest in pixels.

    Attributes:
        size: (H, W).
        focal: mean focal length; ``focal_spread`` and ``centre_spread`` are the half ranges of its and the principal
            point's variation from device to device.
        distance: range of the distance between camera and bin floor along the optical axis; None = the bin's cross-section
            at half the walls' height fills ``fill`` of the image's smaller side.
        tilt: largest angle between the optical axis and the vertical.
        yaw: whether the camera turns freely about its optical axis.
        offset: largest shift of the viewed point from the centre of the bin, as a fraction of the bin's half sides.
    """

    size: tuple[int, int]
    focal: float
    focal_spread: float = 0.0
    centre_spread: float = 0.0
    distance: tuple[float, float] | None = None
    fill: float = 0.96
    tilt: float = 0.0
    yaw: bool = False
    offset: float = 0.0


PRESETS = {
    # InSeGAN's recipe: fixed overhead view of the bin. Equals the middle of a D435's 1280×720 image.
    "insta10": CameraPreset((224, 224), 920.0),
    # RealSense D435, depth aligned to colour: the colour camera's field of view is 69° × 42° (data sheet 337029).
    "d435": CameraPreset((480, 640), 615.0, 4.0, 4.0, (0.45, 0.75), tilt=np.radians(20), yaw=True, offset=0.5),
    "d435-hd": CameraPreset((720, 1280), 920.0, 6.0, 6.0, (0.45, 0.75), tilt=np.radians(20), yaw=True, offset=0.5),
}


def sample_camera(preset: CameraPreset, bin: Bin, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics K (3, 3) and pose cam_T_bin (4, 4) of one random camera."""
    h, w = preset.size
    focal = preset.focal + preset.focal_spread * rng.uniform(-1, 1)
    cx, cy = np.array([(w - 1) / 2, (h - 1) / 2]) + preset.centre_spread * rng.uniform(-1, 1, 2)
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1.0]])
    tilt, azimuth, yaw = preset.tilt * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)
    target = np.array([*(np.array([bin.half_x, bin.half_y]) * preset.offset * rng.uniform(-1, 1, 2)), 0.0])
    if preset.distance is None:
        distance = focal * max(bin.half_x, bin.half_y) / (preset.fill * min(h, w) / 2) + bin.wall_height / 2
    else:
        distance = rng.uniform(*preset.distance)
    if not preset.yaw:
        yaw = azimuth = 0.0
    back = np.array([np.sin(tilt) * np.cos(azimuth), np.sin(tilt) * np.sin(azimuth), np.cos(tilt)])
    return K, look_at(target + distance * back, target, yaw)


def look_at(eye: np.ndarray, target: np.ndarray, yaw: float = 0.0) -> np.ndarray:
    """cam_T_world (4, 4) of a camera at ``eye`` (3,) m that looks down at ``target``; world z up.

    With ``yaw`` 0 and a vertical view, image right is world x and image down is world −y.
    """
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    x -= z * (x @ z)
    x /= np.linalg.norm(x)
    T = np.eye(4)
    T[:3, :3] = np.stack([x, np.cross(z, x), z])
    T[:3, 3] = -T[:3, :3] @ eye
    return T
