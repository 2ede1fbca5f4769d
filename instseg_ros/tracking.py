"""Tracking: a part keeps its id from frame to frame while the camera stands still and the bin changes slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .errors import InputError
from .frame import Frame
from .geometry import gaussian_distance
from .instances import Instances

HIGHEST_ID = np.iinfo(np.uint16).max
"""Of a 16UC1 mask."""
SAME_SURFACE = 0.25
"""Of a part's radius: a reading this near to the one before is of the same surface."""
SAME_MASK = 0.3
"""Masks that overlap this much (IoU) on the same surface are of one part, whatever the method says about its middle."""
MOST_MISSED = 500
"""Parts that are remembered although they are not found: a method that sees ghosts must not fill the memory or use up the ids."""
FORBIDDEN = 1e3
"""Cost of a pair that must not be matched; any other costs less than 2."""


@dataclass(frozen=True)
class TrackingOptions:
    """When an instance is the part of an earlier frame.

    Attributes:
        max_move: how far a part may move between two frames, in its own radii (root of the trace of its covariance), where
            its mask alone does not tell. Distance is the 2-Wasserstein distance of the Gaussians, so a change of size or
            direction counts as movement.
        max_missed: frames for which a part that is not found keeps its id.

    Raises:
        InputError: a value out of range.
    """

    max_move: float = 0.75
    max_missed: int = 30

    def __post_init__(self) -> None:
        if not 0 < self.max_move <= 10:
            raise InputError(f"max_move must lie in (0, 10] radii of the part, got {self.max_move}")
        if not 0 <= self.max_missed < HIGHEST_ID:
            raise InputError(f"max_missed must lie in [0, {HIGHEST_ID}) frames, got {self.max_missed}")


@dataclass(frozen=True, eq=False)
class Tracks:
    """What is remembered of T parts.

    Attributes:
        ids: (T,) int64. missed: (T,) int64 frames since it was found.
        centroid: (T, 3) m. covariance: (T, 3, 3) m². pixels: (T,) visible when it was found last.
        map: (H, W) uint16, row + 1 of the part that was found last at a pixel, 0 = none.
        surface: (H, W) float32 m, depth at that time.
    """

    ids: np.ndarray
    missed: np.ndarray
    centroid: np.ndarray
    covariance: np.ndarray
    pixels: np.ndarray
    map: np.ndarray
    surface: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def radius(self) -> np.ndarray:
        """(T,) m, root mean square distance of the part's surface from its centroid."""
        return np.sqrt(np.trace(self.covariance, axis1=1, axis2=2))

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Tracks:
        """No parts in an image of ``shape`` (H, W)."""
        integers = np.zeros(0, np.int64)
        return cls(
            integers, integers, np.zeros((0, 3)), np.zeros((0, 3, 3)), integers, np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
        )


class Tracker:
    """Gives the instances of successive frames ids that stay with their part.

    An id is not given to another part as long as there are fresh ones up to ``HIGHEST_ID``; then the lowest that no remembered
    part has is next. Another camera (intrinsics, size or frame_id) or an earlier stamp makes it forget all parts, not the ids.
    """

    def __init__(self, options: TrackingOptions = TrackingOptions()) -> None:
        self.options = options
        self._last_id = 0
        self._tracks: Tracks | None = None
        self._frame: Frame | None = None

    def forget(self) -> None:
        """Every part of the next frame is a new one."""
        self._tracks = None

    def update(self, frame: Frame, instances: Instances) -> np.ndarray:
        """Ids (N,) uint16 of the instances of the next frame."""
        if self._frame is not None and not _continues(self._frame, frame):
            self.forget()
        self._frame = frame
        tracks = Tracks.none(frame.shape) if self._tracks is None else self._tracks
        pixels = np.flatnonzero(instances.labels > 0)
        label = instances.labels.reshape(-1).take(pixels)
        area = np.bincount(label, minlength=len(instances) + 1)[1:]
        rows, columns = self._match(tracks, instances, _iou(tracks, frame.depth, pixels, label, area))
        ids = np.zeros(len(instances), np.int64)
        ids[columns] = tracks.ids[rows]
        keep = tracks.missed < self.options.max_missed
        keep[rows] = False
        keep &= ~_seen_through(tracks, keep, frame.depth)
        keep[np.flatnonzero(keep)[MOST_MISSED:]] = False  # tracks stand in the order in which they were seen last
        new = np.flatnonzero(ids == 0)
        new = new[np.argsort(instances.depth_order[new])]  # numbered from the top, whatever order the method lists them in
        ids[new] = self._fresh_ids(len(new), np.concatenate([ids, tracks.ids[keep]]))
        self._tracks = _remember(tracks, keep, frame, instances, ids, pixels, label, area)
        return ids.astype(np.uint16)

    def _match(self, tracks: Tracks, instances: Instances, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of tracks and of instances that are the same part: the cheapest assignment by movement and lost overlap."""
        reach = np.maximum(self.options.max_move * tracks.radius, 1e-9)
        offset = np.linalg.norm(tracks.centroid[:, None] - instances.centroid[None], axis=2)
        row, column = np.nonzero(offset <= reach[:, None])  # the distance is no smaller than that of the centroids
        move = np.full(iou.shape, np.inf)
        move[row, column] = gaussian_distance(
            tracks.centroid[row], tracks.covariance[row], instances.centroid[column], instances.covariance[column]
        ) / reach[row]
        cost = np.where((move <= 1) | (iou >= SAME_MASK), np.minimum(move, 1) + 1 - iou, FORBIDDEN)
        row, column = linear_sum_assignment(cost)
        allowed = cost[row, column] < FORBIDDEN
        return row[allowed], column[allowed]

    def _fresh_ids(self, count: int, taken: np.ndarray) -> np.ndarray:
        fresh = []
        while len(fresh) < count:
            self._last_id = self._last_id % HIGHEST_ID + 1
            if self._last_id not in taken:
                fresh.append(self._last_id)
        return np.array(fresh, np.int64)


def _continues(before: Frame, now: Frame) -> bool:
    """Whether the same camera goes on."""
    same = before.shape == now.shape and before.frame_id == now.frame_id and np.array_equal(before.K, now.K)
    return same and now.stamp_ns >= before.stamp_ns


def _iou(tracks: Tracks, depth: np.ndarray, pixels: np.ndarray, label: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(T, N) overlap of the tracks' masks with those of labels 1…N, which the ``pixels`` have, where the surface is the same:
    what comes to light where a part was taken is not that part."""
    n = len(area)
    row = tracks.map.reshape(-1).take(pixels)
    change = np.abs(depth.reshape(-1).take(pixels) - tracks.surface.reshape(-1).take(pixels))
    other = change > np.concatenate([[0], SAME_SURFACE * tracks.radius]).astype(np.float32).take(row)  # not for missing readings
    pairs = np.where(other, 0, row).astype(np.int64) * (n + 1) + label
    both = np.bincount(pairs, minlength=(len(tracks) + 1) * (n + 1)).reshape(-1, n + 1)[1:, 1:]
    return both / np.maximum(tracks.pixels[:, None] + area[None] - both, 1)


def _seen_through(tracks: Tracks, which: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(T,) bool: of those tracks, the ones whose place the view now reaches behind: they were taken, not hidden."""
    gone = np.zeros(len(tracks), bool)
    if not which.any():
        return gone
    row = tracks.map.reshape(-1)
    pixels = np.flatnonzero(np.concatenate([[False], which]).take(row))
    row = row.take(pixels).astype(np.int64) - 1
    now, before = depth.reshape(-1).take(pixels), tracks.surface.reshape(-1).take(pixels)
    behind = np.bincount(row, now > before + SAME_SURFACE * tracks.radius[row], len(tracks))
    readings = np.bincount(row, np.isfinite(now) & np.isfinite(before), len(tracks))
    return which & (behind > 0.5 * readings)


def _remember(
    tracks: Tracks, keep: np.ndarray, frame: Frame, instances: Instances, ids: np.ndarray,
    pixels: np.ndarray, label: np.ndarray, area: np.ndarray,
) -> Tracks:
    """The instances, and behind them the tracks that are kept although they were missed."""
    n = len(instances)
    map_, surface = np.zeros(instances.labels.shape, np.uint16), tracks.surface
    if keep.any():
        row = np.zeros(len(tracks) + 1, np.uint16)
        row[1:][keep] = n + 1 + np.arange(keep.sum())
        map_ = row.take(tracks.map)
    map_.reshape(-1)[pixels] = label
    surface.reshape(-1)[pixels] = frame.depth.reshape(-1).take(pixels)
    return Tracks(
        ids=np.concatenate([ids, tracks.ids[keep]]),
        missed=np.concatenate([np.zeros(n, np.int64), tracks.missed[keep] + 1]),
        centroid=np.concatenate([instances.centroid, tracks.centroid[keep]]),
        covariance=np.concatenate([instances.covariance, tracks.covariance[keep]]),
        pixels=np.concatenate([area, tracks.pixels[keep]]),
        map=map_,
        surface=surface,
    )
