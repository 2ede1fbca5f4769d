"""``segment()`` alone, on the frames of a bag, or of 640×480 views of simulated bins for models that belong to one camera."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

from ..bags import BagFrames
from ..frame import Frame
from ..methods.segmenter import Segmenter, load_segmenter
from ..resources import find_bag, find_model
from ..timing import milliseconds
from . import Options
from .own_camera import own_camera_frames

FRAMES = 100
WARM_UP = 5
KEPT, SIMULATED = 20, 8
"""Different frames that are kept in memory, of a bag or made for the purpose."""


def run(options: Options) -> dict:
    """Keys: segment_ms (median), segment (all figures), parts (mean per frame), frames, size, model; and for models that
    refine poses encoder_ms and encoder, the same with refinement and search switched off.
    """
    model = find_model(options.model)
    segmenter = load_segmenter(model, options.device)
    if hasattr(segmenter, "normalisation") and not options.bag:
        frames = own_camera_frames(model, segmenter.normalisation, SIMULATED)
    else:
        recorded = BagFrames(find_bag(options.bag), use_color=segmenter.needs_color)
        frames = [frame for frame, _ in islice(recorded, KEPT)]
    figures, parts = _measure(segmenter, frames, options.frames or FRAMES)
    result = {
        "segment_ms": figures["median"],
        "segment": figures,
        "parts": parts,
        "frames": options.frames or FRAMES,
        "size": list(frames[0].shape),
        "model": segmenter.description,
    }
    thresholds = getattr(segmenter, "thresholds", None)
    if getattr(thresholds, "refine_steps", 0) or getattr(thresholds, "search", False):
        segmenter.thresholds = replace(thresholds, refine_steps=0, search=False)
        figures, _ = _measure(segmenter, frames, options.frames or FRAMES)
        result |= {"encoder_ms": figures["median"], "encoder": figures}
    return result


def _measure(segmenter: Segmenter, frames: Sequence[Frame], count: int) -> tuple[dict, float]:
    """Milliseconds of ``segment`` over ``count`` calls, and the mean number of parts."""
    for frame in islice(cycle(frames), WARM_UP):
        segmenter.segment(frame)
    seconds, parts = [], 0
    for frame in islice(cycle(frames), count):
        begin = time.perf_counter()
        parts += len(segmenter.segment(frame))
        seconds.append(time.perf_counter() - begin)
    return milliseconds(seconds), parts / len(seconds)
