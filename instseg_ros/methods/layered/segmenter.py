"""Layered Embeddings at run time: Frame → network → mean shift in embedding space, a class at a time → Instances."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...clustering.mean_shift import mean_shift
from ...errors import InputError
from ...frame import Frame
from ...geometry import depth_order, deproject, label_moments, occlusion_edges, stack_overlaps
from ...instances import Instances
from ..clusternet.inputs import network_inputs
from ..fused import fuse
from ..half_precision import half_precision
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from ..thresholds import check_turns, read_thresholds
from ..turned_views import padded, views_of
from .network import STRIDE, LayeredConfig, LayeredEmbeddings, Prediction
from .soft_assignment import MODE_LAYERS, soft_assignment
from .stack import amodal_pixels, compact, enlarge, overlap_order
from .turns import joined_views

PAD = 16
"""Sides of the network's input are multiples of this, its coarsest stride."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Free numbers of the inference; stored as ``thresholds`` in ``model.yaml``.

    Attributes:
        bandwidth: of the mean shift, L1 in embedding space (1.5 in the paper).
        temperature: of ``soft_assignment``, L1 in embedding space; 0 = each cell of a layer belongs to the nearest mode, as in the paper.
        min_cells: clusters of fewer cells of 4 × 4 pixels, all layers together, are dropped (5 in the paper's 64²).
        min_score: instances below it are dropped.
        area: exponent of ``typical_area`` in the score: parts of a kind are of one size, so an instance that is small beside others
            of its class is a fragment (not in the paper, 0 there).
        turns: look at the view under 1, 2 or 4 rolls of the camera, at so many times the cost (not in the paper, 1 there).
        mirror: and at the mirror image of each; for shapes and parts that equal their mirror image, or were learned so.
    """

    bandwidth: float = 1.5
    temperature: float = 0.0
    min_cells: int = 5
    min_score: float = 0.0
    area: float = 0.5
    turns: int = 1
    mirror: bool = False

    def __post_init__(self) -> None:
        if not self.bandwidth > 0:
            raise InputError(f"thresholds.bandwidth must be positive, got {self.bandwidth!r}")
        if not self.temperature >= 0:
            raise InputError(f"thresholds.temperature must be 0 or more, got {self.temperature!r}")
        if not self.area >= 0:
            raise InputError(f"thresholds.area must be 0 or more, got {self.area!r}")
        check_turns(self.turns)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory."""
        return read_thresholds(cls, values)


class Clusters(NamedTuple):
    """Instances at a quarter of the frame's size.

    Attributes:
        stack: (L, h, w) uint16, 1…N. kind: (N,) class, from 1.
        score: (N,) mean probability of its class over the cells of an instance, or with ``temperature`` the IoU that its mask is
            expected to have, times ``typical_area`` to the power of ``area``.
        over: (N, N), [a, b] = cells in which a + 1 is in front of b + 1, None = as in ``stack``.
    """

    stack: np.ndarray
    score: np.ndarray
    kind: np.ndarray
    over: np.ndarray | None = None


class LayeredSegmenter(Segmenter):
    """Amodal instances. Without depth (a model of rgb alone needs none) centroid and covariance are NaN."""

    amodal = True

    def __init__(self, network: LayeredEmbeddings, thresholds: Thresholds, device: torch.device, *, description: str = "layered") -> None:
        self.network = network.to(device).eval()
        self.thresholds, self.device, self.description = thresholds, device, description
        self.needs_color = "rgb" in network.config.inputs

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> LayeredSegmenter:
        network, thresholds = model.build(LayeredEmbeddings, LayeredConfig, Thresholds.from_dict)
        return cls(fuse(network.eval(), device), thresholds, device, description=f"layered ({model.path.name})")

    def unfiltered(self) -> LayeredSegmenter:
        other = copy(self)
        other.thresholds = replace(self.thresholds, min_score=0.0)
        return other

    @torch.inference_mode()
    def segment(self, frame: Frame) -> Instances:
        inputs = self.network.config.inputs
        if self.needs_color and frame.color is None:
            raise InputError("this model needs colour: publish color/image or choose a depth-only model")
        if set(inputs) != {"rgb"} and not np.isfinite(frame.depth).any():
            return Instances.empty(frame.shape)
        return answer(frame, self.cluster(self.predict(frame)), self.thresholds)

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Prediction:
        """Network output for one frame; cells beyond the frame are those of the padding."""
        views = views_of(self.thresholds.turns, self.thresholds.mirror)
        prediction = self._predict(frame) if len(views) == 1 else joined_views(self._predict, padded(frame, PAD), views)
        height, width = frame.shape
        cells = np.s_[..., : -(-height // STRIDE), : -(-width // STRIDE)]
        return Prediction(prediction.semantic[cells], prediction.embedding[cells])

    def _predict(self, frame: Frame) -> Prediction:
        images, _ = network_inputs(frame.depth, frame.K, frame.color, self.network.config.inputs)
        height, width = frame.shape
        pad = (0, -width % PAD, 0, -height % PAD)
        tensors = {}
        for name, image in images.items():
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
            tensors[name] = F.pad(tensor, pad, mode="replicate") if any(pad) else tensor
        with half_precision(self.device):
            return self.network(tensors)

    @torch.inference_mode()
    def cluster(self, prediction: Prediction, kind: Tensor | None = None) -> Clusters:
        """Mean shift over the cells of each class, and the instances around its modes: all layers together, but that with
        ``temperature`` the modes are those of the first ``MODE_LAYERS``.

        Args:
            kind: (L, h, w) int64 class of every cell, 0 = none, where that is given; else the most probable one.
        """
        t, share = self.thresholds, prediction.semantic[0].softmax(1)
        embedding = prediction.embedding[0].permute(0, 2, 3, 1)
        given, kind = kind is not None, share.argmax(1) if kind is None else kind
        classes = range(1, len(self.network.config.classes) + 1)
        searched = kind[:MODE_LAYERS] if t.temperature else kind
        groups = [self.group(embedding[: len(searched)][searched == k]) for k in classes]
        kinds = np.repeat(classes, [len(modes) for _, modes in groups])
        over = None
        if t.temperature:
            sure = F.one_hot(kind, share.shape[1]).movedim(-1, 1).to(share.dtype) if given else share
            modes = [modes for _, modes in groups]
            ids, score, over = soft_assignment(sure, embedding, modes, bandwidth=t.bandwidth, temperature=t.temperature)
            over = over.cpu().numpy()
        else:
            ids, score = _nearest_modes(share, kind, groups)
        stack = compact(ids.cpu().numpy().astype(np.uint16))
        typical = typical_area(amodal_pixels(stack, len(kinds)), kinds) ** t.area
        return Clusters(stack, (score.clamp(0, 1).float().cpu().numpy() * typical).astype(np.float32), kinds, over)

    def group(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Cluster of each of N embeddings (N, C) of one class, −1 = none, and the modes (K, C)."""
        if not len(points):
            return torch.zeros(0, dtype=torch.int64, device=points.device), points
        return mean_shift(points, bandwidth=self.thresholds.bandwidth, min_points=self.thresholds.min_cells)


def _nearest_modes(share: Tensor, kind: Tensor, groups: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Ids (L, h, w) int64 and score (N,) of the clusters (labels of its cells, modes) of each class."""
    ids, n = torch.zeros_like(kind), 0
    for k, (labels, modes) in enumerate(groups, 1):
        ids[kind == k] = torch.where(labels >= 0, labels + 1 + n, 0)
        n += len(modes)
    probability = share.gather(1, kind[:, None])
    count, total = (torch.bincount(ids.flatten(), weight, n + 1)[1:] for weight in (None, probability.flatten()))
    return ids, total / count.clamp_min(1)


def typical_area(cells: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """(N,) float64 in 0…1: cells (N,) of each instance over the upper quartile of those of its class (N,) in the image, 1 at most."""
    share = np.ones(len(cells))
    for k in np.unique(kind):
        of_kind = kind == k
        share[of_kind] = np.minimum(cells[of_kind] / max(np.quantile(cells[of_kind], 0.75), 1), 1)
    return share


def answer(frame: Frame, clusters: Clusters, thresholds: Thresholds) -> Instances:
    """Instances at the frame's size from those at a quarter of it."""
    n = len(clusters.score)
    height, width = frame.shape
    large = np.stack([enlarge(layer, STRIDE) for layer in clusters.stack])[:, :height, :width]
    stack = compact(large)
    labels = stack[0]
    whole = amodal_pixels(stack, n)
    visible = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    centroid, covariance = _moments(frame, stack, n)
    edges = occlusion_edges(labels, frame.depth, n)
    over = stack_overlaps(stack, n) if clusters.over is None else (clusters.over * STRIDE**2).round().astype(np.int64)
    result = Instances(
        labels=labels,
        score=clusters.score,
        centroid=centroid,
        covariance=covariance,
        visible_fraction=(visible / np.maximum(whole, 1)).astype(np.float32),
        depth_order=overlap_order(over + edges, depth_order(labels, frame.depth, n, edges)),
        layers=stack,
    )
    return result.select((whole > 0) & (visible > 0) & (result.score >= thresholds.min_score))


def _moments(frame: Frame, stack: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (n, 3) m and covariance (n, 3, 3) m² of the amodal masks: hidden pixels are taken to lie at the median depth of the
    instance's visible ones (of a fourth of these, which is enough). NaN where none of these has depth."""
    label, depth = stack[0].ravel(), frame.depth.ravel()
    seen = np.flatnonzero((label > 0) & np.isfinite(depth))
    z = depth[seen]
    median = _medians(label[seen[::4]], z[::4], n)
    behind = [np.flatnonzero(layer) for layer in stack.reshape(len(stack), -1)[1:]]
    blind = np.flatnonzero((label > 0) & ~np.isfinite(depth))
    pixels = np.concatenate([seen, blind, *behind])
    ids = np.concatenate([label[seen], label[blind], *(layer.ravel()[p] for layer, p in zip(stack[1:], behind))])
    z = np.concatenate([z, median[ids[len(seen) :]]])
    ray = deproject(np.ones_like(frame.depth), frame.K).reshape(-1, 3)
    centroid, covariance, _ = label_moments(ids[None], (ray[pixels] * z[:, None])[None], n)
    return centroid.astype(np.float32), covariance.astype(np.float32)


def _medians(ids: np.ndarray, z: np.ndarray, n: int) -> np.ndarray:
    """(n + 1,) float32 median of the values z of each label, NaN of those without."""
    order = np.lexsort((z, ids))
    start = np.searchsorted(ids[order], np.arange(1, n + 2))
    median = np.full(n + 1, np.nan, np.float32)
    some = np.flatnonzero(np.diff(start))
    median[some + 1] = z[order][(start[some] + start[some + 1]) // 2]
    return median
