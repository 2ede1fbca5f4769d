"""``instseg synth``: make simulated data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import add_common_arguments
from ..errors import InputError

if TYPE_CHECKING:
    from ..synthesis.bins import BinsRecipe
    from ..synthesis.runner import Recipe

HELP = """Make simulated data: bins of parts (BOP format, optionally a rosbag too), the standard benchmark of ten parts, or the
toy sets of two papers."""
EXAMPLE = "instseg synth bins --part nut --scenes 1000 --instances 5 --camera insta10 --seed 1 --workers 4 --out data/nut"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    bins = kinds.add_parser("bins", help="parts dropped into a bin, seen by a depth camera")
    what = bins.add_mutually_exclusive_group(required=True)
    what.add_argument("--part", metavar="NAME[,NAME…]", help="built-in parts, or all")
    what.add_argument("--mesh", metavar="FILE", help="your own part: STL, OBJ or PLY")
    bins.add_argument("--units", choices=("mm", "cm", "m", "in"), help="unit of the mesh file")
    bins.add_argument("--instances", default="5", metavar="N|LOW-HIGH", help="parts in a pile, 1…30 (default 5)")
    bins.add_argument("--camera", default="d435", help="insta10 (224×224 overhead), d435 (640×480) or d435-hd (1280×720)")
    bins.add_argument("--views", type=int, default=1, metavar="N", help="cameras that look at each pile (default 1)")
    bins.add_argument("--noise", default="d435", help="d435, or none for exact depth (training adds its own noise); default d435")
    bins.add_argument("--bin", metavar="HALFX,HALFY", help="half sides of the bin in metres (default: random, sized to the pile)")
    bins.add_argument("--bag", metavar="FILE", help="write the images to this rosbag2 folder too (mcap, RealSense topic names)")
    bins.add_argument("--jpeg", action="store_true", help="colour in the bag as JPEG, a tenth of the size")
    bins.add_argument("--no-truth", action="store_true", help="leave the /truth topics out of the bag")
    bins.set_defaults(recipe=_bins)

    shapes = kinds.add_parser("shapes", help="outlined circles, triangles and rectangles (Layered Embeddings), BOP format")
    shapes.add_argument("--instances", type=int, default=6, metavar="N", help="shapes of each class in an image (default 6)")
    shapes.add_argument("--classes", default="circle,triangle,rectangle", metavar="NAME[,NAME…]", help="default: all three")
    shapes.set_defaults(recipe=_shapes)

    voxels = kinds.add_parser("voxels", help="boxes of five classes on a plane (MTML), one .npz a scene")
    voxels.add_argument("--instances", default="6-14", metavar="N|LOW-HIGH", help="boxes in a scene (default 6-14)")
    voxels.set_defaults(recipe=_voxels)

    benchmark = kinds.add_parser("benchmark", help="a standard set of ten parts (config/insta10_sim.yaml): a folder a part")
    benchmark.add_argument("name", metavar="NAME", help="insta10-sim-small, insta10-sim, or one with -d435 added")
    benchmark.add_argument("--part", metavar="NAME[,NAME…]", help="only these parts (default all)")
    benchmark.add_argument("--split", help="only train, val or test (default all three)")
    benchmark.add_argument("--json", metavar="FILE", help="write the results as JSON")
    benchmark.set_defaults(recipe=None)  # several of them; seeds are the benchmark's own

    for kind in (bins, shapes, voxels):
        kind.add_argument("--scenes", type=int, required=True, metavar="N", help="number of piles, images or scenes")
        kind.add_argument("--split", default="train", help="train, val or test: same seed, other scenes (default train)")
        add_common_arguments(kind)
    for kind in (bins, shapes, voxels, benchmark):
        kind.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
        kind.add_argument("--out", required=True, metavar="DIR", help="dataset folder; run the same command again to continue")


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    if args.recipe is None:
        return _benchmark(args)

    from tqdm import tqdm

    from ..synthesis.runner import generate

    bag = getattr(args, "bag", None)
    if bag and Path(bag).exists():
        raise InputError(f"{bag} exists already: choose another --bag or remove it")
    recipe: Recipe = args.recipe(args)
    size = recipe.images * recipe.bytes_per_image()
    print(f"{recipe.images} images, about {size / 1e9:.2f} GB → {args.out}")
    with tqdm(total=recipe.images, unit="image", smoothing=0.05) as bar:
        summary = generate(recipe, args.out, args.workers, bar.update)
    rejected = summary.get("rejected_attempts")
    print("done" + (f", {rejected} piles rejected that did not settle" if rejected else ""))
    if bag:
        summary["bag_frames"] = _bag(args, recipe.images)
    return summary


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Every split of every part, then the hard images of the test splits."""
    from ..bop import BopDataset
    from ..progress import ProgressBars
    from ..synthesis.benchmark import read_benchmark
    from ..synthesis.runner import SPLITS, generate

    benchmark = read_benchmark(args.name)
    parts, splits = benchmark.select(args.part), (args.split,) if args.split else SPLITS
    recipes = {(part, split): benchmark.recipe(part, split) for part in parts for split in splits}
    images = sum(recipe.images for recipe in recipes.values())
    size = sum(recipe.images * recipe.bytes_per_image() for recipe in recipes.values())
    print(f"{images} images, about {size / 1e9:.2f} GB → {args.out}")
    results: dict[str, Any] = {part: {} for part in parts}
    with ProgressBars() as bars:
        for (part, split), recipe in recipes.items():
            folder = Path(args.out) / part
            results[part][split] = generate(recipe, folder, args.workers, bars(f"{part} {split}", recipe.images))
            if split == "test":
                from ..evaluation.hard import store_hard  # here: making the images needs no scikit-learn

                dataset, bar = BopDataset(folder, split), bars(f"{part} k-means", recipe.images)
                hard = store_hard(dataset, benchmark.instances, benchmark.hard_share, bar)
                results[part]["hard_test"] = len(hard)
    return {"benchmark": benchmark.name, "images": images, "parts": results}


def _bag(args: argparse.Namespace, images: int) -> int:
    from tqdm import tqdm

    from ..bop import BopDataset
    from ..synthesis.bag import write_bag

    with tqdm(total=images, unit="image", desc=str(args.bag)) as bar:
        return write_bag(BopDataset(args.out, args.split), args.bag, truth=not args.no_truth, jpeg=args.jpeg, progress=bar.update)


def _bins(args: argparse.Namespace) -> BinsRecipe:
    from ..synthesis.bins import BinsRecipe
    from ..synthesis.parts import PARTS

    if args.mesh and not args.units:
        raise InputError(f"--mesh {args.mesh} needs its unit: add --units mm (or cm, m, in)")
    parts = () if args.mesh else tuple(PARTS) if args.part == "all" else tuple(args.part.split(","))
    return BinsRecipe(
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


def _shapes(args: argparse.Namespace) -> Recipe:
    from ..synthesis.shapes import ShapesRecipe

    return ShapesRecipe(args.scenes, args.instances, tuple(args.classes.split(",")), args.split, args.seed)


def _voxels(args: argparse.Namespace) -> Recipe:
    from ..synthesis.voxels import VoxelsRecipe

    return VoxelsRecipe(args.scenes, _range(args.instances), args.split, args.seed)


def _range(text: str) -> tuple[int, int]:
    try:
        numbers = [int(word) for word in text.split("-")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise InputError(f"--instances must be a number or LOW-HIGH, got {text!r}")
    return numbers[0], numbers[-1]


def _pair(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        x, y = (float(word) for word in text.split(","))
    except ValueError:
        raise InputError(f"--bin must be two half sides in metres like 0.05,0.04, got {text!r}") from None
    return x, y
