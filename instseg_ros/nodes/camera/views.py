"""What a software device shows: the frames of a rosbag2 or a BOP data set, or the boxes of ``scene``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from ... import images
from ...bags import BagFrames
from ...bop import BopDataset
from ...errors import InputError
from ...frame import Frame
from ...resources import find_bag
from .scene import BoxScene

MOST = 60
"""Views that are kept: more would only fill the memory."""
SPREAD = 0.05
"""By how much the cameras of a set may differ, in focal lengths: simulated ones vary theirs, and are shown through one lens."""
NUDGE = 2e-5
"""Metres between two imagers that are one: rs.align rounds down, and just left of a pixel's border that is the pixel before."""
GRAY = 128


@dataclass(frozen=True, eq=False)
class Lens:
    """One imager: ``K`` (3, 3) pixels, ``size`` (H, W)."""

    K: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Views:
    """A depth camera and what it sees, one view after the other and over again.

    Attributes:
        depth, color: the two imagers.
        baseline: (3,) m, from the depth imager's frame to the colour imager's: ``X_color = X_depth + baseline``.
        units: metres of one unit of the depth images.
        images: of each view depth (H, W) uint16 in units, 0 = no reading, and colour (H, W, 3) uint8 RGB.
    """

    depth: Lens
    color: Lens
    images: list[tuple[np.ndarray, np.ndarray]]
    baseline: np.ndarray = field(default_factory=lambda: np.zeros(3))
    units: float = 0.001


def find_views(name: str) -> Views:
    """The views of a name.

    Args:
        name: ``scene``, ``bundled`` (the bag that is shipped), or the path of a rosbag2 or BOP data set.

    Raises:
        InputError: there is nothing of this name, or its frames cannot be used.
    """
    if name == "scene":
        return scene_views(BoxScene())
    path = find_bag("" if name == "bundled" else name)
    if not path.exists():
        raise InputError(f"software {name!r} does not exist: give scene, bundled, or the path of a rosbag2 or BOP data set")
    frames = list(islice(_frames(path), MOST))
    if not frames:
        raise InputError(f"{path} has no frames")
    K = np.median([frame.K for frame in frames], axis=0)
    if any(frame.shape != frames[0].shape or np.abs(frame.K / K[0, 0] - K / K[0, 0]).max() > SPREAD for frame in frames):
        raise InputError(f"{path} has frames of several cameras: a software device shows those of one")
    lens = Lens(K, frames[0].shape)
    pictures = [(images.to_millimetres(frame.depth), _color(frame)) for frame in frames]
    return Views(lens, lens, pictures, np.array([NUDGE, NUDGE, 0.0]))


def scene_views(scene: BoxScene, *, units: float = 0.001) -> Views:
    """The views of a scene."""
    depth, color = Lens(scene.depth_K, scene.size), Lens(scene.color_K, scene.size)
    pictures = [(np.rint(scene.depth(t) / units).astype(np.uint16), scene.color(t)) for t in range(scene.period)]
    return Views(depth, color, pictures, np.array(scene.baseline), units)


def _frames(path: Path) -> Iterator[Frame]:
    rosbag = path.is_file() or (path / "metadata.yaml").is_file() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))
    if rosbag:
        yield from (frame for frame, _ in BagFrames(path))
    else:
        dataset = BopDataset(path)
        yield from (dataset.frame(i) for i in range(len(dataset)))


def _color(frame: Frame) -> np.ndarray:
    return np.full((*frame.shape, 3), GRAY, np.uint8) if frame.color is None else frame.color
