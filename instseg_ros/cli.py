"""The ``instseg`` command: finds the module of the command, parses, runs, reports bad input in one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from . import __version__
from .errors import InputError
from .files import write_json

COMMANDS = {
    "synth": "make simulated bins (BOP format, optionally a rosbag)",
    "view": "contact sheets of a dataset",
    "train": "train a method on a dataset or a bag",
    "segment": "segment image files",
    "evaluate": "score a model or a baseline on a dataset",
    "replay": "score a model on a rosbag, each frame once",
    "report": "one HTML page from evaluation results",
    "experiment": "repeat an experiment of a paper, with table and figure",
    "bench": "measure speed on this machine",
    "models": "list the models that are shipped",
    "up": "start the ROS 2 nodes without launch",
}
"""Command → its line in the overview. The modules are imported only when needed: `-h` must not wait for torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status 0 = done, 2 = bad input (one line on stderr), 130 = interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    top = argparse.ArgumentParser(prog="instseg", description="Instance segmentation for bin picking.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, line in COMMANDS.items():
        parser = commands.add_parser(name, help=line, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == wanted:
            module = importlib.import_module(f"{__package__}.commands.{name}")
            parser.description, parser.epilog = module.HELP, f"example:\n  {module.EXAMPLE}"
            module.add_arguments(parser)
            parser.set_defaults(run=module.run)
    args = top.parse_args(argv)
    try:
        result = args.run(args)
        if getattr(args, "json", None) and result is not None:
            write_json(args.json, result)
    except InputError as error:
        print(f"instseg {args.command}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("instseg_ros"):
            raise
        print(f"instseg {args.command}: this command needs the package {error.name!r}: install the extra that has it, see README", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (default 0)")


if __name__ == "__main__":
    sys.exit(main())
