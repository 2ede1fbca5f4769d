"""The hard images of a split: those on which k-means fails (after InSeGAN, section 4, which tests on such images alone)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..bop import BopDataset
    from .run import Answer

METHOD = "classical k-means on x, y, 1.5 z; true foreground; seed 0"


def kmeans_answer(count: int) -> Answer:
    """The k-means that decides which images are hard and how wide a benchmark's bins are: told k and the foreground."""
    from ..methods.classical.segmenter import ClassicalSegmenter
    from .run import baseline_answer

    return baseline_answer(ClassicalSegmenter("kmeans", seed=0), count, "truth")


def hard_number(share: float, images: int) -> int:
    """How many of so many images are hard."""
    return max(1, round(share * images))


def hard_file(dataset: BopDataset) -> Path:
    """``hard_<split>.json`` beside the split."""
    return dataset.folder.parent / f"hard_{dataset.split}.json"


def read_hard(dataset: BopDataset) -> frozenset[tuple[int, int]]:
    """(scene, image) of the hard images that are stored beside a split; empty where none are.

    Raises:
        InputError: the file is not readable JSON.
    """
    stored = read_json(hard_file(dataset)) if hard_file(dataset).is_file() else {}
    images = stored.get("images", []) if isinstance(stored, dict) else []
    return frozenset((int(scene), int(image)) for scene, image in images)


def store_hard(
    dataset: BopDataset, count: int, share: float, progress: Callable[[int], object] | None = None
) -> frozenset[tuple[int, int]]:
    """Find the hard images of a split and store them beside it; a file that was made by the same rule is kept.

    The rule: of the images of one split of one part, the ``share`` with the lowest mIoU (one-to-one, instances that count)
    of ``kmeans_answer``; of equal ones the first.

    Args:
        dataset: the split.
        count: k, the number of parts in each pile.
        share: between 0 and 1.
        progress: called with 1 after each image.

    Returns:
        (scene, image) of each of them.
    """
    from .run import evaluate_dataset

    rule = {"lowest_share": share, "by": "mIoU one-to-one", "method": METHOD, "k": count, "of": len(dataset)}
    file = hard_file(dataset)
    stored: Any = read_json(file) if file.is_file() else {}
    if not isinstance(stored, dict) or stored.get("rule") != rule:
        report = progress or (lambda images: None)
        evaluation = evaluate_dataset(kmeans_answer(count), dataset, on_image=lambda *_: report(1))
        scores = {tuple(r.key): float(r.iou[r.counted].mean()) for r in evaluation.records if r.counted.any()}
        lowest = sorted(scores, key=scores.get)[: hard_number(share, len(dataset))]  # the sort is stable
        scored = [[*key, round(value, 6)] for key, value in scores.items()]
        write_json(file, {"rule": rule, "images": sorted(map(list, lowest)), "mIoU": scored})
    return read_hard(dataset)
