"""After the model: what is published of its answer, and under which ids. In the worker's thread."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..bin_volume import BinVolume
from ..errors import InputError
from ..frame import Frame
from ..instances import Instances
from ..tracking import Tracker
from .host import Host, Setup
from .parameters import Parameters

LOOK_EVERY = 2.0
"""Seconds between two looks at whether the camera has moved since the background was learned."""
MOVED = 0.2
"""Share of the readings behind the background from which on it has."""


class Finish:
    """Answer of the model → answer of the node, in the pixels of the whole frame."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._tracker = Tracker()
        self._segmenter: object = None
        self._looked = -np.inf

    def __call__(self, setup: Setup, found: Instances, frame: Frame) -> Instances:
        """Without what is outside of the bin, too small or too unsure; with ids where parts are tracked."""
        wanted = setup.wanted
        instances = wanted.region.restore(found, frame.shape)
        if setup.volume:
            instances = self._within(setup.volume, instances, frame)
        instances = _select(instances, wanted)
        if setup.segmenter is not self._segmenter or not wanted.tracking:
            self._tracker.forget()
        self._segmenter = setup.segmenter
        if not wanted.tracking:
            return instances
        self._tracker.options = wanted.tracking_options
        return replace(instances, ids=self._tracker.update(frame, instances))

    def _within(self, volume: BinVolume, instances: Instances, frame: Frame) -> Instances:
        try:
            inside = volume.inside(frame)
        except InputError as error:  # another camera, or other settings of it: better walls among the parts than no answer
            self._warn("background", f"the background is not used: {error}")
            inside = volume.without_background.inside(frame)
        else:
            self._look_behind(volume, frame)
        return volume.clip(instances, frame, inside)

    def _look_behind(self, volume: BinVolume, frame: Frame) -> None:
        now = time.monotonic()
        if volume.background is None or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        share = volume.background.behind(frame, volume.margin)
        if share > MOVED:
            self._warn(
                "moved", f"{share:.0%} of the view is behind the learned background, so camera or bin have moved: "
                "empty the bin and call ~/learn_background",
            )

    def _warn(self, kind: str, text: str) -> None:
        self._host.statistics.error(text)
        self._host.complaints.warn(kind, text)


def _select(instances: Instances, wanted: Parameters) -> Instances:
    """Without what is too small, too unsure, or has no place in space."""
    keep = instances.score >= wanted.min_score
    keep &= np.isfinite(instances.centroid).all(1) & np.isfinite(instances.covariance).all((1, 2))
    if wanted.min_pixels > 0:
        keep &= instances.pixels >= wanted.min_pixels
    return instances.select(keep)
