"""The evaluation of Layered Embeddings (Liu et al., section 5): amodal masks of shapes at 64 × 64, class-agnostic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..frame import Frame
from ..instances import Instances
from ..methods.layered.segmenter import LayeredSegmenter, answer
from ..methods.layered.stack import compact, without_hidden
from ..synthesis.shapes import SHAPES, ShapesRecipe
from .coco import CocoEvaluation, Masks, encode_layers
from .evaluation import jsonable
from .protocol import HIDDEN

IMAGES = 1000
STRIDE = 4
"""Pixels of the image a pixel of the 64 × 64 masks."""

KEYS = ("AP", "AP50", "AP75", "AR100", *(f"AR_{name}" for name in HIDDEN))
"""Figures, in the order of the paper's Table 1 (whose AP of none, partial and heavy are recalls)."""

Answer = Callable[[Frame, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Frame and true stack (D, H, W) → stack (L, H, W) uint16 and score (M,). Only ceilings may look at the truth."""


class ShapesEvaluation:
    """COCO's AP and AR of whole masks, the recall also by the share of a shape that others hide."""

    def __init__(self) -> None:
        self.images: list[Masks] = []

    def add(self, truth: np.ndarray, found: np.ndarray, score: np.ndarray) -> None:
        """Score one image.

        Args:
            truth: (D, H, W) uint16 true stack, as deep as the pile. Shapes that show nowhere at 64 × 64 do not count.
            found: (L, H, W) uint16 stack of the answer, labels 1…M. score: (M,).
        """
        truth, found = to_cells(truth), to_cells(found)
        n = int(truth.max(initial=0))
        visible, whole = (np.bincount(cells.ravel(), minlength=n + 1)[1:] for cells in (truth[0], truth))
        counted = np.flatnonzero(visible)
        true = encode_layers(truth, n)
        fraction = visible[counted] / whole[counted]
        self.images.append(
            Masks(truth.shape[1:], [true[i] for i in counted], encode_layers(found, len(score)), fraction, np.ones(len(counted), bool), score)
        )

    def result(self) -> dict[str, Any]:
        """Keys: AP AP50 AP75 AR100 AR_none AR_partial AR_heavy images instances predictions."""
        coco = CocoEvaluation(self.images, "hidden")
        scores = coco.accumulate()
        values = [scores.ap(), scores.ap(0.5), scores.ap(0.75), scores.ar(), *(coco.accumulate(name).ar() for name in HIDDEN)]
        result = dict(zip(KEYS, values))
        counts = {"instances": sum(len(m.true) for m in self.images), "predictions": sum(len(m.found) for m in self.images)}
        return jsonable({**result, "images": len(self.images), **counts})


def to_cells(stack: np.ndarray) -> np.ndarray:
    """Nearest neighbours at 64 × 64: the pixel at the middle of each cell."""
    return stack[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]


def ceiling(layers: int) -> Answer:
    """Perfect labels cut to the first ``layers`` layers (Table 2): what a network of so many layers can reach at best."""

    def answer(frame: Frame, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = without_hidden(to_cells(truth))[:layers]
        score = np.isin(np.arange(1, truth.max(initial=0) + 1), cells).astype(float)  # 0: shapes of which nothing shows
        return cells.repeat(STRIDE, 1).repeat(STRIDE, 2), score

    return answer


def with_truth(segmenter: LayeredSegmenter, instances: int, *, true_classes: bool = False, true_clusters: bool = False) -> Answer:
    """The answer of a network of which some steps are replaced by the truth (the paper's ablations, section 5).

    The images are of the network's classes, in its order.

    Args:
        instances: shapes of each class in an image.
        true_classes: the class of every cell is the true one; without ``temperature`` its score stays what the network gives to that class.
        true_clusters: the cells that are of any class belong to their true instances.
    """

    def replaced(frame: Frame, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prediction = segmenter.predict(frame)
        semantic = prediction.semantic[0].cpu()
        cells = without_hidden(to_cells(truth))[: len(semantic)].astype(np.int64)
        cells = np.pad(cells, [(0, len(semantic) - len(cells)), (0, 0), (0, 0)])
        # Rows are grouped by class.
        kind = torch.from_numpy(-(-cells // instances)) if true_classes else semantic.argmax(1)
        if not true_clusters:
            found = answer(frame, segmenter.cluster(prediction, kind.to(prediction.semantic.device)), segmenter.thresholds)
            return found.layers, found.score
        cells = np.where(kind.numpy() > 0, cells, 0)
        share = semantic.softmax(1).gather(1, kind[:, None]).numpy()
        count, total = (np.bincount(cells.ravel(), weight, int(truth.max(initial=0)) + 1)[1:] for weight in (None, share.ravel()))
        return compact(cells.astype(np.uint16)).repeat(STRIDE, 1).repeat(STRIDE, 2), total / np.maximum(count, 1)

    return replaced


def of_segmenter(segment: Callable[[Frame], Instances]) -> Answer:
    """The answer of a segmenter."""

    def answer(frame: Frame, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        instances = segment(frame)
        return instances.layers, instances.score

    return answer


def evaluate_shapes(
    answers: dict[str, Answer],
    instances: int,
    images: int = IMAGES,
    seed: int = 0,
    progress: Callable[[], Any] = lambda: None,
    classes: tuple[str, ...] = tuple(SHAPES),
) -> dict[str, dict[str, Any]]:
    """Score answers on the same test images, which no training draws: name → figures of :class:`ShapesEvaluation`.

    Args:
        instances: shapes of each class in an image.
        progress: called after each image.
        classes: of the shapes.
    """
    evaluations = {name: ShapesEvaluation() for name in answers}
    for i in range(images):
        frame, truth = drawn_image(instances, i, seed, classes)
        for name, answer in answers.items():
            evaluations[name].add(truth, *answer(frame, truth))
        progress()
    return {name: evaluation.result() for name, evaluation in evaluations.items()}


def drawn_image(instances: int, i: int, seed: int = 0, classes: tuple[str, ...] = tuple(SHAPES)) -> tuple[Frame, np.ndarray]:
    """Test image ``i`` and its true stack (D, H, W)."""
    shapes = ShapesRecipe(1, instances, classes, split="test", seed=seed).draw(i)
    return Frame(shapes.depth, shapes.K, shapes.color), shapes.layers
