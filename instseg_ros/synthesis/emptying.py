"""A bin that is emptied part by part before a fixed camera: a film with true part numbers that never change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..frame import Frame
from .camera import PRESETS, sample_camera
from .part import Part
from .physics import TIMESTEP, Settled, default_bin, drop, go_on
from .render import Rendering, render
from .sensor import SensorParams, add_noise

ATTEMPTS = 20
"""Tries to settle the first pile."""


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame of the film and its truth.

    Attributes:
        frame: what the camera measures, noise included.
        labels: (H, W) uint16, 0 = background: the number of the part, the same throughout the film.
        numbers: (n,) int64 of the parts that are still in the bin, ascending.
        visible_fraction: (n,) float32 of these.
    """

    frame: Frame
    labels: np.ndarray
    numbers: np.ndarray
    visible_fraction: np.ndarray


def emptying(
    part: Part, count: int, frames: int, seed: int, *, every: int = 30, rate: float = 10.0, camera: str = "d435"
) -> Iterator[Shot]:
    """Film a bin from which the uppermost part is taken again and again; the others slide after.

    Args:
        part: what lies in the bin.
        count: parts at the start; more than are taken.
        frames: length of the film.
        seed: of pile, camera and noise.
        every: frames between two parts that are taken.
        rate: frames per second.
        camera: name of a preset.
    """
    if count <= (frames - 1) // every:
        raise InputError(f"{count} parts do not last for {frames} frames when one of {every} takes a part: start with more")
    rng = np.random.default_rng(seed)
    settled = _first_pile(part, count, rng)
    preset, sensor = PRESETS[camera], SensorParams().jittered(rng)
    K, cam_T_bin = sample_camera(preset, settled.bin, rng)
    numbers, views = np.arange(1, count + 1), [settled]
    for index in range(frames):
        if index and index % every == 0:
            keep = image.depth_order > 0
            numbers, views = numbers[keep], go_on(views[-1], keep, every, round(1 / (rate * TIMESTEP)))
        image = render(views[min(index % every, len(views) - 1)], K, preset.size, cam_T_bin)
        depth = add_noise(image.depth, K, rng, sensor)
        yield _shot(Frame(depth, K, stamp_ns=round(index / rate * 1e9)), image, numbers)


def _first_pile(part: Part, count: int, rng: np.random.Generator) -> Settled:
    for _ in range(ATTEMPTS):
        settled = drop(part, count, default_bin(part, count, rng), rng)
        if settled is not None:
            return settled
    raise InputError(f"{count} × {part.name!r} did not come to rest in {ATTEMPTS} tries: take fewer")


def _shot(frame: Frame, image: Rendering, numbers: np.ndarray) -> Shot:
    number_of = np.concatenate([[0], numbers]).astype(np.uint16)
    return Shot(frame, number_of[image.labels], numbers, image.visible_fraction)
