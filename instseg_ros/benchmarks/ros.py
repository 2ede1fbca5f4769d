"""From a depth image published to masks, instances and poses received, through the node and DDS, frame after frame in lockstep.

``end_to_end_ms`` is measured in bag_player's process; ``segment_ms`` is what the node's diagnostics report of the same
frames; ``ros_share_ms``, the difference of the two medians, is everything else: DDS, decoding, synchronising, encoding.

``bare_share_ms`` is the same of ``nodes.bare``, a node of a single callback: what rclpy and this machine take of it in any case.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..processes import BARE, SEGMENTER
from ..timing import milliseconds
from . import Options
from .nodes import play

FRAMES = 200
ANSWERS = ("poses", "instances", "masks")
"""The last to be published first: until it is there, latency counts."""
WARM_UP = 10
"""Frames at the start that do not count."""


def run(options: Options) -> dict:
    """Keys: end_to_end_ms, segment_ms, ros_share_ms, bare_share_ms (medians), end_to_end (all figures), frames, size."""
    frames = options.frames or FRAMES
    if frames <= WARM_UP:
        raise InputError(f"--frames must be above {WARM_UP} (they are for warming up), got {frames}")
    bare = _shares(options, frames, BARE)["ros_share_ms"]
    return _shares(options, frames, SEGMENTER) | {"bare_share_ms": bare}


def _shares(options: Options, frames: int, node: str) -> dict:
    done = play(options, frames, answers=ANSWERS, node=node)
    latency = np.array(done.report["latency_ms"][WARM_UP:])
    segment = done.report["segmenter"].get("segment_ms_median")
    if segment is None:
        raise InputError("the segmenter sent no diagnostics: is /diagnostics remapped?")
    median = float(np.median(latency))
    return {
        "end_to_end_ms": round(median, 3),
        "segment_ms": float(segment),
        "ros_share_ms": round(median - float(segment), 3),
        "end_to_end": milliseconds(latency * 1e-3),
        "frames": len(latency),
        "unanswered": done.report["unanswered"],
        "size": list(done.size),
        "model": done.report["segmenter"].get("method", ""),
    }
