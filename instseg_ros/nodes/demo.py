"""The main job from end to end (``make demo``): a bag through the real nodes, each a process, over DDS.

bag_player in lockstep → segmenter → evaluator; metrics.json and pictures in the output folder. This process only starts
the nodes, shows what they say, and ends them.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..bags import BagFrames
from ..errors import InputError
from ..files import read_json
from ..methods.model_directory import read_config
from ..processes import EVALUATOR, PLAYER, SEGMENTER, NodeProcesses, camera_remappings
from ..resources import find_bag, find_model

ANSWERS = ["/instseg/masks", "/evaluator/scored"]
START_TIMEOUT = 180.0
"""Seconds for loading torch and the model on a slow machine."""
ANSWER_TIMEOUT = 60.0
LOG_LINE = re.compile(r"^\[(\w+)\] \[[\d.]+\] \[([\w./]+)\]: (.*)$")
NEXT = """
what next
  pictures            {out}/*.png (left the answer, right the truth), all figures in {out}/metrics.json
  in RViz             ros2 launch instseg_ros replay.launch.py rviz:=true
  your camera         ros2 launch realsense2_camera rs_launch.py align_depth.enable:=true
                      ros2 launch instseg_ros bin_picking.launch.py
                      (without ROS' launch: instseg up)
  your part, CAD      instseg synth bins --mesh part.stl --units mm --scenes 2000 --instances 3-12 --out data/part
                      instseg train clusternet --data data/part --out runs/part
"""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="instseg_ros.nodes.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bag", default="", help="rosbag2 to play (default: the bundled one)")
    parser.add_argument(
        "--model", default="", help="model directory or shipped model's name (default: the shipped one)"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the results (default: demo_out)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> dict:
    """Run the demo and return its metrics. InputError for bad input and for a node that dies."""
    if importlib.util.find_spec("rclpy") is None:
        raise InputError("ROS 2 is not on the path: run `make demo`, or source /opt/ros/<distribution>/setup.bash")
    begin = time.monotonic()
    model, bag = find_model(args.model), find_bag(args.bag)
    method = read_config(model)["method"]
    recorded = BagFrames(bag)
    _clear(args.out)
    print(f"bag    {bag} ({len(recorded)} frames)\nmodel  {model} ({method})", flush=True)
    with NodeProcesses(args.out / "logs") as nodes:
        print(
            f"nodes  bag_player → segmenter → evaluator, over DDS in ROS domain {nodes.environment['ROS_DOMAIN_ID']}",
            flush=True,
        )
        nodes.start(
            "segmenter",
            SEGMENTER,
            {"model": str(model), "device": args.device, "use_sim_time": True, "stale_after": 0.0},
            camera_remappings(recorded.topics),
        )
        topics = recorded.topics
        shown = {"depth_topic": topics.depth} | ({"color_topic": _raw(topics.color)} if topics.color else {})
        nodes.start("evaluator", EVALUATOR, {"out": str(args.out), **shown})
        options = {
            "bag": str(bag),
            "lockstep": True,
            "answers": ANSWERS,
            "subscribers": 2,
            "answer_timeout": ANSWER_TIMEOUT,
            "wait_for_subscribers": START_TIMEOUT,
        }
        nodes.start("bag_player", PLAYER, options)
        _show(nodes)
    result = read_json(args.out / "metrics.json")
    _report(result, time.monotonic() - begin)
    frames = result["frames"]
    if frames["answered"] != len(recorded) or frames["duplicates"]:
        raise InputError(
            f"{frames['answered']} of {len(recorded)} frames were answered, {frames['duplicates']} twice: "
            f"see {args.out / 'logs'}"
        )
    print(NEXT.format(out=args.out))
    return result


def _show(nodes: NodeProcesses) -> None:
    """Pass on the evaluator's progress and everyone's warnings until player and evaluator are done."""
    read = {name: 0 for name in ("segmenter", "evaluator", "bag_player")}
    finite = ("evaluator", "bag_player")
    while True:
        done = all(nodes.ended(name) for name in finite)
        for name in read:
            lines = nodes.log(name).read_text(errors="replace").split("\n")[:-1]
            for line in lines[read[name] :]:
                _show_line(name, line)
            read[name] = len(lines)
        nodes.check(may_end=finite)
        if done:
            return
        time.sleep(0.1)


def _show_line(name: str, line: str) -> None:
    match = LOG_LINE.match(line)
    level, text = (match[1], match[3]) if match else ("INFO", line)
    if level != "INFO":
        print(f"  {name}: {level.lower()}: {text}", flush=True)
    elif name == "evaluator" and match and text.startswith("frame "):
        print(f"  {text}", flush=True)
    elif name == "segmenter" and match:
        print(f"  segmenter: {text}", flush=True)


def _report(result: dict, seconds: float) -> None:
    from ..evaluation.table import format_table

    frames, latency = result["frames"], result["latency_ms"]
    print()
    if frames["scored"]:
        print(format_table({"demo": result}))
    print(
        f"frames   {frames['seen']} played, {frames['answered']} answered, {frames['unanswered']} unanswered, "
        f"{frames['duplicates']} answered twice"
    )
    share = result.get("segmenter", {}).get("segment_ms_median")
    of_which = f", of which segment() {float(share):.0f} ms" if share else ""
    print(f"latency  {latency['median']:.0f} ms median{of_which}, {latency['p90']:.0f} ms p90, from depth image to masks")
    print(f"total    {seconds:.0f} s, loading included")


def _clear(out: Path) -> None:
    """Remove what an earlier run left, and nothing else."""
    for path in [*out.glob("[0-9][0-9][0-9][0-9].png"), out / "metrics.json"]:
        path.unlink(missing_ok=True)


def _raw(topic: str) -> str:
    return topic.removesuffix("/compressed")


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m instseg_ros.nodes.demo``. Status 0 = every frame was answered, else 2 and a line that says why."""
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        run(args)
    except InputError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
