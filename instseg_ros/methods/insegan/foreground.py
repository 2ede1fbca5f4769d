"""Which pixels show parts: what stands out of the empty bin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ...frame import Frame
from ...geometry import crop_intrinsics, scale_intrinsics
from .background import nearest_background
from .pixel_maps import warp_matrix

if TYPE_CHECKING:
    from .normalisation import Normalisation

CLOSING = 5  # pixels; holes of the sensor up to this size lie within a part


def parts_mask(n: Normalisation, frame: Frame, rows: slice, columns: slice) -> np.ndarray:
    """(h, w) bool of a window of the frame: pixels of parts and of small holes in them (``Normalisation.foreground``)."""
    depth = frame.depth[rows, columns]
    with np.errstate(invalid="ignore"):
        raised = (depth > n.near) & (depth < deepest(n, frame, rows, columns))
    raised = cv2.morphologyEx(
        raised.view(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    closed = cv2.morphologyEx(raised, cv2.MORPH_CLOSE, np.ones((CLOSING, CLOSING), np.uint8))
    return (raised > 0) | ((closed > 0) & np.isnan(depth))


def deepest(n: Normalisation, frame: Frame, rows: slice, columns: slice) -> np.ndarray:
    """(h, w) float32: the largest depth of a part in each pixel of the window."""
    # The nearest background around each cell: at the step from wall to floor a reading may stem from either.
    nearest = nearest_background(n.background)
    x, y, side = n.roi
    cells = len(nearest) / side
    grid = scale_intrinsics(crop_intrinsics(n.K, x, y), cells, cells)
    matrix = warp_matrix(crop_intrinsics(frame.K, columns.start, rows.start), grid)
    size = (columns.stop - columns.start, rows.stop - rows.start)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(nearest, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) - np.float32(n.margin)
