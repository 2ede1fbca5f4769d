"""``instseg synth``: make simulated data."""

from __future__ import annotations

import argparse
from typing import Any

from ..cli import add_common_arguments

HELP = "Make simulated data: bins of parts (BOP format), or the toy sets of two papers."
EXAMPLE = "instseg synth bins --part nut --scenes 1000 --instances 5 --camera insta10 --seed 1 --workers 4 --out data/nut"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    bins = kinds.add_parser("bins", help="parts dropped into a bin, seen by a depth camera")
    what = bins.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", metavar="NAME[,NAME…]", help="built-in parts, or all")
    what.add_argument("--mesh", metavar="FILE", help="your own part: STL, OBJ or PLY")
    bins.add_argument("--units", choices=("mm", "cm", "m", "inch"), help="unit of the mesh file")
    bins.add_argument("--scenes", type=int, required=True, metavar="N", help="number of piles")
    bins.add_argument("--instances", default="5", metavar="N|LOW-HIGH", help="parts in a pile, 1…30 (default 5)")
    bins.add_argument("--camera", default="d435", help="insta10 (224×224 overhead), d435 (640×480) or d435-hd (1280×720); default d435")
    bins.add_argument("--views", type=int, default=1, metavar="N", help="cameras that look at each pile (default 1)")
    bins.add_argument("--noise", default="d435", help="d435, or none for exact depth (training adds its own noise); default d435")
    bins.add_argument("--split", default="train", help="train, val or test: same seed, other piles (default train)")
    bins.add_argument("--bin", metavar="HALFX,HALFY", help="half sides of the bin in metres (default: random, sized to the pile)")
    bins.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    bins.add_argument("--out", required=True, metavar="DIR", help="dataset folder; run the same command again to continue")
    add_common_arguments(bins)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    return _bins(args)


def _bins(args: argparse.Namespace) -> dict[str, Any]:
    from tqdm import tqdm

    from ..errors import InputError
    from ..synthesis.generate import Config, bytes_per_image, generate, prepare
    from ..synthesis.parts import PARTS

    if args.mesh and not args.units:
        raise InputError(f"--mesh {args.mesh} needs its unit: add --units mm (or cm, m, inch)")
    parts = () if args.mesh else tuple(PARTS) if args.part == "all" else tuple(args.part.split(","))
    config = prepare(
        Config(
            parts=parts,
            scenes=args.scenes,
            instances=_range(args.instances),
            camera=args.camera,
            views=args.views,
            noise=args.noise,
            split=args.split,
            seed=args.seed,
            bin=_pair(args.bin),
            mesh=(args.mesh, args.units) if args.mesh else None,
        )
    )
    images = config.scenes * config.views
    print(f"{images} images of {', '.join(parts) or args.mesh}, about {images * bytes_per_image(config) / 1e9:.2f} GB → {args.out}")
    with tqdm(total=images, unit="image", smoothing=0.05) as bar:
        summary = generate(config, args.out, args.workers, bar.update)
    print(f"done: {images} images, {summary['rejected_attempts']} piles rejected that did not settle")
    return summary


def _range(text: str) -> tuple[int, int]:
    from ..errors import InputError

    try:
        numbers = [int(word) for word in text.split("-")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise InputError(f"--instances must be a number or LOW-HIGH, got {text!r}")
    return numbers[0], numbers[-1]


def _pair(text: str | None) -> tuple[float, float] | None:
    from ..errors import InputError

    if text is None:
        return None
    try:
        x, y = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--bin must be two half sides in metres like 0.05,0.04, got {text!r}") from None
    return x, y
