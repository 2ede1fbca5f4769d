"""``instseg evaluate``: score a model and baselines on the same images of a BOP dataset."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import add_common_arguments
from ..errors import InputError
from ..progress import ProgressBars

if TYPE_CHECKING:
    from ..evaluation.image_set import ImageSet
    from ..evaluation.run import Answer

HELP = """Score a model, baselines, or both on the same images: of a dataset in BOP format, or of a standard benchmark.

Prints one table: COCO AP and AR of masks, AR by occlusion (heavy: under 0.3 visible, medium: under 0.75, little), mIoU
one-to-one and best-match, count accuracy, centroid error (mm), seconds an image. True instances that are visible to less
than 10 % are ignored (BOP convention). --json writes these and more, with 95 % intervals, per part and per image."""
EXAMPLE = """instseg evaluate --model models/clusternet-bin --baseline kmeans --data data/bins --split test --json result.json
  instseg evaluate --benchmark insta10-sim --baseline all --count 5 --foreground truth --keep answers --markdown --json result.json
  instseg evaluate --model layered-shapes --shapes 6,12 --baseline layers2 --baseline layers4
  instseg evaluate --model mtml-toy --voxels data/voxels --baseline components --baseline semantics"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--model", metavar="DIR", help="model directory, or the name of a shipped model")
    parser.add_argument("--amodal-model", metavar="DIR", help="layered model that gives layers to the answers of --model")
    parser.add_argument(
        "--baseline", metavar="NAME", action="append", default=[],
        help="a classical method (repeatable): components, kmeans, spectral, grabcut, graphcut, ncut, felzenszwalb, or all",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="DIR", help="dataset in BOP format; with --benchmark: where `instseg synth benchmark` wrote it"
    )
    parser.add_argument("--split", metavar="NAME", help="folder of the split (default: test, or the only one)")
    parser.add_argument(
        "--benchmark", metavar="NAME", help="test images of a standard set (insta10-sim-small, …), made where they are missing"
    )
    parser.add_argument("--shapes", metavar="N[,N…]", help="drawn shapes, N of each class in an image (default 1000 images, else --limit)")
    parser.add_argument("--voxels", metavar="DIR", help="scenes of `instseg synth voxels` (mtml): AP in 3-D by class, baselines components, semantics")
    parser.add_argument("--noise", metavar="SHARE", type=float, default=0.0, help="--voxels: share of the blocks whose class is wrong (default 0)")
    parser.add_argument("--scannet", metavar="DIR", help="scans in ScanNet's format (mtml); truth and answers in the benchmark's go to --keep")
    parser.add_argument("--semantics", metavar="DIR", help="--scannet: <scene>.txt with the NYU40 id of every vertex (default: the true ones)")
    parser.add_argument("--names", metavar="FILE", help="--scannet: scannetv2-labels.combined.tsv (default: classes by the labels' majority)")
    parser.add_argument("--part", metavar="NAME[,NAME…]", help="parts of the benchmark, or all (default: the model's, else all)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that make its images (default 1)")
    parser.add_argument("--limit", metavar="N", type=int, help="only N images, spread evenly over the split")
    parser.add_argument(
        "--count", metavar="K", default="estimate",
        help="number of parts told to baselines: estimate (default, they find it), truth, or a number",
    )  # fmt: skip
    parser.add_argument(
        "--foreground", choices=("plane", "truth"), default="plane",
        help="pixels told to baselines: those above the floor plane (default) or the true ones",
    )  # fmt: skip
    parser.add_argument(
        "--keep", metavar="DIR", help="keep the answers there; after a kill, or with another method added, go on with what is there"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown, with the intervals")
    parser.add_argument("--pictures", metavar="DIR", help="write contact sheets of the best, median and worst images")
    parser.add_argument("--bop", metavar="FILE", help="write the model's detections as BOP/COCO results (METHOD_DATASET-SPLIT.json)")
    parser.add_argument("--no-intervals", action="store_true", help="leave out the bootstrap intervals")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default auto)")
    add_common_arguments(parser)


@dataclass(frozen=True)
class Method:
    """What is evaluated.

    Attributes:
        name: heading of its results.
        answer: the method itself.
        color: whether it needs colour.
        given: what it is told about the truth; empty for models.
        settings: all that decides an answer besides the image, for ``KeptAnswers``.
    """

    name: str
    answer: Answer
    color: bool
    given: dict[str, Any]
    settings: dict[str, Any]


def run(args: argparse.Namespace) -> dict:
    """Evaluate; the result is that of the first method, the others stand under ``baselines``."""
    if not args.model and not args.baseline and not args.scannet:
        raise InputError("nothing to evaluate: give --model DIR, --baseline NAME, or both")
    if args.amodal_model and (not args.model or args.shapes):
        raise InputError("--amodal-model gives layers to the answers of --model on --data or --benchmark: give both, and no --shapes")
    if not any((args.data, args.benchmark, args.shapes, args.voxels, args.scannet)):
        raise InputError("no images to evaluate on: give --data DIR, --benchmark insta10-sim-small, --shapes 6,12 or --voxels DIR")
    if args.benchmark and args.split:
        raise InputError(
            f"--split {args.split} does not go with --benchmark, which is a test split: leave it out, or use --data DIR alone"
        )
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit must be at least 1, got {args.limit}")
    if args.shapes:
        from .evaluate_shapes import evaluate_shapes

        return evaluate_shapes(args)
    if args.voxels or args.scannet:
        from . import evaluate_voxels

        return evaluate_voxels.evaluate_voxels(args) if args.voxels else evaluate_voxels.evaluate_scannet(args)
    count = _count(args.count)

    from ..evaluation.table import format_markdown, format_table

    methods = _methods(args, count)
    sets, data = _images(args)
    if args.bop and len(sets) > 1:
        raise InputError("--bop writes the results of one dataset: add --part NAME")
    results: dict[str, dict] = {}
    for number, method in enumerate(methods):
        result = _evaluate(args, sets, method, export=args.bop if number == 0 else None)
        results[method.name] = {"method": method.name, "data": data} | result
    print(format_markdown(results) if args.markdown else format_table(results))
    first, *others = results
    return results[first] | {"baselines": {name: results[name] for name in others}}


def _count(text: str) -> str | int:
    if text in ("estimate", "truth"):
        return text
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--count must be estimate, truth or a positive number, got {text!r}")
    return int(text)


def _methods(args: argparse.Namespace, count: str | int) -> list[Method]:
    """What to evaluate, the model first."""
    from .. import __version__
    from ..evaluation.run import baseline_answer
    from ..methods.amodal import load_with_layers
    from ..methods.classical.segmenter import ALGORITHMS, USES_COUNT, ClassicalSegmenter
    from ..methods.model_directory import read_config
    from ..resources import find_model

    methods: list[Method] = []
    if args.model:
        folder = find_model(args.model)
        amodal = find_model(args.amodal_model) if args.amodal_model else None
        segmenter, settings = load_with_layers(folder, amodal, args.device), {"model": read_config(folder), "version": __version__}
        if amodal is not None:
            settings["amodal_model"] = read_config(amodal)
        methods.append(Method(Path(args.model).name, lambda frame, truth: segmenter.segment(frame), segmenter.needs_color, {}, settings))
    names = [n for word in args.baseline for n in (list(ALGORITHMS) if word == "all" else word.split(","))]
    for name in dict.fromkeys(names):
        given = {"count": count if name in USES_COUNT else "estimate", "foreground": args.foreground}
        settings = {"baseline": name, **given, "seed": args.seed, "version": __version__}
        answer = baseline_answer(ClassicalSegmenter(name, seed=args.seed), count, args.foreground)
        methods.append(Method(name, answer, False, given, settings))
    return methods


def _images(args: argparse.Namespace) -> tuple[list[ImageSet], str]:
    """What to evaluate on, and its name."""
    from ..evaluation.image_set import open_benchmark, open_dataset

    if not args.benchmark:
        one = open_dataset(args.data, args.split)
        return [one], f"{Path(args.data).name}/{one.dataset.split}"

    from ..synthesis.benchmark import read_benchmark

    benchmark = read_benchmark(args.benchmark)
    parts = benchmark.select(args.part or _parts_of_model(args, list(benchmark.parts)))
    with ProgressBars() as bars:
        sets = open_benchmark(benchmark, parts, args.data, workers=args.workers, progress=bars)
    some = f" ({', '.join(parts)})" if len(parts) < len(benchmark.parts) else ""
    return sets, f"{benchmark.name}/test{some}"


def _parts_of_model(args: argparse.Namespace, known: list[str]) -> list[str] | None:
    """Parts that the model's card names and the benchmark has; None (= all) without a model."""
    if not args.model:
        return None
    from ..methods.model_directory import read_config
    from ..resources import find_model

    training = read_config(find_model(args.model)).get("training")
    named = training.get("parts") if isinstance(training, dict) else None
    parts = [str(name) for name in named or [] if name in known]
    if not parts:
        said = f"trained on {', '.join(map(str, named))}, which {args.benchmark} lacks" if named else "silent about its parts"
        raise InputError(f"{args.model} is {said}: name one or more with --part, of {', '.join(known)}")
    return parts


def _evaluate(args: argparse.Namespace, sets: list[ImageSet], method: Method, export: str | None) -> dict:
    from tqdm import tqdm

    from ..evaluation.bop_results import BopResults
    from ..evaluation.image_set import evaluate_sets
    from ..evaluation.kept import KeptAnswers
    from ..evaluation.pictures import Gallery

    gallery = Gallery() if args.pictures else None
    detections = BopResults(sets[0].dataset.part_names) if export else None
    images = sum(len(one.dataset) for one in sets)
    progress = tqdm(total=min(images, args.limit or images), desc=method.name, unit="image", disable=not sys.stderr.isatty())

    def on_image(i, frame, truth, instances, seconds, figures):
        if gallery is not None:
            gallery.add(frame, truth.labels, instances.labels, figures)
        if detections is not None:
            detections.add(sets[0].dataset.keys[i], instances, seconds, truth.object_id)
        progress.update()

    def keep(one: ImageSet) -> KeptAnswers:
        file = "_".join(one.prefix) or one.dataset.split
        return KeptAnswers(Path(args.keep) / method.name / f"{file}.npz", method.settings)

    with progress:
        evaluation, hard = evaluate_sets(
            method.answer, sets, limit=args.limit, color=method.color or bool(args.pictures), on_image=on_image,
            keep=keep if args.keep else None,
        )  # fmt: skip
    result: dict[str, Any] = {"given": method.given} if method.given else {}
    result |= evaluation.result(intervals=not args.no_intervals, seed=args.seed)
    if hard is not None:
        figures = hard.result(intervals=not args.no_intervals, seed=args.seed)
        result["hard"] = {key: value for key, value in figures.items() if key not in ("plots", "per_image", "protocol")}
        result["protocol"]["hard"] = "images on which k-means fails: see the rule in hard_<split>.json beside the split"
    if gallery is not None:
        result["pictures"] = gallery.write(args.pictures, method.name, relative_to=args.json)
    if detections is not None:
        detections.write(export)
    return result
