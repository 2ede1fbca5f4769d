"""COCO average precision and recall of masks, computed by faster-coco-eval."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .protocol import HIDDEN, OCCLUSION, hidden_class, occlusion_class

IGNORED_AREA = 1e11
"""The library ignores truth outside its area range, and its iscrowd is another thing: an ignored instance gets this area."""

SIZES = {"small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}
# The same mechanism sorts by occlusion: the classes stand in for areas 1, 2 and 3.
CLASSES = {"occlusion": (OCCLUSION, occlusion_class), "hidden": (HIDDEN, hidden_class)}


@dataclass(frozen=True)
class Masks:
    """Run-length encoded masks of one image: N true ones, M found ones.

    Attributes:
        size: (H, W).
        true, found: COCO RLE dicts (compressed).
        visible_fraction: (N,) of the true ones.
        counted: (N,) bool; the others are ignored.
        score: (M,).
    """

    size: tuple[int, int]
    true: list[dict]
    found: list[dict]
    visible_fraction: np.ndarray
    counted: np.ndarray
    score: np.ndarray


def encode_labels(labels: np.ndarray, n: int) -> list[dict]:
    """COCO RLE of labels 1…n of an (H, W) label image; a label without pixels gives an empty mask."""
    return encode_masks(labels[None] == np.arange(1, n + 1, dtype=labels.dtype)[:, None, None])


def encode_masks(masks: np.ndarray) -> list[dict]:
    """COCO RLE of masks (N, H, W) bool."""
    from faster_coco_eval import mask as coco_mask

    if not len(masks):
        return []
    return coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))


def encode_layers(layers: np.ndarray, n: int) -> list[dict]:
    """COCO RLE of the amodal masks of labels 1…n in a stack (L, H, W)."""
    ids = np.arange(1, n + 1, dtype=layers.dtype)[:, None, None]
    masks = np.zeros((n, *layers.shape[1:]), bool)
    for layer in layers:
        masks |= layer[None] == ids
    return encode_masks(masks)


class CocoEvaluation:
    """COCO scores of a set of images, and of any resample of it.

    Args:
        images: the masks.
        by: ``size`` gives the ranges small, medium, large; ``occlusion`` gives heavy, medium, little; ``hidden`` gives none,
            partial, heavy.
    """

    def __init__(self, images: Sequence[Masks], by: str = "size") -> None:
        self.images, self.by = images, by
        self.ranges = {"all": [0, 1e10]}
        if by == "size":
            self.ranges |= SIZES
        else:
            self.ranges |= {name: [i + 0.5, i + 1.5] for i, name in enumerate(CLASSES[by][0])}
        self._evaluation = self._evaluate()

    def _evaluate(self) -> Any:
        from faster_coco_eval import COCO, COCOeval_faster
        from faster_coco_eval import mask as coco_mask

        truth, answers = [], []
        for index, image in enumerate(self.images, 1):
            area = coco_mask.area(image.true) if image.true else np.zeros(0)
            if self.by in CLASSES:
                area = CLASSES[self.by][1](image.visible_fraction) + 1
            area = np.where(image.counted, area, IGNORED_AREA)
            truth += [_annotation(index, rle, value) for rle, value in zip(image.true, area)]
            area = coco_mask.area(image.found) if image.found else []
            answers += [
                {**_annotation(index, rle, value), "score": float(score)}
                for rle, value, score in zip(image.found, area, image.score)
            ]
        images = [
            {"id": index, "height": image.size[0], "width": image.size[1]} for index, image in enumerate(self.images, 1)
        ]
        base = {"info": {}, "images": images, "categories": [{"id": 1, "name": "part"}]}
        coco = []
        for annotations in (truth, answers):
            for number, annotation in enumerate(annotations, 1):  # ids start at 1: the library takes 0 for "no match"
                annotation["id"] = number
            coco.append(COCO({**base, "annotations": annotations}))
        evaluation = COCOeval_faster(*coco, "segm", separate_eval=True)
        evaluation.params.areaRng = list(self.ranges.values())
        evaluation.params.areaRngLbl = list(self.ranges)
        evaluation.evaluate()
        return evaluation

    def accumulate(self, range_name: str = "all", sample: np.ndarray | None = None) -> Scores:
        """Scores in one range, of all images or of those with the indices ``sample`` (repeats allowed).

        Each image was matched once; only the library's accumulation is repeated, so a bootstrap costs milliseconds.
        """
        from faster_coco_eval import faster_eval_api_cpp as library

        n = len(self.images)
        first = list(self.ranges).index(range_name) * n
        results = self._evaluation._evalImgs_cpp[first : first + n]  # order: category, range, image
        if sample is not None:
            results = [results[i] for i in sample]
        params = copy.copy(self._evaluation._paramsEval)
        params.areaRng, params.imgIds = [self.ranges[range_name]], list(range(1, len(results) + 1))
        scores = library.COCOevalAccumulate(params, results)
        return Scores(np.array(scores["precision"])[:, :, 0, 0], np.array(scores["recall"])[:, 0, 0])


@dataclass(frozen=True)
class Scores:
    """What the library accumulates.

    Attributes:
        precision: (10, 101, 3) at IoU 0.50…0.95, recall 0…1, at most 1, 10, 100 detections an image; −1 = no truth.
        recall: (10, 3).
    """

    precision: np.ndarray
    recall: np.ndarray

    def ap(self, iou: float | None = None) -> float:
        """Average precision at one IoU, or the mean over all; NaN where there is no truth."""
        chosen = self.precision[:, :, 2] if iou is None else self.precision[round((iou - 0.5) / 0.05), :, 2]
        return _mean(chosen)

    def ar(self, detections: int = 100) -> float:
        """Average recall over IoU with at most 1, 10 or 100 detections an image; NaN where there is no truth."""
        return _mean(self.recall[:, (1, 10, 100).index(detections)])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if (values > -1).all() else float("nan")


def _annotation(image: int, rle: dict, area: float) -> dict:
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "area": float(area), "segmentation": rle, "bbox": []}
