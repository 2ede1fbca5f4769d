"""``instseg bench``: speed and memory on this machine."""

from __future__ import annotations

import argparse

from ..benchmarks import KINDS
from ..cli import add_common_arguments
from ..errors import InputError

HELP = "Measure on this machine:\n\n" + "\n".join(f"  {kind:<11} {text}" for kind, text in KINDS.items())
EXAMPLE = "instseg bench ros --json ros.json"


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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Run one benchmark and print its figures."""
    from .. import benchmarks

    if args.frames is not None and args.frames < 1:
        raise InputError(f"--frames must be at least 1, got {args.frames}")
    options = benchmarks.Options(args.model, args.bag, args.frames, args.device, args.seed)
    result = benchmarks.run(args.kind, options)
    for key, value in result.items():
        if key != "machine":
            print(f"{key:<18} {value}")
    return result
