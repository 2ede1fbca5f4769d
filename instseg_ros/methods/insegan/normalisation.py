"""Depth in metres ↔ the small images in [−1, 1] that InSeGAN learns and answers on.

InSeGAN (section 4) works on depth images in which near is bright and the floor −1. Here the value is linear in depth between
``near`` (1) and ``far`` (−1), so it is the depth of a pinhole camera still; what the empty bin shows is −1 whatever its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ...errors import InputError
from ...frame import Frame
from ...geometry import crop_intrinsics, scale_intrinsics
from . import stored_normalisation
from .foreground import CLOSING, deepest, parts_mask
from .pixel_maps import between, warp_matrix

LEAST_COVER = 0.5  # of the region of interest that a frame must show
MOST_SAMPLES = 16  # per side of a working pixel


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What turns frames of one fixed camera over one bin into working images. Fitted without labels on many frames.

    Attributes:
        K: (3, 3) float64 intrinsics of the training frames, pixels.
        image_size: (width, height) of the training frames, pixels.
        roi: (x, y, side) of the square region of interest in training pixels: left column, top row, side. It may reach
            beyond the image, where there is nothing to see (−1).
        size: S, working pixels along a side of the square.
        near, far: depth in metres of the values 1 and −1. Parts lie between them; what is nearer than ``near`` is no part.
        background: (B, B) float32 metres, depth of the empty bin (floor, walls, whatever stands still) over the square, NaN
            where it is unknown and nothing counts as a part.
        margin: metres in front of the background from which a reading belongs to a part.

    Raises:
        InputError: a value that contradicts the above.
    """

    K: np.ndarray
    image_size: tuple[int, int]
    roi: tuple[int, int, int]
    size: int
    near: float
    far: float
    background: np.ndarray
    margin: float

    def __post_init__(self) -> None:
        if self.K.shape != (3, 3) or not np.isfinite(self.K).all() or min(self.K[0, 0], self.K[1, 1]) <= 0:
            raise InputError(f"normalisation: K must be 3 × 3 with positive focal lengths, got {self.K.tolist()}")
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise InputError(f"normalisation: image_size must be width and height in pixels, got {list(self.image_size)}")
        if len(self.roi) != 3 or self.roi[2] < 1:
            raise InputError(f"normalisation: roi must be x, y and a positive side in pixels, got {list(self.roi)}")
        if self.size < 8:
            raise InputError(f"normalisation: size must be at least 8 working pixels, got {self.size}")
        if not (0 <= self.near < self.far < np.inf):
            raise InputError(f"normalisation: 0 <= near < far metres must hold, got near {self.near} and far {self.far}")
        if not 0 < self.margin < self.far - self.near:
            raise InputError(f"normalisation: margin must lie between 0 and far - near, got {self.margin} m")
        shape = self.background.shape
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2 or not np.isfinite(self.background).any():
            raise InputError(f"normalisation: background must be a square image with at least one depth, got shape {shape}")

    # values

    def from_metres(self, depth: np.ndarray) -> np.ndarray:
        """Depth in metres → value, float32, 1 at ``near`` and −1 at ``far``, clipped to [−1, 1]. NaN stays NaN."""
        value = (np.float32(self.far + self.near) - 2 * np.asarray(depth, np.float32)) / np.float32(self.far - self.near)
        return np.clip(value, -1, 1)

    def to_metres(self, value: np.ndarray) -> np.ndarray:
        """Value → depth in metres, float32: the inverse of ``from_metres``."""
        return (np.float32(self.far + self.near) - np.asarray(value, np.float32) * np.float32(self.far - self.near)) / 2

    # pixels

    @property
    def working_K(self) -> np.ndarray:
        """(3, 3) float64 intrinsics of the working image: ``deproject(to_metres(image), working_K)`` are points in metres."""
        x, y, side = self.roi
        return scale_intrinsics(crop_intrinsics(self.K, x, y), self.size / side, self.size / side)

    def to_working(self, pixels: np.ndarray, K: np.ndarray | None = None) -> np.ndarray:
        """Pixels (…, 2), x first, of an image with intrinsics ``K`` (default: the training frames') → working pixels."""
        scale, offset = between(self.K if K is None else K, self.working_K)
        return np.asarray(pixels, np.float64) * scale + offset

    def to_image(self, pixels: np.ndarray, K: np.ndarray | None = None) -> np.ndarray:
        """Working pixels (…, 2), x first → pixels of an image with intrinsics ``K`` (default: the training frames')."""
        scale, offset = between(self.working_K, self.K if K is None else K)
        return np.asarray(pixels, np.float64) * scale + offset

    def to_frame(self, images: np.ndarray, frame: Frame, *, fill: float = -1.0) -> np.ndarray:
        """Working images (…, S, S) float32 → (…, H, W) float32 over the pixels of ``frame``, bilinear; ``fill`` outside."""
        matrix = warp_matrix(frame.K, self.working_K)
        h, w = frame.shape
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        stack = [
            cv2.warpAffine(image, matrix, (w, h), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=fill)
            for image in np.ascontiguousarray(images, np.float32).reshape(-1, self.size, self.size)
        ]
        return np.stack(stack).reshape(*images.shape[:-2], h, w) if stack else np.zeros((*images.shape[:-2], h, w), np.float32)

    # frames

    def apply(self, frame: Frame) -> np.ndarray:
        """The working image of a frame of the training camera, in whatever resolution or crop.

        A working pixel is the mean of what lies in it, −1 for everything that is not a part: at the outline of a part its
        value says how much of the pixel is covered.

        Returns:
            (S, S) float32 in [−1, 1], finite, also where depth is missing.

        Raises:
            InputError: the frame shows less than half of the region of interest, or comes from another kind of camera.
        """
        rows, columns = self.window(frame)
        depth, part = frame.depth[rows, columns], parts_mask(self, frame, rows, columns)
        value = np.where(part, self.from_metres(depth), np.float32(-1))
        holes = part & np.isnan(depth)
        if holes.any():
            value[holes] = _local_mean(value, part & ~holes)[holes]
        K = crop_intrinsics(frame.K, columns.start, rows.start)
        pixels = self.roi[2] / self.size * frame.K[0, 0] / self.K[0, 0]  # of the frame along a side of a working pixel
        k = int(np.clip(np.ceil(pixels - 1e-6), 1, MOST_SAMPLES))
        matrix = warp_matrix(scale_intrinsics(self.working_K, k, k), K)
        flags = (cv2.INTER_NEAREST if pixels > 1 - 1e-6 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        fine = cv2.warpAffine(value, matrix, (k * self.size, k * self.size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=-1)
        return fine.reshape(self.size, k, self.size, k).mean((1, 3))

    def foreground(self, frame: Frame) -> np.ndarray:
        """(H, W) bool: the observed pixels of parts, at the frame's own resolution.

        True within the region of interest, where depth lies between ``near`` and ``margin`` in front of the background (so
        neither on the floor nor on a wall), and in small holes in between. Specks under 3 × 3 pixels are left out.

        Raises:
            InputError: as ``apply``.
        """
        mask = np.zeros(frame.shape, bool)
        rows, columns = self.window(frame)
        mask[rows, columns] = parts_mask(self, frame, rows, columns)
        return mask

    def intrusion(self, frame: Frame) -> float:
        """Share of the region of interest that is covered by something nearer than any part: a hand, a gripper. [0, 1]

        Raises:
            InputError: as ``apply``.
        """
        rows, columns = self.window(frame)
        depth = frame.depth[rows, columns]
        with np.errstate(invalid="ignore"):
            return float(((depth < self.near) & (depth < deepest(self, frame, rows, columns))).mean())

    def window(self, frame: Frame) -> tuple[slice, slice]:
        """Rows and columns of the frame that the region of interest covers; InputError as ``apply``."""
        ratio = frame.K[[0, 1], [0, 1]] / self.K[[0, 1], [0, 1]]
        if abs(ratio[0] / ratio[1] - 1) > 0.02:
            raise InputError(
                f"the frame's pixels have the shape fx/fy = {frame.K[0, 0] / frame.K[1, 1]:.3f}, the model's camera "
                f"{self.K[0, 0] / self.K[1, 1]:.3f}: use the camera that the model was trained with"
            )
        scale, offset = between(self.K, frame.K)
        x, y, side = self.roi
        corners = np.array([[x, y], [x + side, y + side]]) - 0.5
        visible = np.clip(corners, -0.5, np.array(self.image_size) - 0.5)
        wanted, h, w = visible * scale + offset, *frame.shape
        shown = np.clip(wanted, -0.5, [w - 0.5, h - 0.5])
        cover = np.prod(shown[1] - shown[0]) / max(np.prod(wanted[1] - wanted[0]), 1e-9)
        if cover < LEAST_COVER:
            raise InputError(
                f"the frame ({w} x {h}) shows {100 * cover:.0f} % of the model's region of interest ({side} x {side} pixels at "
                f"({x}, {y}) of {self.image_size[0]} x {self.image_size[1]}): use the camera that the model was trained with, uncropped"
            )
        low, high = np.floor(shown[0] + 0.5).astype(int), np.ceil(shown[1] + 0.5).astype(int)
        return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))

    # model.yaml

    def to_dict(self) -> dict[str, Any]:
        """Plain values for ``model.yaml``."""
        return stored_normalisation.encode(self)

    @classmethod
    def from_dict(cls, values: Any) -> Normalisation:
        """The inverse of ``to_dict``; InputError names the key that is missing, unknown or wrong."""
        return cls(**stored_normalisation.decode(values))


def _local_mean(value: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Mean of ``value`` over the pixels to ``use`` around each pixel, −1 where there is none."""
    window = (2 * CLOSING - 1, 2 * CLOSING - 1)
    weight = cv2.boxFilter(use.astype(np.float32), -1, window, normalize=False)
    total = cv2.boxFilter(np.where(use, value, np.float32(0)), -1, window, normalize=False)
    return np.where(weight > 0.5, total / np.maximum(weight, 1), np.float32(-1)).astype(np.float32)
