"""A production cell for some minutes: camera (software device at full rate) → segmenter → subscriber, each a process, over DDS.

Memory of camera and segmenter after the first minute (of less than two: after half the time) and at the end, every frame's fate,
and the age of the oldest answer.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..bags.topics import COLOR, DEPTH, INFO
from ..errors import InputError
from ..files import read_json
from ..processes import CAMERA, SEGMENTER, SOAK, NodeProcesses, resident_bytes
from ..resources import find_model
from . import Options

SETTLED = 60.0
"""Seconds after the first answer from when on memory should not grow any more."""
SPAN = 20.0
"""Memory goes up and down within a frame, by tens of MB: the highest over so many seconds is compared."""
PERIOD = 0.25
SHORTEST = 3.0
"""Seconds."""
STALE_AFTER = 2.0


def run(options: Options) -> dict:
    """Keys: rss_mb (camera, segmenter: settled, end, growth_percent, highest, each_minute), settled_after_s, accounting (counters,
    unaccounted, …), age_of_answers_s (median, p99, oldest), stale_after_s, rates."""
    seconds = 60.0 * options.minutes
    if seconds < SHORTEST:
        raise InputError(f"--minutes must be at least {SHORTEST / 60:g}, got {options.minutes:g}")
    with tempfile.TemporaryDirectory(prefix="instseg-soak-") as folder, NodeProcesses(folder) as nodes:
        file = Path(folder) / "report.json"
        wanted = {"model": str(find_model(options.model)), "device": options.device, "stale_after": STALE_AFTER}
        processes = {
            "segmenter": nodes.start(
                "segmenter", SEGMENTER, wanted, {"depth/image": DEPTH, "depth/camera_info": INFO, "color/image": COLOR}
            ),
            "camera": nodes.start("camera", CAMERA, {"software": options.bag or "bundled", "autostart": False}),
        }
        soak = nodes.start("soak", SOAK, {"seconds": seconds, "report": str(file)})
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        while soak.poll() is None:
            nodes.check(may_end=("soak",))
            for name, process in processes.items():
                samples[name].append((time.monotonic(), resident_bytes(process.pid) / 2**20))
            time.sleep(PERIOD)
        if soak.returncode != 0:
            raise nodes.obituary("soak")
        report = read_json(file)
    return summary(report, {name: np.array(taken) for name, taken in samples.items()})


def summary(report: dict, samples: dict[str, np.ndarray]) -> dict:
    """The figures.

    Args:
        report: of the node ``soak``.
        samples: per process (T, 2): time (CLOCK_MONOTONIC, the same in all processes) and resident memory in MB.
    """
    begin, end = report["first_answer_at_s"], report["end_at_s"]
    camera, segmenter = report["camera"], report["segmenter"]
    known = segmenter["answered"] + segmenter["replaced_by_newer"] + segmenter["skipped"]
    settled = min(SETTLED, (end - begin) / 2)
    return {
        "rss_mb": {name: _memory(taken, begin, end, settled) for name, taken in samples.items()},
        "settled_after_s": round(settled, 1),
        "accounting": {
            "camera": camera,
            "camera_unaccounted": camera["frames"] - camera["published"] - camera["incomplete"] - camera["failed"],
            "lost_between": camera["published"] - segmenter["depth_images"],
            "segmenter": segmenter,
            "skipped": report["skipped"],
            "segmenter_unaccounted": segmenter["received"] - known,
            "answers_not_heard": segmenter["answered"] - report["answers_heard"],
        },
        "age_of_answers_s": {name: round(age, 4) for name, age in report["age_s"].items()},
        "stale_after_s": STALE_AFTER,
        "published_hz": round(camera["published"] / (end - begin), 2),
        "answered_hz": round(report["answers_heard"] / (end - begin), 2),
        "minutes": round((end - begin) / 60, 2),
        "model": report["method"],
    }


def _memory(samples: np.ndarray, begin: float, end: float, settled: float) -> dict[str, Any]:
    """Highest of the ``SPAN``, in MB, ``settled`` seconds after the first answer and at the end, and the growth between in per cent; the
    highest of all; and that of each whole minute, which tells growth that goes on from growth that ends."""
    times, memory = samples.T
    span, minute = min(SPAN, settled / 3), (times - begin) // 60
    early = memory[(times >= begin + settled) & (times < begin + settled + span)].max()
    last = memory[(times >= end - span) & (times < end)].max()
    return {
        "settled": round(float(early), 2),
        "end": round(float(last), 2),
        "growth_percent": round(float(last / early - 1) * 100, 3),
        "highest": round(float(memory.max()), 2),
        "each_minute": [round(float(memory[minute == m].max()), 1) for m in range(int((end - begin) // 60)) if (minute == m).any()],
    }
