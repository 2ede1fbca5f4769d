"""Complete labelled samples a minute on one core: physics, rendering, noise, PNG and JSON on disk."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from ..processes import resident_bytes
from ..synthesis.bins import BinsRecipe
from ..synthesis.parts import PARTS
from ..synthesis.runner import generate
from . import Options

FRAMES = 200
CAMERAS = {"224x224": "insta10", "640x480": "d435"}


def run(options: Options) -> dict:
    """Keys, per image size, of piles of five of all ten parts: images_per_minute_…, images, resident_mb_start and _end."""
    images = options.frames or FRAMES
    result: dict = {"images": images, "instances": 5, "parts": len(PARTS), "workers": 1}
    with tempfile.TemporaryDirectory(prefix="instseg-bench-") as folder:
        for size, camera in CAMERAS.items():
            # Compiles what is not in numba's cache yet, and brings every part's mesh into memory.
            generate(_recipe(len(PARTS), camera, options.seed), Path(folder) / f"{camera}-warm")
            before, begin = _resident_mb(), time.perf_counter()
            generate(_recipe(images, camera, options.seed + 1), Path(folder) / camera)
            seconds = time.perf_counter() - begin
            result[f"images_per_minute_{size}"] = round(60 * images / seconds, 1)
            result[f"resident_mb_{size}"] = {"start": round(before, 1), "end": round(_resident_mb(), 1)}
    return result


def _recipe(scenes: int, camera: str, seed: int) -> BinsRecipe:
    return BinsRecipe(parts=tuple(PARTS), scenes=scenes, instances=(5, 5), camera=camera, seed=seed)


def _resident_mb() -> float:
    return resident_bytes(os.getpid()) / 2**20
