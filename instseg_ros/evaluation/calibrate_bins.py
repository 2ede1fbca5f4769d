"""How wide a benchmark's bins must be for k-means to score what the paper's k-means scores: run as a module, with ``-h``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..bop import Truth
from ..errors import InputError
from ..frame import Frame
from .hard import hard_number, kmeans_answer
from .metrics import best_match, one_to_one, overlap
from .protocol import counted

if TYPE_CHECKING:
    from ..bop import SceneRecord
    from ..synthesis.benchmark import Benchmark
    from ..synthesis.bins import BinsRecipe
    from .run import Answer

HALF_SIDES = (0.65, 0.75, 0.87, 1.0, 1.15, 1.35)
"""Half sides that are tried, in diameters of the part. They are all measured: from some width on, a narrower bin hides parts
instead of crowding them, and those that stay in sight become easier, so there is no one-way scale to bisect."""
MOST_HIDDEN = 0.2
"""Share of the parts that may be hidden (visible to less than 10 %, so that they do not count): one in a pile of five. More
would be a stack."""
MOST_REJECTED = 0.5
"""Share of the drops that may be rejected: more would show which piles happen to stand, not how parts fall."""
STEP = 0.0005
"""Metres: half sides are rounded to it."""
PAPER_CROP, PAPER_SIDE = 214, 64
"""Pixels: InSeGAN scores the middle of its 224² images at 64²."""


@dataclass(frozen=True)
class Reached:
    """What k-means scores in one bin: mean IoU over the true instances that count, k and the true foreground given.

    Attributes:
        bin: half side, metres.
        hard: best match at 64² over the hard images, those it scores lowest: the paper's metric on the paper's kind of test
            images.
        all: the same over all images.
        one_to_one: over all images, one-to-one at full resolution.
        hidden: share of parts that do not count. rejected: share of drops that were rejected.
    """

    bin: float
    hard: float
    all: float
    one_to_one: float
    hidden: float
    rejected: float

    @property
    def sensible(self) -> bool:
        """Whether one would call it a bin."""
        return self.hidden <= MOST_HIDDEN and self.rejected <= MOST_REJECTED


def score(recipe: BinsRecipe, hard_share: float) -> Reached:
    """Score k-means on the piles of a recipe with one part and a square bin; nothing is written."""
    from ..synthesis.bins import ATTEMPTS

    answer = kmeans_answer(recipe.instances[1])
    images: list[np.ndarray] = []
    rejected = parts = 0
    for scene in range(recipe.scenes):
        try:
            settled, attempts = recipe.settle(scene)
        except InputError:  # no try came to rest
            rejected += ATTEMPTS
            continue
        rejected += attempts
        parts += len(settled.poses)
        images.append(_score_image(answer, recipe.look(settled, scene, 0)))
    rejected_share = rejected / (recipe.scenes + rejected)
    scored = sorted((rows for rows in images if len(rows)), key=lambda rows: rows[:, 1].mean())
    if not scored:
        return Reached(recipe.bin[0], 0.0, 0.0, 0.0, 1.0, rejected_share)
    everything, hard = np.concatenate(scored), np.concatenate(scored[: hard_number(hard_share, len(images))])
    paper, one = everything.mean(0)
    return Reached(
        recipe.bin[0], float(hard[:, 0].mean()), float(paper), float(one), 1 - len(everything) / parts, rejected_share
    )


def _score_image(answer: Answer, record: SceneRecord) -> np.ndarray:
    """IoU of the true instances that count, (N, 2): best match at 64², one-to-one at full resolution."""
    labels, n = record.layers[0], len(record.pose)
    visible = np.bincount(labels.ravel(), minlength=n + 1)[1:] / np.maximum(record.pixels, 1)
    unknown = np.full((n, 3), np.nan)
    truth = Truth(
        labels, None, None, visible, unknown, unknown, [""] * n, record.object_id, record.pose, record.depth_order
    )
    found = answer(Frame(record.depth, record.K, None), truth).labels
    keep, m, small = counted(visible), int(found.max(initial=0)), paper_pixels(labels.shape)
    at_64 = best_match(overlap(labels[small], found[small], n, m)[1][keep])
    return np.stack([at_64, one_to_one(overlap(labels, found, n, m)[1][keep])[1]], axis=1)


def paper_pixels(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Index of the pixels of an image (H, W) that InSeGAN's metric looks at: the middle, at 64²."""
    axes = []
    for size in shape:
        crop = size * PAPER_CROP / 224
        axes.append(((size - crop) / 2 + (np.arange(PAPER_SIDE) + 0.5) * crop / PAPER_SIDE).astype(int))
    return np.ix_(*axes)


def choose(measured: Sequence[Reached], target: float) -> Reached:
    """The sensible bin whose ``hard`` comes nearest to ``target``; where no bin is that hard, it is the hardest.

    Raises:
        InputError: none of them is sensible.
    """
    sensible = [reached for reached in measured if reached.sensible]
    if not sensible:
        raise InputError("no bin is wide enough for most piles to settle with most parts in sight: use fewer instances")
    return min(sensible, key=lambda reached: abs(reached.hard - target))


def calibrate_part(
    benchmark: Benchmark, part: str, images: int, log: Callable[[str], object] = lambda line: None
) -> Reached:
    """Calibrate one part on the first ``images`` piles of its validation split; the test images are not looked at."""
    from ..synthesis.parts import load_part

    measured = []
    for factor in HALF_SIDES:
        half = round(round(factor * load_part(part).diameter / STEP) * STEP, 6)
        measured.append(score(benchmark.recipe(part, "val", bin=half, scenes=images), benchmark.hard_share))
        log(f"{part}: {measured[-1]}{'' if measured[-1].sensible else ', not sensible'}")
    return choose(measured, benchmark.parts[part].kmeans_paper)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the lines of ``parts`` for config/insta10_sim.yaml, then the means."""
    from ..synthesis.benchmark import read_benchmark

    parser = argparse.ArgumentParser(prog="python -m instseg_ros.evaluation.calibrate_bins", description=__doc__)
    parser.add_argument("--part", metavar="NAME[,NAME…]", help="only these parts (default all)")
    parser.add_argument("--images", type=int, default=32, metavar="N", help="piles a bin is judged by (default 32)")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    try:
        if args.images < 1:
            raise InputError(f"--images must be positive, got {args.images}")
        benchmark = read_benchmark("insta10-sim")
        found = []
        for part in benchmark.select(args.part):
            reached = calibrate_part(benchmark, part, args.images, lambda line: print(line, file=sys.stderr, flush=True))
            paper = benchmark.parts[part].kmeans_paper
            print(
                f"  {part}: {{bin: {reached.bin:.4f}, kmeans_paper: {paper:.3f}, kmeans_hard: {reached.hard:.3f}, "
                f"kmeans_all: {reached.all:.3f}, kmeans_one_to_one: {reached.one_to_one:.3f}}}",
                flush=True,
            )
            found.append([paper, reached.hard, reached.all, reached.one_to_one])
        print("  # means: paper {:.3f}, hard {:.3f}, all {:.3f}, one-to-one {:.3f}".format(*np.mean(found, axis=0)))
    except InputError as error:
        print(f"calibrate_bins: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
