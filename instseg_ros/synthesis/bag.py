"""A data set as a rosbag2: what a RealSense camera would have published over those bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..bags import BagWriter
from ..bop import BopDataset

RATE = 30
"""Frames a second, the camera's own rate."""
START_NS = 1_000_000_000


def write_bag(
    dataset: BopDataset, path: str | Path, *, truth: bool = True, jpeg: bool = False, progress: Callable[[int], object] | None = None
) -> int:
    """Write every image of a dataset to a new bag; returns the number of frames.

    Args:
        dataset: the images, in order.
        path: folder of the bag; must not exist. It appears when it is whole.
        truth: write the /truth topics too.
        jpeg: write colour as JPEG, a tenth of the size.
        progress: called with 1 after each frame.
    """
    with BagWriter(path, jpeg=jpeg) as bag:
        for i in range(len(dataset)):
            frame = replace(dataset.frame(i), stamp_ns=START_NS + i * 1_000_000_000 // RATE)
            bag.write(frame, dataset.truth(i, layers=True) if truth else None)
            if progress:
                progress(1)
    return len(dataset)
