"""The empty bin as one fixed camera sees it: learned from some frames, kept in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from .errors import InputError
from .files import write_atomic
from .frame import Frame

FORMAT = 1
FEWEST = 5
"""Frames."""
SUPPORT = 0.25
"""Share of the frames in which a pixel must have a reading for its depth to be known."""
LEAST_KNOWN = 0.2
"""Share of the image that must be known."""
STILL = 0.02
"""Of its depth: a pixel whose readings spread more (standard deviation) sees something that moves."""
MOST_MOVING = 0.1
"""Share of the known pixels that may move: readings at edges jump."""
SIGMAS = 2.0
"""Standard deviations of its readings by which something must be nearer than the background."""
NEIGHBOURHOOD = 3
"""Pixels: an edge wanders by one pixel to either side."""
HOLE = 9
"""Pixels: within this window, an unknown pixel is as far as the farthest around."""


@dataclass(frozen=True, eq=False)
class Background:
    """Depth of the empty bin.

    Attributes:
        depth: (H, W) float32 m, NaN where it is not known.
        sigma: (H, W) float32 m, standard deviation of its readings, NaN likewise.
        K: (3, 3) float64 px. frame_id: of the camera that saw it.
    """

    depth: np.ndarray
    sigma: np.ndarray
    K: np.ndarray
    frame_id: str

    @classmethod
    def learn(cls, frames: Sequence[Frame]) -> Background:
        """The median of each pixel's readings, and their spread by the quartiles: a few frames with a hand in them do no harm.

        Raises:
            InputError: too few frames, frames of different cameras, too few readings, or a view that changes.
        """
        if len(frames) < FEWEST:
            raise InputError(f"a background needs at least {FEWEST} frames, got {len(frames)}")
        first = frames[0]
        for frame in frames:
            _check_same(first, "the first frame", frame, "a later one")
        result = cls(*_median_and_sigma(np.stack([frame.depth for frame in frames])), first.K, first.frame_id)
        known = np.isfinite(result.depth)
        if known.mean() < LEAST_KNOWN:
            raise InputError(f"only {known.mean():.0%} of the pixels have a depth: point the camera at the bin, within its range")
        moving = (result.sigma[known] > STILL * result.depth[known]).mean()
        if moving > MOST_MOVING:
            raise InputError(f"{moving:.0%} of the view changes while it should stand still: keep hands and parts out and the camera fixed")
        return result

    @cached_property
    def summary(self) -> str:
        """One line for people."""
        known = np.isfinite(self.depth)
        height, width = self.depth.shape
        middle, noise = np.median(self.depth[known]), np.median(self.sigma[known])
        return f"{width} x {height}, {known.mean():.0%} known, median depth {middle:.3f} m, noise {noise * 1e3:.1f} mm"

    def check(self, frame: Frame) -> None:
        """InputError where a frame is not of this camera."""
        _check_same(self, "the background", frame, "the camera now")

    def front(self, margin: float) -> np.ndarray:
        """(H, W) float32 m: what is nearer is in front of the background, by ``margin`` metres and by its noise."""
        front = self.depth - np.maximum(np.float32(margin), SIGMAS * self.sigma)
        unknown = np.isnan(front)
        front = cv2.erode(np.where(unknown, np.float32(np.inf), front), np.ones((NEIGHBOURHOOD, NEIGHBOURHOOD), np.uint8))
        if unknown.any():
            # What a hole hides is unknown: take it to be far, or parts in front of it would be lost.
            nearest = _nearest(front, unknown)
            front = np.where(unknown, cv2.dilate(nearest, np.ones((HOLE, HOLE), np.uint8)), front)
        return front

    def behind(self, frame: Frame, margin: float) -> float:
        """Share of a frame's readings behind the background. It is nothing unless camera or bin have moved."""
        with np.errstate(invalid="ignore"):
            there = frame.depth > self.depth + np.maximum(np.float32(margin), SIGMAS * self.sigma)
        both = np.isfinite(frame.depth) & np.isfinite(self.depth)
        return float(there.sum() / max(int(both.sum()), 1))

    def save(self, path: str | Path) -> None:
        """Write the file in one step."""
        values = {"format": FORMAT, "depth": self.depth, "sigma": self.sigma, "K": self.K, "frame_id": self.frame_id}

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:  # an open file: numpy would add .npz to a name
                np.savez_compressed(file, **values)

        write_atomic(path, write)

    @classmethod
    def load(cls, path: str | Path) -> Background:
        """Read the file; InputError says what is wrong with it."""
        try:
            with np.load(path, allow_pickle=False) as file:
                values = {name: file[name] for name in ("format", "depth", "sigma", "K", "frame_id")}
            result = cls(values["depth"], values["sigma"], values["K"], str(values["frame_id"]))
            Frame(result.depth, result.K)
            whole = values["format"] == FORMAT and result.sigma.shape == result.depth.shape and result.sigma.dtype == np.float32
        except FileNotFoundError:
            raise InputError(f"{path} does not exist: empty the bin and call ~/learn_background") from None
        except Exception as error:  # zipfile, zlib and numpy raise whatever they like
            raise InputError(f"{path} is no background: {error}; empty the bin and call ~/learn_background") from None
        if not whole:
            raise InputError(f"{path} is no background of this version: empty the bin and call ~/learn_background")
        return result


def _check_same(one: Frame | Background, a: str, other: Frame, b: str) -> None:
    """InputError where the two are not of the same camera in the same mode."""
    for what, x, y in (
        ("size", *(f"{v.depth.shape[1]} x {v.depth.shape[0]}" for v in (one, other))),
        ("frame_id", one.frame_id, other.frame_id),
        ("intrinsics", *(f"fx {K[0, 0]:.3f} fy {K[1, 1]:.3f} cx {K[0, 2]:.3f} cy {K[1, 2]:.3f}" for K in (one.K, other.K))),
    ):
        if x != y:
            raise InputError(f"the {what} of {a} is {x}, that of {b} {y}: empty the bin and call ~/learn_background with the camera as it is")


def _median_and_sigma(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float32 each, of readings (F, H, W); NaN where there are too few."""
    depth.sort(axis=0)  # NaN last
    count = np.isfinite(depth).sum(0)

    def quantile(q: float) -> np.ndarray:
        index = np.rint(q * np.maximum(count - 1, 0)).astype(np.int64)
        return np.take_along_axis(depth, index[None], 0)[0]

    unknown = count < max(SUPPORT * len(depth), 3)
    median, spread = quantile(0.5), (quantile(0.75) - quantile(0.25)) / np.float32(1.349)  # of a normal distribution
    median[unknown] = spread[unknown] = np.nan
    return median, spread


def _nearest(values: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Values with every unknown one replaced by that of the nearest known pixel."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(unknown, return_distances=False, return_indices=True)
    return values[rows, columns]
