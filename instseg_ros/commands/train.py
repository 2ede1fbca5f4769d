"""``instseg train``: train a method, keep checkpoints, write a model directory."""

from __future__ import annotations

import argparse
import importlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import add_common_arguments
from ..errors import InputError

if TYPE_CHECKING:
    from ..training.depth_images import DepthImages

HELP = """Train a method. The run (config, log, checkpoints) is kept in OUT/run; OUT itself becomes the model directory.

clusternet and mask2former learn from a labelled dataset (--data), the latter also from a folder of them. layered learns from a
dataset with amodal masks (--data), or from shapes that are drawn as they are needed (--shapes). mtml learns from the voxel scenes of
`instseg synth voxels`, from ScanNet's scans, or from a labelled dataset, then with --config mtml_bin (--data). insegan learns from
unlabelled depth: a rosbag of one fixed camera over one bin (--bag), with the parts stirred between frames, or the depth images of a
dataset (--data)."""
EXAMPLE = """instseg train clusternet --data data/bins --out runs/bins && instseg evaluate --model runs/bins --data data/bins
  instseg train insegan --bag recordings/bolts --instances 5 --out runs/bolts
  instseg train layered --shapes 6,12 --out runs/shapes"""
DEFAULT_CONFIG = {
    "clusternet": "clusternet_compact",
    "insegan": "insegan_improved",
    "layered": "layered_bin",
    "mask2former": "mask2former",
    "mtml": "mtml_toy",
}
SHAPES_CONFIG = "layered_shapes"
LABELLED = {
    "clusternet": "a BOP dataset",
    "mask2former": "a BOP dataset or a folder of them",
    "mtml": "the voxel scenes of `instseg synth voxels` or a BOP dataset",
}
IMAGES = ("images", "validation")
"""Folders in OUT/run with insegan's images, kept while a run can be resumed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", choices=list(DEFAULT_CONFIG), help="which method")
    parser.add_argument("--data", metavar="DIR", type=Path, help="BOP dataset (mtml: or voxel scenes) with the splits train and (optional) val")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="model directory to write")
    defaults = ", ".join(f"{method}: {name}" for method, name in DEFAULT_CONFIG.items())
    parser.add_argument("--config", metavar="FILE", help=f"YAML, or the name of a shipped one (default {defaults}; --shapes: {SHAPES_CONFIG})")
    parser.add_argument("--init", metavar="DIR", help="start from this model (directory or shipped name), not from random weights; not for insegan")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUT/run")
    parser.add_argument("--steps", metavar="N", type=int, help="stop after N optimiser steps in all; clusternet: 0 with --init or trainer.init teaches refiner and scorer alone")
    parser.add_argument("--shapes", metavar="N[,N…]", help="layered: train on drawn shapes, N of each class in an image, instead of --data")
    unlabelled = parser.add_argument_group("insegan")
    unlabelled.add_argument("--bag", metavar="FILE", type=Path, help="rosbag2 of the bin, instead of --data")
    unlabelled.add_argument("--topic", "--depth", metavar="NAME", dest="topic", help="depth topic of the bag (default: the one it has)")
    unlabelled.add_argument("--info", metavar="NAME", help="camera info of that topic (default: the one beside it)")
    unlabelled.add_argument("--instances", metavar="N|LOW-HIGH", help="parts in an image (default: the configuration's)")
    unlabelled.add_argument("--roi", metavar="X,Y,W,H", help="pixels that matter (default: where parts turn out to lie)")
    unlabelled.add_argument("--depth-range", metavar="NEAR,FAR", help="metres; readings outside are left out (default: all)")
    unlabelled.add_argument("--min-frames", metavar="N", type=int, help="train on fewer distinct frames than 200")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train as asked; returns the metrics of the trained model."""
    from ..training.config import read_training_config

    usual = SHAPES_CONFIG if args.shapes is not None else DEFAULT_CONFIG[args.method]
    config = read_training_config(args.config or usual)
    starts = args.method == "clusternet" and (args.init or config.get("trainer", {}).get("init"))
    if args.steps is not None and args.steps < (0 if starts else 1):
        raise InputError(
            f"--steps must be at least 1, got {args.steps}; 0 is for clusternet with --init (or trainer.init in the configuration), whose "
            "refiner and scorer are taught alone"
        )
    metrics = (_fit_insegan if args.method == "insegan" else _fit_supervised)(args, config)
    print(f"{args.out}: " + (", ".join(f"{name} {value:.3f}" for name, value in metrics.items()) or "no validation split"))
    return metrics


def _refuse_shapes(args: argparse.Namespace) -> None:
    if args.shapes is not None:
        raise InputError("--shapes is for layered: leave it out, or make a dataset with `instseg synth shapes` and give it as --data")


def _fit_supervised(args: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    for option in ("bag", "topic", "info", "instances", "roi", "depth_range", "min_frames"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option.replace('_', '-')} is for methods that learn without labels (insegan): leave it out")
    if args.method == "layered":
        _take_shapes(args, config)
    else:
        _refuse_shapes(args)
        if args.data is None:
            raise InputError(f"{args.method} learns from labels: give --data DIR, {LABELLED[args.method]}")
    if args.method == "mask2former":
        from ..methods.mask2former.network import require_transformers

        require_transformers()
    if args.init is not None:
        config["trainer"] = {**config.get("trainer", {}), "init": args.init}
    fit = getattr(importlib.import_module(f"..training.fit_{args.method}", __package__), f"fit_{args.method}")
    return fit(args.data, args.out, config, seed=args.seed, resume=args.resume, limit_steps=args.steps)


def _take_shapes(args: argparse.Namespace, config: dict[str, Any]) -> None:
    if (args.data is None) == (args.shapes is None):
        raise InputError("layered learns from a dataset with amodal masks or from drawn shapes: give --data DIR or --shapes N")
    if args.shapes is not None:
        words = args.shapes.split(",")
        if not all(word.isdigit() for word in words):
            raise InputError(f"--shapes must be a number of shapes of each class, or several like 6,12, got {args.shapes!r}")
        config["data"] = {**config.get("data", {}), "instances": [int(word) for word in words]}


def _fit_insegan(args: argparse.Namespace, config: dict[str, Any]) -> dict[str, Any]:
    if args.init is not None:
        raise InputError("--init is for clusternet, layered, mask2former and mtml: insegan learns each part anew, leave it out")
    _refuse_shapes(args)
    if (args.data is None) == (args.bag is None):
        raise InputError("insegan learns from either a bag or a dataset: give --bag FILE or --data DIR")
    if args.data is not None and (args.topic or args.info):
        raise InputError("--topic and --info name topics of a bag: use them with --bag")
    if args.min_frames is not None and args.min_frames < 1:
        raise InputError(f"--min-frames must be at least 1, got {args.min_frames}")
    if args.instances is not None:
        network = config.get("network", {})
        config["network"] = {**network, "instances": _instances(args.instances, fixed=network.get("kind") != "explicit")}
    from ..training.data import remove_empty
    from ..training.fit_insegan import check_insegan, fit_insegan

    size = check_insegan(args.out, config, resume=args.resume)  # before minutes go into reading depth
    try:
        images, validation = _depth_images(args, size)
        _show(images, args.out / "run" / "images.png")
        metrics = fit_insegan(
            images, args.out, config, seed=args.seed, resume=args.resume, limit_steps=args.steps, validation=validation
        )
    except InputError:
        if not args.resume:
            (args.out / "run" / "images.png").unlink(missing_ok=True)
            for name in IMAGES:
                remove_empty(args.out / "run" / name)
        raise
    for name in IMAGES:
        shutil.rmtree(args.out / "run" / name, ignore_errors=True)
    return metrics


def _depth_images(args: argparse.Namespace, size: int) -> tuple[DepthImages, DepthImages | None]:
    """Training images, and those of the split ``val`` where a dataset has one."""
    from ..progress import ProgressBars
    from ..training.depth_images import LEAST_FRAMES, DepthImages

    folder, validation = (args.out / "run" / name for name in IMAGES)
    with ProgressBars() as bars:
        options: dict[str, Any] = {
            "size": size,
            "roi": _numbers(args.roi, "roi", "X,Y,WIDTH,HEIGHT in pixels", int, 4),
            "depth_range": _numbers(args.depth_range, "depth-range", "NEAR,FAR in metres", float, 2),
            "least": LEAST_FRAMES if args.min_frames is None else args.min_frames,
            "progress": bars,
        }
        if args.bag is not None:
            return DepthImages.from_bag(args.bag, args.topic, folder, info=args.info, **options), None
        images = DepthImages.from_bop(args.data, "train" if (args.data / "train").is_dir() else None, folder, **options)
        if not (args.data / "val").is_dir():
            return images, None
        same = {"normalisation": images.normalisation, "least": 1, "progress": bars}
        return images, DepthImages.from_bop(args.data, "val", validation, **same)


def _show(images: DepthImages, file: Path) -> None:
    """Tell what was found in the depth before hours go into learning from it."""
    import cv2

    from ..files import write_atomic
    from ..training.depth_picture import depth_picture

    n, s = images.normalisation, images.summary
    left_out = "".join(f", {s[key]} {key}" for key in ("duplicates", "empty", "intruded", "invalid") if s[key])
    x, y, side = n.roi
    print(
        f"{s['source']}: {s['distinct']} distinct frames of {s['frames']}{left_out}; parts lie within {side} x {side} pixels at ({x}, {y}), "
        f"{n.near:.3f} to {n.far:.3f} m, from {1e3 * n.margin:.1f} mm above the bin; see {file}"
    )
    write_atomic(file, lambda temporary: cv2.imwrite(str(temporary), depth_picture(images)))


def _instances(text: str, *, fixed: bool) -> int:
    """The usual number of parts; ``fixed``: the method knows no other."""
    words = text.split("-")
    if not all(word.isdigit() and int(word) > 0 for word in words) or len(words) > 2 or int(words[0]) > int(words[-1]):
        raise InputError(f"--instances must be a positive number or LOW-HIGH, got {text!r}")
    if fixed and int(words[0]) != int(words[-1]):
        raise InputError(
            f"--instances {text}: the paper's network draws the same number of parts in every image: give one number, "
            "or use --config insegan_improved"
        )
    return -(-(int(words[0]) + int(words[-1])) // 2)


def _numbers(text: str | None, option: str, form: str, kind: type, count: int) -> tuple[Any, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(kind(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        raise InputError(f"--{option} must be {form}, got {text!r}")
    return numbers
