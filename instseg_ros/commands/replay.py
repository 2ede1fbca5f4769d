"""``instseg replay``: a bag through a model, offline."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from ..cli import add_common_arguments
from ..errors import InputError

HELP = """Segment every frame of a rosbag2 once, in recorded order, without ROS, and score the answers against the bag's
truth topics where it has them (/truth/masks, /truth/amodal_layers, /truth/instances).

Two runs give the same scores. Depth (16UC1, 32FC1 or compressedDepth), camera info and colour are found by
realsense2_camera's names, else by type and name."""
EXAMPLE = "instseg replay recordings/bin_1 --model clusternet-bin --json replay.json --pictures pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bag", metavar="BAG", help="bag folder, .mcap or .db3 file")
    parser.add_argument("--model", metavar="DIR", required=True, help="model directory, or the name of a shipped model")
    parser.add_argument("--depth", metavar="TOPIC", help="depth topic (default: found)")
    parser.add_argument("--info", metavar="TOPIC", help="camera info topic (default: found)")
    parser.add_argument("--color", metavar="TOPIC", help="colour topic (default: found)")
    parser.add_argument("--limit", metavar="N", type=int, help="only the first N frames")
    parser.add_argument("--pictures", metavar="DIR", help="write pictures of the answers")
    parser.add_argument("--every", metavar="N", type=int, default=5, help="a picture of each N-th frame (default 5)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Replay; keys as of ``instseg evaluate`` where the bag has truth, and always ``frames`` and ``segment_ms``."""
    for name in ("limit", "every"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    from itertools import islice

    from tqdm import tqdm

    from ..bags import BagFrames
    from ..evaluation import Evaluation
    from ..evaluation.evaluation import jsonable
    from ..methods.segmenter import load_segmenter
    from ..resources import find_model
    from ..timing import milliseconds

    segmenter = load_segmenter(find_model(args.model), args.device)
    frames = BagFrames(
        args.bag,
        depth=args.depth,
        info=args.info,
        color=args.color,
        use_color=segmenter.needs_color or bool(args.pictures),
    )
    evaluation = Evaluation()
    seconds: list[float] = []
    parts = 0
    total = min(len(frames), args.limit or len(frames))
    progress = tqdm(islice(frames, args.limit), total=total, unit="frame", disable=not sys.stderr.isatty())
    for number, (frame, truth) in enumerate(progress, 1):
        if segmenter.needs_color and frame.color is None:
            raise InputError(
                f"{args.bag}: the frame at {frame.stamp_ns * 1e-9:.3f} s has no colour, which {args.model} needs: "
                "name the topic with --color"
            )
        begin = time.perf_counter()
        instances = segmenter.segment(frame)
        seconds.append(time.perf_counter() - begin)
        parts += len(instances)
        text = f"{len(instances)} found"
        if truth is not None:
            figures = evaluation.add(truth, frame, instances, seconds[-1])
            overlap = "" if figures["mIoU"] is None else f", mIoU {figures['mIoU']:.2f}"
            text = f"{', '.join(figures['part'])}: {figures['found']} found, {figures['true']} true{overlap}"
        if args.pictures and (number - 1) % args.every == 0:
            _draw(args.pictures, number, frame, instances, truth, f"{text}   {seconds[-1] * 1e3:.0f} ms")
    result: dict[str, Any] = {"model": args.model, "bag": str(args.bag)}
    if len(evaluation):
        result |= evaluation.result(seed=args.seed)
    result["frames"] = {"bag": len(frames), "segmented": len(seconds), "scored": len(evaluation), "parts_found": parts}
    result["segment_ms"] = milliseconds(seconds)
    _print(args.model, result)
    return jsonable(result)


def _draw(folder: str, number: int, frame: Any, instances: Any, truth: Any, text: str) -> None:
    from pathlib import Path

    from ..evaluation.side_by_side import side_by_side, write_picture

    true = None if truth is None else truth.labels
    write_picture(
        Path(folder) / f"{number:04d}.png", side_by_side(frame.depth, frame.color, instances.labels, true, text)
    )


def _print(name: str, result: dict) -> None:
    from ..evaluation.table import format_table

    frames, times = result["frames"], result["segment_ms"]
    if frames["scored"]:
        print(format_table({name: result}))
    else:
        print(f"no truth in the bag: {frames['parts_found']} parts found in {frames['segmented']} frames")
    print(f"{frames['segmented']} frames, segment() {times['median']} ms (median), {times['p99']} ms (p99)")
