"""Running bag_player in lockstep against the segmenter, each a process, over DDS; what ``ros`` and ``soak`` share."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bags import BagFrames
from ..errors import InputError
from ..files import read_json
from ..processes import PLAYER, SEGMENTER, NodeProcesses, camera_remappings
from ..resources import find_bag, find_model
from . import Options

ANSWER_TIMEOUT = 30.0
START_TIMEOUT = 120.0


@dataclass(frozen=True)
class Run:
    """What came of it.

    Attributes:
        report: of bag_player.
        frames: of the bag.
        size: (H, W) of its depth images.
    """

    report: dict
    frames: int
    size: tuple[int, int]


def play(
    options: Options,
    frames: int,
    *,
    watch: Callable[[int], None] | None = None,
    answers: Sequence[str] = ("masks",),
    node: str = SEGMENTER,
) -> Run:
    """Play the bag as often as ``frames`` needs and wait for the end.

    Args:
        options: model, bag and device.
        frames: at least so many are played.
        answers: topics of the segmenter that are subscribed to; latencies are those of the first.
        node: module that answers.
        watch: called about ten times a second with the segmenter's process number.

    Raises:
        InputError: a node ended early, or frames were not answered.
    """
    bag = find_bag(options.bag)
    recorded = BagFrames(bag)
    if not len(recorded):
        raise InputError(f"{bag} has no frames")
    frame, _ = next(iter(recorded))
    passes = math.ceil(frames / len(recorded))
    with tempfile.TemporaryDirectory(prefix="instseg-bench-") as folder, NodeProcesses(folder) as nodes:
        report = Path(folder) / "report.json"
        segmenter = nodes.start(
            "segmenter",
            node,
            {
                "model": str(find_model(options.model)),
                "device": options.device,
                "use_sim_time": True,
                "stale_after": 0.0,
            },
            camera_remappings(recorded.topics),
        )
        player = nodes.start(
            "bag_player",
            PLAYER,
            {
                "bag": str(bag),
                "lockstep": True,
                "answers": [f"/instseg/{topic}" for topic in answers],
                "passes": passes,
                "report": str(report),
                "answer_timeout": ANSWER_TIMEOUT,
                "wait_for_subscribers": START_TIMEOUT,
            },
        )
        while player.poll() is None:
            nodes.check(may_end=("bag_player",))
            if watch is not None:
                watch(segmenter.pid)
            time.sleep(0.1)
        if player.returncode != 0:
            raise nodes.obituary("bag_player")
        return Run(read_json(report), len(recorded), frame.shape)
