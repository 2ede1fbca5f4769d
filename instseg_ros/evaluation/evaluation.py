"""Evaluation: add images one by one, ask for the result. Used offline, for bags and by the evaluator node."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ..frame import Frame
from ..instances import Instances
from . import protocol
from .record import Record, make_record
from .summary import Summary

if TYPE_CHECKING:
    from ..bop import Truth


class Evaluation:
    """Collects images and scores them by the rules of ``protocol``.

    True instances with ``visible_fraction < 0.1`` are ignored (BOP): no misses, and detections on them no mistakes.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def __len__(self) -> int:
        return len(self.records)

    def add(
        self, truth: Truth, frame: Frame | None, instances: Instances, seconds: float | None = None, key: Any = None
    ) -> dict:
        """Score one image.

        Args:
            truth: what is there; ``masks`` and ``layers`` may be None, then amodal scores and order are left out.
            frame: gives the time stamp that names the image when ``key`` is None; None is allowed.
            instances: the answer, of the truth's size.
            seconds: how long ``segment`` took, where that is known.
            key: JSON-ready name of the image, e.g. (scene, image).

        Returns:
            The image's own figures: key, part, mIoU, mIoU_best, true, found, seconds.

        Raises:
            InputError: truth and answer differ in size.
        """
        if key is None:
            key = frame.stamp_ns if frame is not None else len(self.records)
        self.records.append(make_record(truth, instances, seconds, key))
        return image_figures(self.records[-1])

    def subset(self, keys: Collection[tuple]) -> Evaluation:
        """The evaluation of the images of these keys alone (as tuples), for instance of the hard ones."""
        chosen = Evaluation()
        chosen.records = [record for record in self.records if tuple(record.key) in keys]
        return chosen

    def result(self, *, intervals: bool = True, seed: int = 0) -> dict:
        """Everything as JSON-ready values; what cannot be scored (no such truth, no amodal answer) is None.

        Keys: AP AP50 AP75 AR1 AR10 AR100 APs APm APl ARs ARm ARl (COCO, by mask size), AR_heavy AR_medium AR_little (by
        occlusion), mIoU mIoU_best, amodal_AP amodal_AP50 amodal_AR100 amodal_AR_heavy … (None for methods with one layer),
        order_accuracy, count_accuracy count_error count_bias, centroid_mm_median …_mean …_p90, covariance_median …
        (relative Frobenius), sigma_mm_median …, visible_error_mean (of the visible fraction, matched instances), seconds
        {median mean p99}, images instances instances_ignored predictions matched order_pairs, parts,
        interval {key: [low, high]}, per_part {name: the same keys}, plots, per_image, protocol.
        """
        parts = sorted({str(name) for record in self.records for name in record.part})
        scores = _summarise(Summary(self.records), intervals, seed)
        same = len(parts) == 1 and all(len(record.part) for record in self.records)  # then a second bootstrap would be waste
        result = scores | {"parts": parts}
        result["per_part"] = {name: scores if same else _summarise(Summary(self.records, name), intervals, seed) for name in parts}
        result["per_image"] = [image_figures(record) for record in self.records]
        result["protocol"] = protocol.describe() | {"seed": seed}
        return jsonable(result)


AMODAL = ["amodal_AP", "amodal_AP50", "amodal_AR100", *(f"amodal_AR_{name}" for name in protocol.OCCLUSION)]


def _summarise(summary: Summary, intervals: bool, seed: int) -> dict:
    result: dict[str, Any] = dict.fromkeys(AMODAL)
    result |= summary.scores() | summary.size_scores() | summary.sizes()
    result["seconds"] = summary.seconds()
    result["plots"] = summary.plots()
    result["interval"] = summary.intervals(seed=seed) if intervals and len(summary.records) > 1 else {}
    return result


def image_figures(record: Record) -> dict:
    """One image's own figures; its mIoU is None when no instance counts."""
    n = int(record.counted.sum())
    return {
        "key": record.key,
        "part": sorted({str(name) for name in record.part}),
        "mIoU": float(record.iou[record.counted].mean()) if n else None,
        "mIoU_best": float(record.best[record.counted].mean()) if n else None,
        "true": n,
        "found": record.found,
        "seconds": None if math.isnan(record.seconds) else record.seconds,
    }


def jsonable(value: Any) -> Any:
    """NaN → None, NumPy scalars and tuples → Python's own, all the way down."""
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
