"""Does the node's memory grow? Resident memory of the segmenter's process after 50 frames and at the end.

With ``--minutes`` behind a camera at full rate instead of in lockstep: ``soak_camera``.
"""

from __future__ import annotations

import time

import numpy as np

from ..errors import InputError
from ..processes import resident_bytes
from . import Options, soak_camera
from .nodes import play

FRAMES = 500
SETTLED = 50
"""Frames after which memory should not grow any more."""
SPAN = 25
"""Memory goes up and down within a frame: medians over this many frames are compared."""


def run(options: Options) -> dict:
    """Keys: rss_mb_after_50, rss_mb_end, growth_percent, rss_mb_max, frames, seconds, size; with ``minutes`` see ``soak_camera``."""
    if options.minutes:
        return soak_camera.run(options)
    frames = options.frames or FRAMES
    if frames < SETTLED + 2 * SPAN:
        raise InputError(f"--frames must be at least {SETTLED + 2 * SPAN}, got {frames}")
    samples: list[tuple[float, int]] = []
    done = play(options, frames, watch=lambda pid: samples.append((time.monotonic(), resident_bytes(pid))))
    answered = np.array(done.report["answered_at_s"])  # CLOCK_MONOTONIC is the same in all processes of a machine
    times, memory = (np.array(column, float) for column in zip(*samples))
    after = _median_between(times, memory, answered[SETTLED - 1], answered[SETTLED - 1 + SPAN])
    end = _median_between(times, memory, answered[-SPAN], answered[-1])
    return {
        "rss_mb_after_50": round(after / 2**20, 2),
        "rss_mb_end": round(end / 2**20, 2),
        "growth_percent": round((end / after - 1) * 100, 3),
        "rss_mb_max": round(memory[(times >= answered[0]) & (times <= answered[-1])].max() / 2**20, 2),
        "frames": len(answered),
        "unanswered": done.report["unanswered"],
        "seconds": round(float(answered[-1] - answered[0]), 1),
        "size": list(done.size),
        "model": done.report["segmenter"].get("method", ""),
    }


def _median_between(times: np.ndarray, values: np.ndarray, begin: float, end: float) -> float:
    """Median of the samples in a span of time; of the nearest one where there is none in it."""
    inside = (times >= begin) & (times <= end)
    return float(np.median(values[inside])) if inside.any() else float(values[np.abs(times - end).argmin()])
