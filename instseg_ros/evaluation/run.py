"""Running a segmenter over a dataset, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frame import Frame
from ..instances import Instances
from .evaluation import Evaluation
from .protocol import counted

if TYPE_CHECKING:
    from ..bop import BopDataset, Truth
    from .kept import KeptAnswers

Answer = Callable[[Frame, "Truth"], Instances]
"""What is evaluated. Only baselines that are *given* something (the count, the foreground) may look at the truth."""
OnImage = Callable[[int, Frame, "Truth", Instances, float, dict], Any]
"""Called after each image with its index, what went in and out, the seconds, and the image's figures."""


def spread(n: int, limit: int | None) -> list[int]:
    """``limit`` indices spread evenly over 0…n−1, so that every part of a set that is sorted by part is in; all if None."""
    if limit is None or limit >= n:
        return list(range(n))
    return np.unique(np.linspace(0, n - 1, limit).round().astype(int)).tolist()


def evaluate_dataset(
    answer: Answer,
    dataset: BopDataset,
    *,
    indices: Iterable[int] | None = None,
    color: bool = False,
    on_image: OnImage | None = None,
    evaluation: Evaluation | None = None,
    prefix: tuple[str, ...] = (),
    kept: KeptAnswers | None = None,
) -> Evaluation:
    """Score ``answer`` on images of a dataset.

    Args:
        answer: frame (and truth, see ``Answer``) → Instances; only this call is timed.
        indices: which images; all by default.
        color: whether the frames need colour.
        on_image: for pictures, exports and progress.
        evaluation: what the images are added to; a new one by default.
        prefix: put before (scene, image) in the images' keys.
        kept: answers that are there already are taken from it, new ones are added.
    """
    evaluation = Evaluation() if evaluation is None else evaluation
    for i in range(len(dataset)) if indices is None else indices:
        frame, truth = dataset.frame(i, color=color), dataset.truth(i, layers=True)
        instances, seconds = _answer(answer, dataset.keys[i], frame, truth, kept)
        if len(instances.layers) > 1:
            truth = dataset.truth(i, amodal=True, layers=True)
        figures = evaluation.add(truth, frame, instances, seconds, key=[*prefix, *dataset.keys[i]])
        if on_image is not None:
            on_image(i, frame, truth, instances, seconds, figures)
    return evaluation


def _answer(
    answer: Answer, key: tuple[int, int], frame: Frame, truth: Truth, kept: KeptAnswers | None
) -> tuple[Instances, float]:
    known = kept.find(key, frame, truth) if kept is not None else None
    if known is not None:
        return known
    start = time.perf_counter()
    instances = answer(frame, truth)
    seconds = time.perf_counter() - start
    if kept is not None:
        kept.add(key, frame, truth, instances, seconds)
    return instances, seconds


def baseline_answer(segmenter: Any, count: str | int, foreground: str) -> Answer:
    """A classical segmenter that may be told things.

    Args:
        segmenter: a ``ClassicalSegmenter``.
        count: ``estimate``, ``truth`` (the instances that count, see ``protocol``) or a number.
        foreground: ``plane`` (what stands above the floor) or ``truth``.
    """

    def answer(frame: Frame, truth: Truth) -> Instances:
        given = {"estimate": None, "truth": int(counted(truth.visible_fraction).sum())}.get(count, count)
        return segmenter.segment(frame, count=given, foreground=truth.labels > 0 if foreground == "truth" else None)

    return answer
