"""``instseg evaluate --voxels`` and ``--scannet``: three-dimensional AP by class."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..methods.mtml.voxel_segmenter import VoxelSegmenter

KEYS = ("AP", "AP50", "AP25")
FOR_IMAGES = ("data", "benchmark", "shapes", "part", "bop", "pictures")


def evaluate_voxels(args: argparse.Namespace) -> dict:
    """Voxel scenes of `instseg synth voxels`: a model and both baselines on the same (noisy) semantics."""
    from ..evaluation import voxels
    from ..synthesis.voxel_samples import load_scenes

    _refuse(args, "voxels", (*FOR_IMAGES, "scannet", "keep"))
    baselines = {"semantics": voxels.evaluate_semantics, "components": voxels.evaluate_components}
    for name in args.baseline:
        if name not in baselines:
            raise InputError(f"--baseline {name}: with --voxels it is semantics (a class is one instance) or components")
    if not 0 <= args.noise <= 1:
        raise InputError(f"--noise must lie in [0, 1], got {args.noise:g}")
    scenes = load_scenes(Path(args.voxels), args.split or "test")[: args.limit]
    options = {"noise": args.noise, "seed": args.seed}
    results = {}
    if args.model:
        results[Path(args.model).name] = voxels.evaluate_voxels(_segmenter(args, channels=len(voxels.CLASSES)), scenes, **options)
    results |= {name: baselines[name](scenes, **options) for name in args.baseline}
    print(f"{len(scenes)} scenes, {args.noise:.0%} of the blocks wrong, seed {args.seed}; %")
    for name, table in results.items():
        _print(name, table)
    first = next(iter(results))
    return {"method": first, **results[first], "methods": results, "scenes": len(scenes), **options}


def evaluate_scannet(args: argparse.Namespace) -> dict:
    """Scans in ScanNet's format: the files of a benchmark's answer in --keep, made by --model where there is one."""
    from ..evaluation.scannet import read_names, read_scan, scan_folders
    from ..evaluation.scannet_benchmark import read_numbers, score_answers, write_truth
    from ..evaluation.scannet_voxels import IDS, scan_voxels, write_proposals

    _refuse(args, "scannet", (*FOR_IMAGES, "baseline", "split"))
    if not args.keep:
        raise InputError("--scannet needs --keep DIR: DIR/answers has (or gets) the benchmark's files, DIR/truth the truth's")
    truth, answers = Path(args.keep) / "truth", Path(args.keep) / "answers"
    names = read_names(Path(args.names)) if args.names else None
    segmenter = _segmenter(args, channels=len(IDS)) if args.model else None
    files = []
    for folder in scan_folders(Path(args.scannet))[: args.limit]:
        scan = read_scan(folder, names)
        write_truth(truth, scan)
        files.append(truth / f"{scan.name}.txt")
        if segmenter is not None:
            semantic = read_numbers(Path(args.semantics) / f"{scan.name}.txt") if args.semantics else None
            write_proposals(answers, scan, scan_voxels(scan, semantic), segmenter)
    table = score_answers(files, answers)
    print(f"{len(files)} scans, semantics {'of ' + args.semantics if args.semantics else 'true'}; %")
    _print(Path(args.model).name if args.model else str(answers), table)
    return {"method": args.model or str(answers), **table, "scans": len(files)}


def _refuse(args: argparse.Namespace, kind: str, options: tuple[str, ...]) -> None:
    for option in options:
        if getattr(args, option):
            raise InputError(f"--{option} does not go with --{kind}: leave one of them out")


def _segmenter(args: argparse.Namespace, *, channels: int) -> VoxelSegmenter:
    from ..methods.model_directory import ModelDirectory
    from ..methods.mtml.voxel_segmenter import VoxelSegmenter
    from ..methods.segmenter import choose_device
    from ..resources import find_model

    model = ModelDirectory.read(find_model(args.model))
    if model.method != "mtml" or model.config["network"].get("channels") != channels:
        raise InputError(f"{args.model} is not a model of mtml on {channels} semantic classes: train one on such scenes")
    return VoxelSegmenter.from_model(model, choose_device(args.device))


def _print(name: str, table: dict[str, dict[str, float]]) -> None:
    print(f"{name:<16}" + "".join(f"{key:>8}" for key in KEYS))
    for kind, row in table.items():
        print(f"  {kind:<14}" + "".join(f"{100 * row[key]:8.1f}" for key in KEYS))
