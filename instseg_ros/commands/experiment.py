"""``instseg experiment``: repeat an experiment of a paper, with table and figure."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import add_common_arguments
from ..errors import InputError

if TYPE_CHECKING:
    from ..training.experiments import PartImages

HELP = """Repeat an experiment of InSeGAN's section 4.1 on simulated bins, MTML's on voxel scenes of boxes, or those of Layered Embeddings on shapes:

  insegan-ablation   losses (Table 2), matching by OT, Hungarian and greedy, 3-D against 2-D generator
  insegan-instances  a model of n = 1…7 instances for piles of 5 (Fig. 4b)
  insegan-data       shares of the training images (Fig. 4a)
  insegan-remedies   the improved configuration with each remedy switched off alone; --model: only those of the answer
  mtml-toy           embedding only against multi-task, right and noisy semantics (MTML, Table 1)
  layered-ceilings   perfect labels cut to 2, 3, 4 layers (Layered Embeddings, Table 2); trains nothing
  layered-truth      classes or clusters of --model replaced by the truth (section 5); trains nothing
  layered-layers     networks of 2, 3 and 4 layers
  layered-embedding  embeddings of 1…6 and 16 dimensions, 6…30 rectangles (Fig. 3)

Every cell (part, noise or number of shapes, variant, seed) is a folder in OUT, with the model where one is trained; the same command
goes on where it was interrupted and reads back what is finished. OUT/NAME.md, .json and .png hold the table, all figures and the plot, baselines beside them."""
EXAMPLE = """instseg experiment insegan-ablation --parts bolt,obj01 --seeds 3 --out runs/ablation
  instseg experiment insegan-remedies --model insegan-bolt --parts bolt --out runs/remedies
  instseg experiment mtml-toy --out runs/mtml-toy
  instseg experiment mtml-toy --config mtml_toy_short --steps 400 --noise 0,0.1 --out runs/mtml-short
  instseg experiment layered-layers --config layered_shapes --instances 6 --out runs/layers"""
NAMES = ("insegan-ablation", "insegan-instances", "insegan-data", "insegan-remedies", "mtml-toy",
         "layered-ceilings", "layered-truth", "layered-layers", "layered-embedding")  # fmt: skip
INSEGAN = {"parts": "bolt,obj01", "seeds": 1, "benchmark": "insta10-sim-small", "workers": 1}
"""Defaults of InSeGAN's experiments; options that are only theirs have no default of their own, so that they can be refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the cells and of the report")
    parser.add_argument("--seeds", metavar="N", type=int, help="trainings of each variant, from --seed on (default 1; mtml-toy 5)")
    parser.add_argument("--steps", metavar="N", type=int, help="optimiser steps of each training (default: the configuration's epochs)")
    parser.add_argument(
        "--config", metavar="FILE",
        help="what is varied (default insegan_faithful; insegan-remedies: insegan_improved; mtml-toy: mtml_toy; layered: layered_paper)",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="DIR", type=Path, help="use DIR/PART, BOP datasets with the splits train and test, instead of the benchmark; "
        "mtml-toy: voxel scenes (default: 900 and 100 are made in OUT/voxels)",
    )  # fmt: skip
    parser.add_argument("--limit", metavar="N", type=int, help="only N test images a part (mtml-toy: scenes; layered: default 1000)")
    parser.add_argument("--instances", metavar="N[,N…]", help="layered: shapes of each class in an image (default: the experiment's)")
    parser.add_argument("--noise", metavar="SHARE[,SHARE…]", help="mtml-toy: shares of the blocks whose class is wrong (default 0,0.1,0.3)")
    images = parser.add_argument_group("insegan")
    images.add_argument("--parts", metavar="NAME[,NAME…]", help="parts, or all (default bolt,obj01, as in Table 2)")
    images.add_argument("--benchmark", metavar="NAME", help="standard set (default insta10-sim-small)")
    images.add_argument(
        "--model", metavar="DIR", help="insegan-remedies: vary the answer of this model, train nothing; layered-truth: default layered-shapes"
    )
    images.add_argument("--workers", type=int, metavar="N", help="processes that make missing images (default 1)")
    parser.add_argument("--device", default="auto", help="of the segmenters: auto, cpu, cuda or cuda:N (default auto)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing; returns all results."""
    for option in ("seeds", "steps", "limit"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise InputError(f"--{option} must be at least 1, got {value}")
    if args.instances is not None and not args.name.startswith("layered-"):
        raise InputError(f"--instances is for layered experiments, {args.name} has its own: leave it out")
    if args.noise is not None and args.name != "mtml-toy":
        raise InputError(f"--noise is for mtml-toy, {args.name} has none: leave it out")
    if args.name == "mtml-toy":
        from .experiment_mtml import run_toy

        return run_toy(args)
    if args.name.startswith("layered-"):
        from .experiment_layered import run_layered

        return run_layered(args)
    for option, default in INSEGAN.items():
        setattr(args, option, default if getattr(args, option) is None else getattr(args, option))
    from ..evaluation.experiment_report import experiment_figure, experiment_table
    from ..files import write_atomic, write_json
    from ..progress import ProgressBars
    from ..resources import find_model
    from ..training.config import read_training_config
    from ..training.experiments import EXPERIMENTS, Plan, run_experiment

    experiment = EXPERIMENTS[args.name]
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    if args.model and (args.name != "insegan-remedies" or args.seeds > 1 or args.steps or args.config):
        raise InputError("--model goes with insegan-remedies alone, and without --seeds, --steps and --config: leave one of them out")
    config = read_training_config(args.config or experiment.config)
    plan = Plan(args.name, config, seeds, args.steps, args.limit, args.device, find_model(args.model) if args.model else None)

    def report(cells: list[dict[str, Any]]) -> None:
        """Written after every cell: a long run can be looked at."""
        table = experiment_table(experiment.title, cells)
        write_atomic(args.out / f"{args.name}.md", lambda file: file.write_text(table))
        write_json(args.out / f"{args.name}.json", {"experiment": args.name, "cells": cells})
        figure = experiment_figure(experiment.title, experiment.axis, cells)
        write_atomic(args.out / f"{args.name}.png", lambda file: figure.savefig(file, dpi=110))
        last = cells[-1]
        print(f"{last['part']}, {last['variant']}, seed {last['seed']}: mIoU {last['mIoU']:.3f}")

    with ProgressBars() as bars:
        parts = _own_parts(args) if args.data else _benchmark_parts(args, bars)
        cells = run_experiment(plan, parts, args.out, progress=bars, report=report)
    print((args.out / f"{args.name}.md").read_text())
    return {"experiment": args.name, "cells": cells}


def _benchmark_parts(args: argparse.Namespace, bars: Any) -> list[PartImages]:
    """Parts of the benchmark, made in the cache folder where they are missing."""
    from ..evaluation.image_set import open_benchmark
    from ..synthesis.benchmark import read_benchmark
    from ..synthesis.runner import generate
    from ..training.experiments import PartImages

    benchmark = read_benchmark(args.benchmark)
    names = benchmark.select(args.parts)
    parts = []
    for name, test in zip(names, open_benchmark(benchmark, names, workers=args.workers, progress=bars)):
        recipe, root = benchmark.recipe(name, "train"), test.dataset.root
        generate(recipe, root, args.workers, bars(f"{name}: training images", recipe.images))
        parts.append(PartImages(name, _training_images(root), test, benchmark.instances))
    return parts


def _own_parts(args: argparse.Namespace) -> list[PartImages]:
    """Parts whose datasets lie in one folder."""
    from ..evaluation.image_set import open_dataset
    from ..training.experiments import PartImages

    if args.parts == "all":
        names = sorted(folder.parent.name for folder in args.data.glob("*/train"))
    else:
        names = args.parts.split(",")
    if not names:
        raise InputError(f"{args.data} holds no PART/train: give the folder that holds one BOP dataset a part")
    parts = []
    for name in names:
        test = open_dataset(args.data / name, "test")
        count = round(sum(len(test.dataset.truth(i)) for i in range(min(len(test.dataset), 10))) / min(len(test.dataset), 10))
        parts.append(PartImages(name, _training_images(args.data / name), test, max(count, 1)))
    return parts


def _training_images(root: Path) -> Any:
    from ..training.depth_images import DepthImages

    return lambda folder, size, progress: DepthImages.from_bop(root, "train", folder, size=size, least=1, progress=progress)
