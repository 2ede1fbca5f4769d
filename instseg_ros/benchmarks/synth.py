"""Complete labelled samples a minute on one core: physics, rendering, noise, PNG and JSON on disk; and the memory it takes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from ..errors import InputError
from ..processes import resident_bytes
from ..synthesis.bins import BinsRecipe
from ..synthesis.camera import PRESETS
from ..synthesis.parts import PARTS
from ..synthesis.runner import generate
from . import Options

FRAMES = 200
CAMERAS = ("insta10", "d435")
FEWEST = 40
"""Images below which there is no tenth of the way to look at: they come in folders of twenty."""


def run(options: Options) -> dict:
    """Keys, per image size, of piles of five of all ten parts: images_per_minute_… and resident_mb_…, the resident memory of
    this process and its workers when a tenth of the images and when all of them are written, and the growth between."""
    images = FRAMES if options.frames is None else options.frames
    if images < FEWEST:
        raise InputError(f"--frames must be at least {FEWEST}, to see whether the memory grows, got {images}")
    if options.camera and options.camera not in PRESETS:
        raise InputError(f"unknown camera {options.camera!r}: choose {', '.join(PRESETS)}")
    result: dict = {"images": images, "instances": 5, "parts": len(PARTS), "workers": 1}
    with tempfile.TemporaryDirectory(prefix="instseg-bench-") as folder:
        for camera in [options.camera] if options.camera else CAMERAS:
            # Compiles what is not in numba's cache yet, and brings every part's mesh into memory.
            generate(_recipe(len(PARTS), camera, options.seed), Path(folder) / f"{camera}-warm")
            memory, begin = Memory(images), time.perf_counter()
            generate(_recipe(images, camera, options.seed + 1), Path(folder) / camera, progress=memory.look)
            seconds = time.perf_counter() - begin
            h, w = PRESETS[camera].size
            result[f"images_per_minute_{w}x{h}"] = round(60 * images / seconds, 1)
            result[f"resident_mb_{w}x{h}"] = memory.figures()
    return result


class Memory:
    """Resident memory while ``total`` images are made.

    Args:
        total: images of the run.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.samples: list[tuple[int, float]] = []

    def look(self, images: int) -> None:
        """Note the memory now that so many more images are done."""
        self.done += images
        self.samples.append((self.done, _resident_mb()))

    def figures(self) -> dict[str, float]:
        """MB after the first 10 % and after all images, the highest seen, and the growth from the first to the second, %."""
        tenth = next(megabytes for done, megabytes in self.samples if done >= self.total / 10)
        end = self.samples[-1][1]
        return {
            "at_10_percent": round(tenth, 1),
            "at_100_percent": round(end, 1),
            "highest": round(max(megabytes for _, megabytes in self.samples), 1),
            "growth_percent": round(100 * (end / tenth - 1), 2),
        }


def _recipe(scenes: int, camera: str, seed: int) -> BinsRecipe:
    return BinsRecipe(parts=tuple(PARTS), scenes=scenes, instances=(5, 5), camera=camera, seed=seed)


def _resident_mb() -> float:
    """Of this process and its children."""
    own = os.getpid()
    children = Path(f"/proc/{own}/task/{own}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.is_file() else []
    return sum(resident_bytes(pid) for pid in (own, *workers)) / 2**20
