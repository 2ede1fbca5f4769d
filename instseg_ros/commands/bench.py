"""``instseg bench``: speed and memory on this machine."""

from __future__ import annotations

import argparse
from dataclasses import fields

from ..benchmarks import KINDS, Options
from ..cli import add_common_arguments
from ..errors import InputError

HELP = "Measure on this machine:\n\n" + "\n".join(f"  {kind:<11} {text}" for kind, text in KINDS.items())
EXAMPLE = """instseg bench ros --json ros.json
  instseg bench soak --minutes 30 --json soak.json
  instseg bench noise --real depth_*.png --intrinsics 615,615,320,240 --picture noise.png"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("kind", choices=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument(
        "--model", metavar="DIR", default="", help="model directory or shipped model's name (default: the shipped one)"
    )
    parser.add_argument("--bag", metavar="BAG", default="", help="frames to work on (default: the bundled bag)")
    parser.add_argument(
        "--frames", metavar="N", type=int, help="how many frames or samples (default: the benchmark's own)"
    )
    parser.add_argument("--minutes", metavar="M", type=float, default=0.0, help="soak: so long behind a camera at full rate")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    parser.add_argument("--camera", default="", metavar="NAME", help="synth: only insta10, d435 or d435-hd (default: the first two)")
    noise = parser.add_argument_group("noise")
    noise.add_argument("--real", metavar="FILE", nargs="+", default=[], help="real depth frames of one camera (PNG, NPY), or a bag")
    noise.add_argument("--intrinsics", default="", metavar="FX,FY,CX,CY", help="camera of depth files, pixels")
    noise.add_argument("--depth-scale", type=float, metavar="S", help="metres a unit (default: 0.001 for integers, 1 for floats)")
    noise.add_argument("--stereo", default="", metavar="F,B", help="imagers' focal length, px, and baseline, m (default: from the depth)")
    noise.add_argument("--picture", default="", metavar="FILE", help="draw the comparison (PNG, SVG or PDF)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Run one benchmark and print its figures."""
    from .. import benchmarks

    if args.frames is not None and args.frames < 1:
        raise InputError(f"--frames must be at least 1, got {args.frames}")
    if not 0 <= args.minutes < float("inf"):
        raise InputError(f"--minutes must be positive, got {args.minutes:g}")
    words = {field.name: getattr(args, field.name) for field in fields(Options)}
    result = benchmarks.run(args.kind, Options(**words | {"real": tuple(args.real)}))
    if "markdown" in result:
        print(result["markdown"])
        return result
    for key, value in result.items():
        if key != "machine":
            print(f"{key:<18} {value}")
    return result
