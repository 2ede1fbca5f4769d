"""Frame: one view of a depth camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import InputError


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera view, validated on construction.

    Attributes:
        depth: (H, W) float32, metres along the optical axis, NaN where the sensor gave no reading.
        K: (3, 3) float64 pinhole intrinsics in pixels, ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]``.
        color: (H, W, 3) uint8 RGB registered to ``depth``, or None.
        stamp_ns: acquisition time in nanoseconds.
        frame_id: name of the camera optical frame (x right, y down, z forward).

    Raises:
        InputError: a shape, dtype or value breaks the contract above.
    """

    depth: np.ndarray
    K: np.ndarray
    color: np.ndarray | None = None
    stamp_ns: int = 0
    frame_id: str = "camera_color_optical_frame"

    def __post_init__(self) -> None:
        depth, K, color = self.depth, self.K, self.color
        if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.size == 0:
            raise InputError(f"depth must be a non-empty (H, W) array, got {_describe(depth)}")
        if depth.dtype != np.float32:
            raise InputError(f"depth must be float32 metres, got {depth.dtype}: convert it with its own depth scale")
        nearest, farthest = np.fmin.reduce(depth, axis=None), np.fmax.reduce(depth, axis=None)  # NaN where all are
        if nearest <= 0 or farthest == np.inf:
            raise InputError(
                f"depth must be positive or NaN where there is no reading, got {nearest} to {farthest}: "
                "replace other values with NaN (Frame.from_raw does)"
            )
        if not isinstance(K, np.ndarray) or K.shape != (3, 3) or K.dtype != np.float64:
            raise InputError(f"K must be a (3, 3) float64 array, got {_describe(K)}")
        if not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise InputError(f"K must be finite with positive focal lengths, got fx = {K[0, 0]}, fy = {K[1, 1]}")
        if color is not None:
            if not isinstance(color, np.ndarray) or color.dtype != np.uint8 or color.shape != (*depth.shape, 3):
                raise InputError(
                    f"color must be uint8 RGB of shape {(*depth.shape, 3)} like the depth image, got {_describe(color)}: "
                    "align depth to color first"
                )

    @classmethod
    def from_raw(
        cls,
        depth: np.ndarray,
        K: np.ndarray,
        *,
        depth_scale: float = 1.0,
        color: np.ndarray | None = None,
        stamp_ns: int = 0,
        frame_id: str = "camera_color_optical_frame",
    ) -> Frame:
        """Build a frame from sensor values: any numeric ``depth`` of shape (H, W), multiplied by ``depth_scale`` to metres.

        Zero, negative and non-finite readings become NaN (REP 118: 0 in integer images and non-finite in float images
        mean "no reading").
        """
        metres = np.asarray(depth).astype(np.float32)  # a copy: the caller's buffer may be a read-only message
        if metres.ndim != 2:
            raise InputError(f"depth must be an (H, W) image, got shape {metres.shape}")
        if depth_scale != 1.0:
            metres *= np.float32(depth_scale)
        metres[~(metres > 0) | ~np.isfinite(metres)] = np.nan
        return cls(metres, np.asarray(K, dtype=np.float64), color, stamp_ns, frame_id)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.depth.shape  # type: ignore[return-value]


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{type(value).__name__} {value!r}"[:80]
