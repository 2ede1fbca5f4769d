"""Do ids stay with their parts? Films of simulated bins that are emptied part by part, segmented and tracked."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import numpy as np
from tqdm import tqdm

from ..errors import InputError
from ..evaluation.track_score import TrackScore
from ..methods.segmenter import Segmenter, load_segmenter
from ..resources import find_model
from ..synthesis.emptying import Shot, emptying
from ..synthesis.parts import load_part
from ..timing import milliseconds
from ..tracking import Tracker
from . import Options

FRAMES = 300
EVERY = 30
"""Frames between two parts that are taken."""
FILMED = {"bolt": 16, "nut": 20, "connector": 20}
"""Part → how many lie in the bin at the start."""
DIGITS = 4


def run(options: Options) -> dict:
    """Keys: frames (of each film), every, per part ``tracked`` and ``untracked`` (the baseline: the method's own labels), each
    with the keys of ``TrackScore.result``; switch_share over all films; update_ms, the tracker's share of a frame."""
    frames = options.frames or FRAMES
    if frames <= EVERY:
        raise InputError(f"--frames must be above {EVERY}, to see a part taken, got {frames}")
    segmenter = load_segmenter(find_model(options.model), options.device)
    result: dict = {"frames": frames, "every": EVERY, "seed": options.seed, "model": segmenter.description}
    seconds: list[float] = []
    for name, count in FILMED.items():
        film = emptying(load_part(name), max(count, frames // EVERY + 2), frames, options.seed, every=EVERY, camera=options.camera or "d435")
        result[name] = follow(segmenter, tqdm(film, name, frames, unit="frame", disable=not sys.stderr.isatty()), seconds)
    tracked = [result[name]["tracked"] for name in FILMED]
    share = sum(one["switches"] for one in tracked) / max(sum(one["matches"] for one in tracked), 1)
    return result | {"switch_share": round(share, DIGITS), "update_ms": milliseconds(seconds)}


def follow(segmenter: Segmenter, film: Iterable[Shot], seconds: list[float]) -> dict[str, dict]:
    """Scores of one film, with and without tracking; the tracker's times are added to ``seconds``."""
    tracker, scores = Tracker(), {"tracked": TrackScore(), "untracked": TrackScore()}
    for shot in film:
        found = segmenter.segment(shot.frame)
        begin = time.perf_counter()
        ids = tracker.update(shot.frame, found)
        seconds.append(time.perf_counter() - begin)
        for name, given in (("tracked", ids), ("untracked", np.arange(1, len(found) + 1))):
            scores[name].add(shot.labels, shot.numbers, shot.visible_fraction, found.labels, given)
    return {name: {key: round(value, DIGITS) for key, value in score.result().items()} for name, score in scores.items()}
