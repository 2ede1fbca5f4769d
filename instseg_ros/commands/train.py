"""``instseg train``: train a method, keep checkpoints, write a model directory."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..cli import add_common_arguments

HELP = "Train a method. The run (config, log, checkpoints) is kept in OUT/run; OUT itself becomes the model directory."
EXAMPLE = "instseg train clusternet --data data/bins --out runs/bins && instseg evaluate --model runs/bins --data data/bins"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", choices=["clusternet"], help="which method")
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="BOP dataset with the splits train and (optional) val")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="model directory to write")
    parser.add_argument("--config", metavar="FILE", help="YAML, or the name of a shipped one (default clusternet_compact)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT/run")
    parser.add_argument("--steps", metavar="N", type=int, help="stop after N optimiser steps in all")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train as asked; returns the validation metrics."""
    from ..training.config import read_training_config
    from ..training.fit import fit_clusternet

    config = read_training_config(args.config or f"{args.method}_compact")
    metrics = fit_clusternet(args.data, args.out, config, seed=args.seed, resume=args.resume, limit_steps=args.steps)
    print(f"{args.out}: " + (", ".join(f"{name} {value:.3f}" for name, value in metrics.items()) or "no validation split"))
    return metrics
