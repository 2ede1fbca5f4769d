"""The nodes in one process, from the same YAML and with the same names as ``bin_picking.launch.py``: for machines without launch."""

from __future__ import annotations

if __name__ == "__main__":  # ahead of the imports that take long
    from .executables import run

    raise SystemExit(run("up"))

import argparse
import importlib
import sys
from collections.abc import Sequence

from rclpy.parameter import Parameter

from ..errors import InputError
from ..resources import share_directory
from . import runner
from .segmenter import SegmenterNode

SOURCES = {"bag": "bag_player:BagPlayerNode", "camera": "camera.node:CameraNode"}
"""Name → ``module:class`` of this package; a source takes ``parameter_overrides`` as every node does."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of ``instseg up``, which describes them."""
    parser = argparse.ArgumentParser(prog="instseg up", description=__doc__)
    for name in ("model", "amodal-model", "device", "bag", "params"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--source", choices=sorted(SOURCES))
    parser.add_argument("--camera-namespace", default="camera")
    parser.add_argument("--camera-name", default="camera")
    return parser.parse_args(argv)


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """What rclpy.init gets: the YAML, and the remappings that the launch file makes."""
    params = args.params or str(share_directory() / "config" / "bin_picking.yaml")
    camera = "".join(f"/{name}" for name in (args.camera_namespace, args.camera_name) if name)
    remap = {
        "depth/image": f"{camera}/aligned_depth_to_color/image_raw",
        "depth/camera_info": f"{camera}/aligned_depth_to_color/camera_info",
        "color/image": f"{camera}/color/image_raw",
    }
    words = ["--ros-args", "--params-file", params, "-r", f"camera:__ns:=/{args.camera_namespace}"]
    if args.camera_name:
        words += ["-r", f"camera:__node:={args.camera_name}"]
    for name, topic in remap.items():
        words += ["-r", f"instseg:{name}:={topic}"]
    return words


def make_nodes(args: argparse.Namespace) -> list[runner.Runnable]:
    """The segmenter, and the source where one is wanted (last: what it sends at once has a listener)."""
    overrides = {name: value for name in ("model", "amodal_model", "device") if (value := getattr(args, name))}
    if args.source == "bag":
        overrides["use_sim_time"] = True
    nodes: list[runner.Runnable] = [SegmenterNode(parameter_overrides=_parameters(overrides))]
    if args.source:
        options = {"bag": args.bag, "passes": 0} if args.source == "bag" else {}  # over and over, until Ctrl-C
        nodes.append(_source(args.source)(parameter_overrides=_parameters(options)))
    return nodes


def _source(name: str) -> type:
    module, class_name = SOURCES[name].split(":")
    try:
        return getattr(importlib.import_module(f"{__package__}.{module}"), class_name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"source {name!r} needs the module {error.name}, which is not here: start the source on its own and leave --source out"
        ) from None


def _parameters(values: dict[str, object]) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m instseg_ros.nodes.up``."""
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        words = ros_arguments(args)
    except InputError as error:
        print(f"instseg up: {error}", file=sys.stderr)
        return 2
    return runner.run(lambda: make_nodes(args), words)
