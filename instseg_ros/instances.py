"""Instances: one answer, every part in one view."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import InputError


@dataclass(frozen=True, eq=False)
class Instances:
    """The N parts found in one frame, in the camera optical frame. Row ``i`` of every array is label ``i + 1``.

    Attributes:
        labels: (H, W) uint16, 0 = background, 1…N.
        score: (N,) float32 confidence in [0, 1].
        centroid: (N, 3) float32 metres, mean of the surface points of the whole part.
        covariance: (N, 3, 3) float32 m², second central moments of the surface points of the whole part.
        visible_fraction: (N,) float32 visible over amodal pixels in [0, 1], NaN where the method cannot tell.
        depth_order: (N,) int32 permutation of 0…N−1, 0 = on top, pick first.
        layers: (L, H, W) uint16 amodal stack: layer 0 equals ``labels``, layer k holds the instance that is k-th from
            the front at that pixel, 0 where there is none. Methods without amodal output give L = 1.
        ids: (N,) uint16, different and not 0: what messages call each instance, the same in every frame where parts are
            tracked. None = its label.

    Raises:
        InputError: a shape, dtype or value breaks the contract above.
    """

    labels: np.ndarray
    score: np.ndarray
    centroid: np.ndarray
    covariance: np.ndarray
    visible_fraction: np.ndarray
    depth_order: np.ndarray
    layers: np.ndarray = field(default=None)  # type: ignore[assignment]
    ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 2 or self.labels.dtype != np.uint16:
            raise InputError(f"labels must be (H, W) uint16, got {self.labels.dtype} of shape {self.labels.shape}")
        if self.layers is None:
            object.__setattr__(self, "layers", self.labels[None])
        n = len(self)
        for name, dtype, shape in (
            ("score", np.float32, (n,)),
            ("centroid", np.float32, (n, 3)),
            ("covariance", np.float32, (n, 3, 3)),
            ("visible_fraction", np.float32, (n,)),
            ("depth_order", np.int32, (n,)),
            ("layers", np.uint16, (self.layers.shape[0], *self.labels.shape)),
        ):
            value = getattr(self, name)
            if value.dtype != dtype or value.shape != shape:
                raise InputError(
                    f"{name} must be {np.dtype(dtype)} of shape {shape}, got {value.dtype} of shape {value.shape}"
                )
        top = int(max(self.labels.max(initial=0), self.layers.max(initial=0)))
        if top > n:
            raise InputError(f"label {top} has no row: there are {n} instances")
        if n and not (self.score.min() >= 0 and self.score.max() <= 1):
            raise InputError(f"score must lie in [0, 1], got {self.score.min()} to {self.score.max()}")
        if not (np.isnan(self.visible_fraction) | ((self.visible_fraction >= 0) & (self.visible_fraction <= 1))).all():
            raise InputError(f"visible_fraction must lie in [0, 1] or be NaN, got {self.visible_fraction}")
        if not np.array_equal(np.sort(self.depth_order), np.arange(n)):
            raise InputError(f"depth_order must be a permutation of 0…{n - 1}, got {self.depth_order}")
        if not np.array_equal(self.layers[0], self.labels):
            raise InputError("layers[0] must equal labels")
        if self.ids is not None:
            if self.ids.dtype != np.uint16 or self.ids.shape != (n,):
                raise InputError(f"ids must be uint16 of shape {(n,)}, got {self.ids.dtype} of shape {self.ids.shape}")
            if len(np.unique(self.ids)) < n or (self.ids == 0).any():
                raise InputError(f"ids must be different and not 0, got {self.ids}")

    def __len__(self) -> int:
        return self.score.shape[0]

    @property
    def pixels(self) -> np.ndarray:
        """(N,) int64 visible pixels of each instance."""
        flat = self.labels.ravel()
        # Runs of equal labels first: counting pixel by pixel takes several times as long.
        starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        return np.bincount(flat[starts], np.diff(starts, append=flat.size), len(self) + 1)[1:].astype(np.int64)

    @property
    def names(self) -> np.ndarray:
        """(N + 1,) uint16: the id of every label, 0 of the background."""
        ids = np.arange(1, len(self) + 1) if self.ids is None else self.ids
        return np.concatenate([[0], ids]).astype(np.uint16)

    def named(self, labels: np.ndarray) -> np.ndarray:
        """Labels of these instances, an array of any shape, as ids."""
        return labels if self.ids is None else self.names.take(labels)

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Instances:
        """No parts in an image of ``shape`` (H, W)."""
        return cls(
            labels=np.zeros(shape, np.uint16),
            score=np.zeros(0, np.float32),
            centroid=np.zeros((0, 3), np.float32),
            covariance=np.zeros((0, 3, 3), np.float32),
            visible_fraction=np.zeros(0, np.float32),
            depth_order=np.zeros(0, np.int32),
        )

    def select(self, keep: np.ndarray) -> Instances:
        """The instances where ``keep`` (N,) bool holds, relabelled 1…M in their old order; the rest becomes background."""
        keep = np.asarray(keep, bool)
        if keep.shape != (len(self),):
            raise InputError(f"keep must have shape ({len(self)},), got {keep.shape}")
        if keep.all():
            return self
        relabel = np.zeros(len(self) + 1, np.uint16)
        relabel[1:][keep] = np.arange(1, keep.sum() + 1)
        layers = relabel[self.layers]
        # A dropped instance in front must not leave a hole: what was behind it moves up. Nothing comes out from behind a wall.
        dropped = (layers == 0) & (self.layers > 0) if len(layers) > 1 else None
        order = None if dropped is None else np.argsort(dropped, axis=0, kind="stable")
        if order is not None:
            layers = np.take_along_axis(layers, order, axis=0)
        rank = np.empty(int(keep.sum()), np.int32)
        rank[np.argsort(self.depth_order[keep], kind="stable")] = np.arange(len(rank))
        return Instances(
            labels=layers[0],
            score=self.score[keep],
            centroid=self.centroid[keep],
            covariance=self.covariance[keep],
            visible_fraction=self.visible_fraction[keep],
            depth_order=rank,
            layers=layers,
            ids=None if self.ids is None else self.ids[keep],
        )
