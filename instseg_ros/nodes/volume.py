"""The bin volume of the segmenter node: from its parameters, from the background's file, from the empty bin itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..background import Background
from ..bin_volume import BinVolume, half_spaces
from ..frame import Frame
from .messages import BadFrame, frame_from_messages
from .parameters import Parameters
from .sets import Arrival

FRAMES = 30
"""From which a background is learned: one second of a camera."""
SILENCE = 5.0
"""Seconds without a frame after which learning gives up."""


def volume_of(wanted: Parameters, background: Background | None) -> BinVolume:
    """What is inside by these parameters."""
    return BinVolume(half_spaces(wanted.bin_volume), background, wanted.background_margin)


def load_background(wanted: Parameters) -> Background | None:
    """From ``background_file``, None without one. InputError: the file is missing or something else."""
    return Background.load(Path(wanted.background_file).expanduser()) if wanted.background_file else None


def learn_background(arrivals: Sequence[Arrival], wanted: Parameters) -> tuple[Background, str]:
    """The background that these sets of messages show, written to ``background_file``; and a line about it.

    Raises:
        InputError: they show none, or the file cannot be written.
    """
    frames: list[Frame] = []
    bad: BadFrame | None = None
    for arrival in arrivals:
        try:
            frames.append(frame_from_messages(arrival.depth, arrival.info))
        except BadFrame as error:
            bad = error
    if bad is not None and not frames:
        raise bad
    background = Background.learn(frames)
    if not wanted.background_file:
        return background, f"learned from {len(frames)} frames until the node ends (background_file would keep it): {background.summary}"
    path = Path(wanted.background_file).expanduser()
    background.save(path)
    return background, f"learned from {len(frames)} frames and saved to {path}: {background.summary}"
