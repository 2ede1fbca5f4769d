"""Clustering alone: ClusterNet's seeded GMM against scikit-learn on the same network output, speed and AP side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import torch

from ..bags import BagFrames
from ..bop import Truth
from ..clustering.gmm import GaussianMixture
from ..errors import InputError
from ..evaluation import Evaluation
from ..frame import Frame
from ..methods.clusternet.network import Prediction
from ..methods.clusternet.segmenter import ClusterNetSegmenter
from ..methods.clusternet.votes import Votes
from ..methods.segmenter import load_segmenter
from ..resources import find_bag, find_model
from . import Options

FRAMES = 20

Clusterer = Callable[[Votes, int], np.ndarray]
"""Votes and the true number of parts → cluster of every vote (N,), 0…K−1."""


def mean_shift(votes: Votes, count: int) -> np.ndarray:
    """scikit-learn's MeanShift with bin seeding; bandwidth = the median of the radius that the network predicts."""
    from sklearn.cluster import MeanShift

    bandwidth = float(votes.radius.median())
    return MeanShift(bandwidth=bandwidth, bin_seeding=True).fit_predict(votes.features.numpy().astype(np.float64))


def gaussian_mixture(votes: Votes, count: int, *, iterations: int = 100) -> np.ndarray:
    """scikit-learn's GaussianMixture with its k-means initialisation, told the true number of parts."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Mixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Mixture(min(count, len(votes.features)), max_iter=iterations, reg_covar=1e-6, random_state=0)
        return model.fit_predict(votes.features.numpy().astype(np.float64))


RIVALS: dict[str, Clusterer] = {
    "mean_shift": mean_shift,
    "gaussian_mixture": gaussian_mixture,
    "gaussian_mixture_1": lambda votes, count: gaussian_mixture(votes, count, iterations=1),
}
"""gaussian_mixture_1 is the paper's single iteration, after scikit-learn's own initialisation."""


class _Rival(ClusterNetSegmenter):
    """The same segmenter with another clustering in the middle; what follows the clustering is the same for all."""

    def __init__(self, base: ClusterNetSegmenter, clusterer: Clusterer | None) -> None:
        super().__init__(base.network, base.thresholds, base.device)
        self.clusterer, self.count, self.seconds = clusterer, 1, 0.0
        self.prediction: tuple[Prediction, torch.Tensor]

    def predict(self, frame: Frame) -> tuple[Prediction, torch.Tensor]:
        return self.prediction  # of this frame: the network runs once for all

    def cluster(self, votes: Votes) -> tuple[torch.Tensor, GaussianMixture | None]:
        if not len(votes.features):
            return super().cluster(votes)
        start = time.perf_counter()
        if self.clusterer is None:
            result = super().cluster(votes)
            self.seconds = time.perf_counter() - start
            return result
        found = self.clusterer(votes, self.count)
        self.seconds = time.perf_counter() - start
        labels = torch.from_numpy(np.unique(found, return_inverse=True)[1].astype(np.int64))
        return labels, GaussianMixture.fit(votes.features, labels, noise=self.thresholds.noise)


def run(options: Options) -> dict:
    """Keys: frames, points (median per frame), per method ``…_ms`` (median), ``…_AP``, ``…_AP50``, and ``speedup_…`` over ours."""
    segmenter = load_segmenter(find_model(options.model), "cpu")
    if not isinstance(segmenter, ClusterNetSegmenter):
        raise InputError(f"bench clustering needs a ClusterNet model, got {segmenter.description}")
    bag = find_bag(options.bag)
    frames = BagFrames(bag, use_color=segmenter.needs_color)
    step = max(len(frames) // (options.frames or FRAMES), 1)
    chosen = [pair for pair in islice(frames, 0, None, step)][: options.frames or FRAMES]
    if any(truth is None for _, truth in chosen):
        raise InputError(f"{bag} has frames without truth: bench clustering scores its answers, use a bag with the /truth topics")
    return compare(segmenter, chosen)


def compare(segmenter: ClusterNetSegmenter, frames: Iterable[tuple[Frame, Truth]]) -> dict[str, object]:
    """Cluster the same votes in every way; keys as of :func:`run`."""
    methods = {"seeded_gmm": None, **RIVALS}
    rivals = {name: _Rival(segmenter, clusterer) for name, clusterer in methods.items()}
    scores = {name: Evaluation() for name in rivals}
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    points: list[int] = []
    for key, (frame, truth) in enumerate(frames):
        prediction, cloud = segmenter.predict(frame)
        points.append(len(segmenter.votes(prediction, cloud).features))
        for name, rival in rivals.items():
            rival.prediction, rival.count = (prediction, cloud), max(int((truth.visible_fraction > 0).sum()), 1)
            if key == 0:
                rival.segment(frame)  # the first call pays for the libraries' own warm-up
            answer = rival.segment(frame)
            seconds[name].append(rival.seconds)
            scores[name].add(truth, frame, answer, rival.seconds, key=key)
    result: dict[str, object] = {"frames": len(points), "points": int(np.median(points))}
    median = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, evaluation in scores.items():
        figures = evaluation.result(intervals=False)
        result[f"{name}_ms"] = round(median[name] * 1e3, 2)
        result |= {f"{name}_{key}": None if figures[key] is None else round(figures[key], 4) for key in ("AP", "AP50")}
    return result | {f"speedup_{name}": round(median[name] / median["seeded_gmm"], 1) for name in RIVALS}
