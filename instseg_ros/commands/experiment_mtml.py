"""``instseg experiment mtml-toy``: MTML on boxes, one task against two, with table and figure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError

SCENES = {"train": 900, "test": 100}
"""Of the paper (section 4)."""
SEEDS = 5


def run_toy(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; returns all results."""
    for option in ("parts", "benchmark", "workers", "model"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} is for InSeGAN's experiments: leave it out")
    from ..evaluation.voxel_report import voxel_figure, voxel_table
    from ..files import write_atomic, write_json
    from ..training.config import read_training_config
    from ..training.experiment_mtml import NOISES, Plan, run_experiment

    seeds = tuple(range(args.seed, args.seed + (SEEDS if args.seeds is None else args.seeds)))
    config = read_training_config(args.config or "mtml_toy")
    noises = NOISES if args.noise is None else _shares(args.noise)
    plan = Plan(config, args.data or _make(args.out / "voxels"), seeds, args.steps, noises, args.limit, args.device)

    def report(cells: list[dict[str, Any]]) -> None:
        """Written after every cell: a long run can be looked at."""
        table = voxel_table(cells)
        write_atomic(args.out / f"{args.name}.md", lambda file: file.write_text(table))
        write_json(args.out / f"{args.name}.json", {"experiment": args.name, "cells": cells})
        figure = voxel_figure(cells)
        write_atomic(args.out / f"{args.name}.png", lambda file: figure.savefig(file, dpi=110))
        last = cells[-1]
        seed = "" if last["seed"] is None else f", seed {last['seed']}"
        print(f"{last['noise']:.0%} wrong, {last['method']}{seed}: AP50 {100 * last['scores']['mean']['AP50']:.1f}")

    cells = run_experiment(plan, args.out, report=report)
    print((args.out / f"{args.name}.md").read_text())
    return {"experiment": args.name, "cells": cells}


def _shares(text: str) -> tuple[float, ...]:
    """``0,0.1`` → (0.0, 0.1), in ascending order, each once."""
    try:
        shares = sorted({float(value) for value in text.split(",")})
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise InputError(f"--noise must be shares in [0, 1] with commas between them, got {text!r}")
    return tuple(shares)


def _make(root: Path) -> Path:
    """The paper's scenes, or what is still missing of them."""
    from ..progress import ProgressBars
    from ..synthesis.runner import generate
    from ..synthesis.voxels import VoxelsRecipe

    with ProgressBars() as bars:
        for split, scenes in SCENES.items():
            generate(VoxelsRecipe(scenes, split=split), root, 1, bars(f"{split} scenes", scenes))
    return root
