"""``instseg evaluate --shapes``: the protocol of Layered Embeddings on drawn images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..methods.layered.segmenter import LayeredSegmenter


def evaluate_shapes(args: argparse.Namespace) -> dict:
    """The protocol of Layered Embeddings; the result is that of the first N and method, all of them stand under ``shapes``."""
    from tqdm import tqdm

    from ..evaluation import shapes
    from ..methods.layered.segmenter import LayeredSegmenter
    from ..methods.segmenter import load_segmenter
    from ..resources import find_model

    for option in ("data", "benchmark", "split", "part", "keep", "bop"):
        if getattr(args, option):
            raise InputError(f"--{option} does not go with --shapes, which draws its own images: leave one of them out")
    numbers = args.shapes.split(",")
    if not all(word.isdigit() and int(word) > 0 for word in numbers):
        raise InputError(f"--shapes must be a number of shapes of each class, or several like 6,12, got {args.shapes!r}")
    answers, segmenter = {}, None
    if args.model:
        segmenter = load_segmenter(find_model(args.model), args.device)
        answers[Path(args.model).name] = shapes.of_segmenter(segmenter.segment)
    if args.pictures and not isinstance(segmenter, LayeredSegmenter):
        raise InputError("--pictures with --shapes shows what a Layered Embeddings model sees: give one as --model, or leave it out")
    for name in args.baseline:
        layers = name.removeprefix("layers")
        if not (layers.isdigit() and int(layers) > 0):
            raise InputError(f"--baseline {name}: with --shapes it is layers2, layers3, …, perfect labels cut to so many layers")
        answers[name] = shapes.ceiling(int(layers))
    images = args.limit or shapes.IMAGES
    results: dict[str, dict] = {}
    print(f"{images} images each, seed {args.seed}\n{'N':>3}  {'':<16}" + "".join(f"{key:>12}" for key in shapes.KEYS))
    for number in map(int, numbers):
        with tqdm(total=images, desc=f"N = {number}", unit="image", disable=not sys.stderr.isatty()) as bar:
            results[str(number)] = shapes.evaluate_shapes(answers, number, images, args.seed, bar.update)
        for name, figures in results[str(number)].items():
            cells = ("—" if figures[key] is None else f"{figures[key]:.3f}" for key in shapes.KEYS)
            print(f"{number:>3}  {name:<16}" + "".join(f"{cell:>12}" for cell in cells))
        if args.pictures:
            _shapes_picture(Path(args.pictures) / f"shapes_{number}.png", segmenter, number, args.seed)
    first = next(iter(answers))
    return {"method": first, **next(iter(results.values()))[first], "shapes": results, "seed": args.seed}


def _shapes_picture(file: Path, segmenter: LayeredSegmenter, number: int, seed: int) -> None:
    """The first test images as the model sees them."""
    import numpy as np

    from ..evaluation.layered_pictures import layered_picture
    from ..evaluation.shapes import drawn_image
    from .segment import write_png

    pictures = [layered_picture(segmenter, *drawn_image(number, i, seed)) for i in range(2)]
    write_png(file, np.concatenate(pictures)[..., ::-1])
    print(f"{file}: image; true layers, classes, embeddings, instances")
