"""A view under rolls of the camera and in the mirror: what these change in a network's answer is its error. Exact, nothing is resampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..frame import Frame


class View(NamedTuple):
    """One way to look at an image: axes are reversed, then swapped.

    Attributes:
        rows, columns: reversed. transpose: rows and columns are swapped afterwards.
    """

    rows: bool
    columns: bool
    transpose: bool

    @property
    def motion(self) -> np.ndarray:
        """(3, 3) motion of camera points; a mirror where its determinant is −1."""
        motion = np.diag([-1.0 if self.columns else 1.0, -1.0 if self.rows else 1.0, 1.0])
        return motion[[1, 0, 2]] if self.transpose else motion

    def image(self, image: np.ndarray, late: int = 0) -> np.ndarray:
        """An image (H, W, …) seen this way; ``late`` as of :meth:`frame`."""
        for axis, reverse in ((0, self.rows), (1, self.columns)):
            if reverse:
                size = image.shape[axis]
                image = np.take(image, np.clip(size - 1 + late - np.arange(size), 0, size - 1), axis)
        return np.ascontiguousarray(image.swapaxes(0, 1) if self.transpose else image)

    def intrinsics(self, K: np.ndarray, shape: tuple[int, int], late: int = 0) -> np.ndarray:
        """Intrinsics (3, 3) of an image of ``shape`` (H, W) seen this way; ``late`` as of :meth:`frame`."""
        K = K.copy()
        for axis, reverse in ((0, self.rows), (1, self.columns)):
            if reverse:
                K[1 - axis, 2] = shape[axis] - 1 + late - K[1 - axis, 2]
        return K[[1, 0, 2]][:, [1, 0, 2]] if self.transpose else K

    def frame(self, frame: Frame, late: int = 0) -> Frame:
        """The frame seen this way, with its intrinsics.

        Args:
            late: pixels that a reversed axis starts beyond the image's end, where the last pixel is repeated. Cells of S × S pixels that
                stand for pixel S // 2 of theirs come to lie on cells by 2 (S // 2) − S + 1.
        """
        color = None if frame.color is None else self.image(frame.color, late)
        K = self.intrinsics(frame.K, frame.shape, late)
        return Frame(self.image(frame.depth, late), K, color, frame.stamp_ns, frame.frame_id)

    def back(self, image: Tensor) -> Tensor:
        """An image (…, h, w) of the frame seen this way, as it lies in the frame itself."""
        image = image.transpose(-2, -1) if self.transpose else image
        axes = [axis for axis, reverse in ((-2, self.rows), (-1, self.columns)) if reverse]
        return image.flip(axes) if axes else image


TURNS = (View(False, False, False), View(False, True, True), View(True, True, False), View(True, False, True))
"""Rolls by 0, 1, 2 and 3 quarters, counter-clockwise in the image (np.rot90)."""
MIRROR = View(False, True, False)
"""Left and right."""


def views_of(turns: int, mirror: bool = False) -> list[View]:
    """Rolls of the camera by 360°/``turns`` (1, 2 or 4), and with ``mirror`` the mirror image of each."""
    views = list(TURNS[:: 4 // turns])
    return views + [view._replace(columns=not view.columns) for view in views] if mirror else views


def padded(frame: Frame, multiple: int) -> Frame:
    """The frame continued at the right and at the bottom to sides that are multiples of ``multiple``, as networks' inputs are."""
    pad = [(0, -side % multiple) for side in frame.shape]
    color = None if frame.color is None else np.pad(frame.color, (*pad, (0, 0)), mode="edge")
    return Frame(np.pad(frame.depth, pad, mode="edge"), frame.K, color, frame.stamp_ns, frame.frame_id)
