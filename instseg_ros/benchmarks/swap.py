"""Changing the model while frames come at a fixed rate: what is left unanswered, how late answers are, what memory it leaves.

The shipped model (or ``--model``) and a copy of it take turns, so that every change loads weights and the memory of the old
ones must come back; a frame that no model answers, and a gap, show as such.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import read_json
from ..processes import SEGMENTER, NodeProcesses, resident_bytes
from ..resources import find_bag, find_model
from ..timing import milliseconds
from . import Options

SWAPPER = "instseg_ros.nodes.swapper"
FRAMES = 100
FRAMES_BETWEEN = 5
"""Frames between a change and the next."""
RATE = 0.0
"""Frames a second; 0 = half of what the model reaches here, so that no frame is replaced by a newer one."""
AFTER = 2
"""Changes after which memory should not grow any more: both models were there."""


def run(options: Options) -> dict:
    """Keys: rate_hz, swaps, frames, unanswered, unanswered_near_swaps, longest_gap_frames, latency_ms, latency_near_swaps_ms, swap_ms,
    rss_mb_after_2_swaps, rss_mb_end."""
    swaps = (options.frames or FRAMES) // FRAMES_BETWEEN
    if swaps <= AFTER:
        raise InputError(f"--frames must be at least {(AFTER + 1) * FRAMES_BETWEEN} (a change every {FRAMES_BETWEEN}), got {options.frames}")
    model, bag = find_model(options.model), find_bag(options.bag)
    with tempfile.TemporaryDirectory(prefix="instseg-bench-") as folder, NodeProcesses(folder) as nodes:
        copy = Path(folder) / f"{model.name}-copy"
        shutil.copytree(model, copy)
        report = Path(folder) / "report.json"
        segmenter = nodes.start("segmenter", SEGMENTER, {"model": str(model), "device": options.device, "stale_after": 0.0})
        wanted = {
            "bag": str(bag),
            "rate": RATE,
            "models": [str(copy), str(model)],
            "swaps": swaps,
            "frames_between": FRAMES_BETWEEN,
            "report": str(report),
        }
        player = nodes.start("swapper", SWAPPER, wanted)
        memory = []
        while player.poll() is None:
            nodes.check(may_end=("swapper",))
            memory.append((time.monotonic(), resident_bytes(segmenter.pid)))
            time.sleep(0.1)
        if player.returncode != 0:
            raise nodes.obituary("swapper")
        return summary(read_json(report), memory) | {"model": model.name}


def summary(report: dict, memory: list[tuple[float, int]]) -> dict:
    """The figures of a run. A frame is near a swap if it was sent between the request and the second frame after it."""
    stamps, begins = zip(*report["sent"])
    answered = {stamp: at for stamp, at in reversed(report["answers"])}
    latency = np.array([answered.get(stamp, np.nan) for stamp in stamps]) - begins
    missing = np.isnan(latency)
    near = np.zeros(len(stamps), bool)
    for begin, end in report["swaps"]:
        first, after = np.searchsorted(begins, [begin, end])
        near[max(0, first - 1) : after + 2] = True
    times, bytes_ = (np.array(column, float) for column in zip(*memory))
    ends = [end for _, end in report["swaps"]]
    settled = (times > ends[AFTER - 1]) & (times < (report["swaps"][AFTER][0]))
    return {
        "rate_hz": round(report["rate_hz"], 3),
        "swaps": len(ends),
        "frames": len(stamps),
        "unanswered": int(missing.sum()),
        "unanswered_near_swaps": int((missing & near).sum()),
        "longest_gap_frames": _longest_run(missing),
        "latency_ms": milliseconds(latency[~missing & ~near]),
        "latency_near_swaps_ms": milliseconds(latency[~missing & near]),
        "swap_ms": milliseconds([end - begin for begin, end in report["swaps"]]),
        "rss_mb_after_2_swaps": round(float(np.median(bytes_[settled])) / 2**20, 1),
        "rss_mb_end": round(float(np.median(bytes_[times > ends[-1]])) / 2**20, 1),
    }


def _longest_run(missing: np.ndarray) -> int:
    """Most frames in a row without an answer."""
    longest = run = 0
    for lost in missing:
        run = run + 1 if lost else 0
        longest = max(longest, run)
    return longest
