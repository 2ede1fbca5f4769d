"""The part of a view that counts: a pixel rectangle and a range of depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError
from .frame import Frame
from .geometry import crop_intrinsics
from .instances import Instances


@dataclass(frozen=True)
class Region:
    """What of a frame a segmenter gets to see.

    Attributes:
        x, y: left column and top row of the rectangle in pixels.
        width, height: size of the rectangle in pixels; 0 = to the image's border.
        near, far: depth in metres; readings outside count as missing. 0 = no limit.

    Raises:
        InputError: a negative value, or ``far`` not beyond ``near``.
    """

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0
    near: float = 0.0
    far: float = 0.0

    def __post_init__(self) -> None:
        if min(self.x, self.y, self.width, self.height) < 0:
            raise InputError(
                f"roi must be [x, y, width, height] >= 0, got {[self.x, self.y, self.width, self.height]}: "
                "all 0 is the whole image"
            )
        if not (np.isfinite([self.near, self.far]).all() and self.near >= 0 and (self.far == 0 or self.far > self.near)):
            raise InputError(
                f"depth_range must be [near, far] metres with 0 <= near < far, got {[self.near, self.far]}: 0 is no limit"
            )

    def apply(self, frame: Frame) -> Frame:
        """The frame cut to the rectangle, its intrinsics moved along, depth outside the range NaN.

        Raises:
            InputError: the rectangle lies outside the image.
        """
        rows, cols = self._slices(frame.shape)
        depth = frame.depth[rows, cols]
        if self.near > 0 or self.far > 0:
            far = self.far or np.inf
            with np.errstate(invalid="ignore"):
                depth = np.where((depth >= self.near) & (depth <= far), depth, np.float32(np.nan))
        if depth is frame.depth or (depth.shape == frame.shape and depth.base is frame.depth):
            return frame
        color = None if frame.color is None else np.ascontiguousarray(frame.color[rows, cols])
        K = crop_intrinsics(frame.K, cols.start, rows.start)
        return replace(frame, depth=np.ascontiguousarray(depth), K=K, color=color)

    def restore(self, instances: Instances, shape: tuple[int, int]) -> Instances:
        """The answer to the cut frame in the pixels of the whole image of ``shape`` (H, W)."""
        if instances.labels.shape == tuple(shape):
            return instances
        rows, cols = self._slices(shape)
        layers = np.zeros((len(instances.layers), *shape), np.uint16)
        layers[:, rows, cols] = instances.layers
        return replace(instances, labels=layers[0], layers=layers)

    def _slices(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        h, w = shape
        if self.x >= w or self.y >= h:
            raise InputError(f"roi starts at ({self.x}, {self.y}), outside the {w} x {h} image: move it")
        right = min(w, self.x + self.width) if self.width else w
        bottom = min(h, self.y + self.height) if self.height else h
        return slice(self.y, bottom), slice(self.x, right)
