"""``instseg experiment layered-…``: the ablations of Layered Embeddings on drawn shapes, with table and figure."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import InputError

MODEL = "layered-shapes"


def run_layered(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; returns all rows."""
    for option in ("parts", "benchmark", "workers", "data"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} does not go with {args.name}, which draws its own shapes: leave it out")
    from ..evaluation.shapes import IMAGES
    from ..evaluation.shapes_report import shapes_figure, shapes_table
    from ..files import write_atomic, write_json
    from ..resources import find_model
    from ..training.config import read_training_config
    from ..training.experiment_layered import EXPERIMENTS, Plan, run_experiment

    experiment = EXPERIMENTS[args.name]
    if args.model and not experiment.needs_model:
        raise InputError(f"--model is for layered-truth, {args.name} makes its own answers: leave it out")
    for option in ("seeds", "steps", "config"):
        if getattr(args, option) is not None and not experiment.variants:
            raise InputError(f"--{option} is for experiments that train, {args.name} does not: leave it out")
    plan = Plan(
        args.name,
        read_training_config(args.config or "layered_paper"),
        find_model(args.model or MODEL) if experiment.needs_model else None,
        _numbers(args.instances),
        tuple(range(args.seed, args.seed + (args.seeds or 1))),
        args.steps,
        args.limit or IMAGES,
        args.device,
    )

    def report(rows: list[dict[str, Any]]) -> None:
        """Written after every cell: a long run can be looked at."""
        table = shapes_table(args.name, experiment.title, rows)
        write_atomic(args.out / f"{args.name}.md", lambda file: file.write_text(table))
        write_json(args.out / f"{args.name}.json", {"experiment": args.name, "rows": rows})
        figure = shapes_figure(experiment.title, rows)
        write_atomic(args.out / f"{args.name}.png", lambda file: figure.savefig(file, dpi=110))
        last = rows[-1]
        print(f"N = {last['instances']}, {last['variant']}: AP {last['figures']['AP']:.3f}, AR100 {last['figures']['AR100']:.3f}")

    rows = run_experiment(plan, args.out, report=report)
    print((args.out / f"{args.name}.md").read_text())
    return {"experiment": args.name, "rows": rows}


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    words = text.split(",")
    if not all(word.isdigit() and 1 <= int(word) <= 60 for word in words):
        raise InputError(f"--instances must be numbers of shapes of each class, 1…60, like 6,12, got {text!r}")
    return tuple(map(int, words))
