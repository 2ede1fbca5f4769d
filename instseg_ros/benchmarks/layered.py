"""Mean shift in the embedding space of a Layered Embeddings model: ours against scikit-learn's, speed and AP side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from ..evaluation.shapes import ShapesEvaluation, drawn_image
from ..methods.layered.network import Prediction
from ..methods.layered.segmenter import LayeredSegmenter, answer
from ..methods.segmenter import load_segmenter
from ..resources import find_model
from . import Options

MODEL = "layered-shapes"
IMAGES = 20
INSTANCES = (6, 12)
LARGE = (480, 640)

Grouping = Callable[[Tensor, float, int], tuple[Tensor, int]]
"""Embeddings (N, C) of one class, bandwidth, fewest points → cluster of each, −1 = none, and their number."""


def scikit_learn(points: Tensor, bandwidth: float, least: int) -> tuple[Tensor, int]:
    """MeanShift with bin seeding; its distances are Euclidean."""
    from sklearn.cluster import MeanShift

    found = MeanShift(bandwidth=bandwidth, bin_seeding=True).fit_predict(points.numpy().astype(np.float64))
    keep = np.bincount(found) >= least
    return torch.from_numpy(np.where(keep, keep.cumsum() - 1, -1)[found]), int(keep.sum())


class _Rival(LayeredSegmenter):
    """The same segmenter with scikit-learn's clustering, or ours where ``bandwidth`` is None; counts the seconds."""

    def __init__(self, base: LayeredSegmenter, bandwidth: float | None) -> None:
        super().__init__(base.network, base.thresholds, base.device)
        self.bandwidth, self.seconds = bandwidth, 0.0

    def group(self, points: Tensor) -> tuple[Tensor, Tensor]:
        if not len(points):
            return super().group(points)
        start = time.perf_counter()
        if self.bandwidth is None:
            result = super().group(points)
        else:
            labels, count = scikit_learn(points, self.bandwidth, self.thresholds.min_cells)
            result = labels, points[:count]  # only their number is used
        self.seconds += time.perf_counter() - start
        return result


def run(options: Options) -> dict:
    """Keys: images; per method ``…_ms`` (median an image, all classes), ``…_AP``, ``…_AR100``; ``speedup_…`` over scikit-learn;
    ``large_…`` for one image whose embeddings are brought to 480 × 640.
    """
    segmenter = load_segmenter(find_model(options.model or MODEL), "cpu")
    if not isinstance(segmenter, LayeredSegmenter):
        raise InputError(f"bench layered needs a Layered Embeddings model, got {segmenter.description}")
    # One view: the embeddings of several, side by side, are made for L1 distances alone, which scikit-learn does not measure. Each
    # cell to its cluster, which is all that scikit-learn says of it.
    segmenter.thresholds = replace(segmenter.thresholds, turns=1, mirror=False, temperature=0.0)
    own = segmenter.thresholds.bandwidth
    # The margins are L1: the Euclidean distance of the same two means is shorter, so half the bandwidth has its chance too.
    rivals = {"ours": None, "scikit_learn": own, "scikit_learn_half": own / 2}
    methods = {name: _Rival(segmenter, bandwidth) for name, bandwidth in rivals.items()}
    scores = {name: ShapesEvaluation() for name in methods}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    images = options.frames or IMAGES
    for i in range(images):
        frame, truth = drawn_image(INSTANCES[i % len(INSTANCES)], i, options.seed)
        prediction = segmenter.predict(frame)
        for name, method in methods.items():
            if i == 0:
                method.cluster(prediction)  # the first call pays for the libraries' own warm-up
            method.seconds = 0.0
            found = answer(frame, method.cluster(prediction), method.thresholds)
            seconds[name].append(method.seconds)
            scores[name].add(truth, found.layers, found.score)
    result: dict = {"images": images, "instances_a_class": list(INSTANCES)}
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, evaluation in scores.items():
        figures = evaluation.result()
        result |= {f"{name}_ms": round(median[name] * 1e3, 2), f"{name}_AP": figures["AP"], f"{name}_AR100": figures["AR100"]}
    result |= {f"speedup_{name}": round(median[name] / median["ours"], 1) for name in list(methods)[1:]}
    return result | _large(prediction, methods)


def _large(prediction: Prediction, methods: dict[str, _Rival]) -> dict:
    """Seconds for embeddings of 480 × 640 and all layers, ours and scikit-learn's."""
    large = Prediction(*(F.interpolate(x[0], LARGE, mode="bilinear")[None] for x in prediction))
    result = {"large_points": int((large.semantic[0].argmax(1) > 0).sum())}
    for name in ("ours", "scikit_learn"):
        methods[name].seconds = 0.0
        methods[name].cluster(large)
        result[f"large_{name}_ms"] = round(methods[name].seconds * 1e3, 1)
    return result | {"large_speedup": round(result["large_scikit_learn_ms"] / result["large_ours_ms"], 1)}
