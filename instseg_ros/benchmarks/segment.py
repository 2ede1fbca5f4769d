"""``segment()`` alone, on the frames of a bag."""

from __future__ import annotations

import time
from itertools import cycle, islice

from ..bags import BagFrames
from ..methods.segmenter import load_segmenter
from ..resources import find_bag, find_model
from ..timing import milliseconds
from . import Options

FRAMES = 100
WARM_UP = 5
KEPT = 20
"""Different frames that are kept in memory."""


def run(options: Options) -> dict:
    """Keys: segment_ms (median), segment (all figures), parts (mean per frame), frames, size, model."""
    segmenter = load_segmenter(find_model(options.model), options.device)
    recorded = BagFrames(find_bag(options.bag), use_color=segmenter.needs_color)
    frames = [frame for frame, _ in islice(recorded, KEPT)]
    for frame in islice(cycle(frames), WARM_UP):
        segmenter.segment(frame)
    seconds, parts = [], 0
    for frame in islice(cycle(frames), options.frames or FRAMES):
        begin = time.perf_counter()
        parts += len(segmenter.segment(frame))
        seconds.append(time.perf_counter() - begin)
    figures = milliseconds(seconds)
    return {
        "segment_ms": figures["median"],
        "segment": figures,
        "parts": parts / len(seconds),
        "frames": len(seconds),
        "size": list(frames[0].shape),
        "model": segmenter.description,
    }
