"""The space in which parts may be: a plane or a box in the camera frame, the surface of the empty bin, or both.

All of them come down to one interval of depth at every pixel, so that a frame costs two comparisons, whatever its volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np

from .background import Background
from .errors import InputError
from .frame import Frame
from .instances import Instances

MOSTLY = 0.5
"""Instances of which a smaller share lies inside are dropped."""
EDGE = 2
"""Pixels by which the readings at an edge wander.: cutting there costs a method's outlines more than it mends."""
ENDLESS = 1e6
"""Metres."""
PLANE, BOX = 4, 10
"""How many numbers make one."""


NO_LIMIT = np.zeros((0, 4))
"""Half-spaces of everything."""


def half_spaces(numbers: Sequence[float]) -> np.ndarray:
    """The numbers of the parameter ``bin_volume`` → half-spaces (M, 4) in which a x + b y + c z + d ≥ 0, |(a, b, c)| = 1.

    Args:
        numbers: in the camera optical frame, metres. Four, a plane a, b, c, d: where a x + b y + c z + d > 0 is inside. Ten, a
            box: its centre x, y, z, its orientation as a quaternion x, y, z, w, its size along its own axes. None, or all 0:
            everything is inside.

    Raises:
        InputError: another number of values, values that are not finite, no direction, or no size.
    """
    values = np.asarray(numbers, np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"bin_volume must be finite numbers, got {list(numbers)}")
    if not values.any():
        return NO_LIMIT
    if len(values) == PLANE:
        length = np.linalg.norm(values[:3])
        if length == 0:
            raise InputError(f"bin_volume: the plane {list(numbers)} has no normal: give [a, b, c, d] of a x + b y + c z + d = 0")
        return values[None] / length
    if len(values) != BOX:
        raise InputError(
            f"bin_volume must be 4 numbers (plane a, b, c, d) or 10 (box: centre x, y, z, quaternion x, y, z, w, size), got {len(values)}"
        )
    centre, quaternion, size = values[:3], values[3:7], values[7:]
    if np.linalg.norm(quaternion) == 0 or (size <= 0).any():
        raise InputError(f"bin_volume: a box needs a quaternion that is not 0 and a positive size, got {list(numbers)}: [0, 0, 0, 1] is unturned")
    from scipy.spatial.transform import Rotation

    axes = Rotation.from_quat(quaternion).as_matrix().T  # rows: the box's axes in the camera frame
    normal = np.concatenate([axes, -axes])
    return np.column_stack([normal, np.concatenate([size, size]) / 2 - normal @ centre])


def depth_limits(spaces: np.ndarray, K: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel's ray is within all half-spaces (M, 4): from near to far, both (H, W) float32 m; near > far where never."""
    h, w = shape
    near, far = np.zeros(shape), np.full(shape, ENDLESS)
    x, y = (np.arange(w) - K[0, 2]) / K[0, 0], (np.arange(h)[:, None] - K[1, 2]) / K[1, 1]
    for a, b, c, d in spaces:
        slope = a * x + b * y + c  # a point at depth z has the signed distance z · slope + d
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = -d / slope
        near = np.where(slope > 0, np.maximum(near, crossing), near)
        far = np.where(slope < 0, np.minimum(far, crossing), far)
        far[(slope == 0) & (d < 0)] = -1
    return np.clip(near, 0, ENDLESS).astype(np.float32), np.clip(far, -1, ENDLESS).astype(np.float32)


@dataclass(frozen=True, eq=False)
class BinVolume:
    """What is inside, for frames of any camera. The limits of the last camera are kept, so let one thread ask.

    Args:
        spaces: (M, 4) half-spaces as of ``half_spaces``.
        background: the empty bin; what is not in front of it is outside.
        margin: metres in front of the background that still belong to it.
    """

    spaces: np.ndarray = field(default_factory=lambda: NO_LIMIT)
    background: Background | None = None
    margin: float = 0.005

    def __post_init__(self) -> None:
        object.__setattr__(self, "_limits", None)

    def __bool__(self) -> bool:
        return len(self.spaces) > 0 or self.background is not None

    @cached_property
    def without_background(self) -> BinVolume:
        """Plane or box alone."""
        return replace(self, background=None)

    @cached_property
    def summary(self) -> str:
        """One line for people."""
        limits = [] if not len(self.spaces) else ["plane" if len(self.spaces) == 1 else "box"]
        if self.background is not None:
            limits.append(f"background: {self.background.summary}")
        return ", ".join(limits) or "none"

    def inside(self, frame: Frame) -> np.ndarray:
        """(H, W) bool: readings inside; False where there is none.

        Raises:
            InputError: the background is another camera's.
        """
        near, far = self._limits_of(frame)
        return (frame.depth >= near) & (frame.depth <= far)  # False for NaN

    def clip(self, instances: Instances, frame: Frame, inside: np.ndarray) -> Instances:
        """Instances without those that are mostly outside, and without the pixels of the others that are.

        Pixels within ``EDGE`` of one that is inside stay as they are, and pixels without a reading, and amodal layers behind the
        first: what is hidden has no reading.
        """
        n, pixels = len(instances), np.flatnonzero(instances.labels > 0)
        label, within = instances.labels.reshape(-1).take(pixels), inside.reshape(-1).take(pixels)
        outside = ~within & np.isfinite(frame.depth.reshape(-1).take(pixels))
        if not outside.any():
            return instances
        lost, kept = (np.bincount(label[which], minlength=n + 1)[1:] for which in (outside, within))
        beside = cv2.dilate(inside.view(np.uint8), np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)).reshape(-1).take(pixels) > 0
        layers = instances.layers.copy()
        layers[0].reshape(-1)[pixels[outside & ~beside]] = 0
        return replace(instances, labels=layers[0], layers=layers).select(lost * MOSTLY <= kept * (1 - MOSTLY))

    def _limits_of(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        key = (frame.shape, frame.K.tobytes(), frame.frame_id)
        if self._limits is None or self._limits[0] != key:
            if self.background is not None:
                self.background.check(frame)
            near, far = depth_limits(self.spaces, frame.K, frame.shape)
            if self.background is not None:
                far = np.minimum(far, self.background.front(self.margin))
            object.__setattr__(self, "_limits", (key, near, far))
        return self._limits[1:]
