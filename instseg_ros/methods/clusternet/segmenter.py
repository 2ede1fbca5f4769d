"""ClusterNet at run time: Frame → network → clustering in object-feature space → Instances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...clustering.gmm import GaussianMixture
from ...clustering.seeded import seeded_gmm
from ...clustering.smoothing import majority_filter
from ...errors import InputError
from ...frame import Frame
from ...geometry import depth_order, deproject, label_moments
from ...instances import Instances
from ..fused import fuse
from ..half_precision import half_precision, half_type
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from ..thresholds import check_turns, read_thresholds
from .inputs import fill_depth, network_inputs, scaled_color
from .network import ClusterNet, ClusterNetConfig, Prediction
from .refinement import Evidence, Refiner, refiner_inputs, relabel, windows
from .scoring import cluster_facts
from .turns import mean_over_turns
from .votes import Votes, cluster_means, seedness, spread


BATCH = 4
"""Windows are refined in multiples of it: oneDNN keeps what it prepared for every number that it has seen."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Free numbers of the inference; stored as ``thresholds`` in ``model.yaml``.

    Attributes:
        mask: smallest part probability of a pixel.
        features: cluster in ``centroid`` space or in ``centroid+covariance`` space (the paper's c and c+cov).
        radius_scale: factor on the predicted sphere radius B.
        min_radius: metres, lower bound of B.
        min_pixels: smaller instances are dropped.
        max_instances: upper bound on instances.
        noise: metres, standard deviation added to every mixture component.
        min_score: instances below it are dropped.
        turns: look at the view under 1, 2 or 4 rolls of the camera and take the mean: surer about hidden parts, at so many
            times the cost of the network.
        majority: pixels, odd window of the majority filter over the labels; 1 = off (the paper has none).
    """

    mask: float = 0.5
    features: str = "centroid+covariance"
    radius_scale: float = 1.0
    min_radius: float = 0.004
    min_pixels: int = 40
    max_instances: int = 200
    noise: float = 1e-3
    min_score: float = 0.0
    majority: int = 1
    turns: int = 1

    def __post_init__(self) -> None:
        if self.features not in ("centroid", "centroid+covariance"):
            raise InputError(f"thresholds.features must be centroid or centroid+covariance, got {self.features!r}")
        check_turns(self.turns)
        if self.majority not in range(1, 12, 2):
            raise InputError(f"thresholds.majority must be an odd number from 1 to 11, got {self.majority!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory."""
        return read_thresholds(cls, values)


class Found(NamedTuple):
    """The K clusters of a view.

    Attributes:
        labels: (H, W) uint16, 0 = background, 1…K. table: name → (K, …), see ``_describe``.
        votes, clusters: what was clustered, and the cluster 0…K−1 of each vote (N,). points: (H, W, 3) m. focal: pixels.
    """

    labels: np.ndarray
    table: dict[str, Tensor]
    votes: Votes
    clusters: Tensor
    points: Tensor
    focal: float


class FirstLook(NamedTuple):
    """Clusters before their outlines are refined; attributes as of :class:`Found`."""

    evidence: Evidence
    table: dict[str, Tensor]
    votes: Votes
    clusters: Tensor


class ClusterNetSegmenter(Segmenter):
    """The paper's pipeline at full resolution: votes are upsampled, the observed point is added at every pixel."""

    def __init__(self, network: ClusterNet, thresholds: Thresholds, device: torch.device, *, description: str = "clusternet") -> None:
        self.network = network.to(device).eval()
        self.thresholds, self.device, self.description = thresholds, device, description
        self.needs_color = "rgb" in network.config.inputs

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> ClusterNetSegmenter:
        network, thresholds = model.build(ClusterNet, ClusterNetConfig, Thresholds.from_dict)
        return cls(fuse(network.eval(), device), thresholds, device, description=f"clusternet ({model.path.name})")

    @torch.inference_mode()
    def segment(self, frame: Frame) -> Instances:
        if self.needs_color and frame.color is None:
            raise InputError("this model needs colour: publish color/image or choose a depth-only model")
        found = self.find(frame)
        if found is None:
            return Instances.empty(frame.shape)
        scorer = self.network.scorer
        if scorer is None or not scorer.ready:  # not there or not taught yet
            return self._answer(frame, found.labels, found.table)
        return self._answer(frame, found.labels, {**found.table, "score": scorer(self.facts(found))})

    @torch.inference_mode()
    def find(self, frame: Frame) -> Found | None:
        """The clusters of a view before any is refused; None where there are none."""
        look = self.first_look(frame)
        if look is None:
            return None
        labels = look.evidence.labels
        refiner = self.network.refiner
        if refiner is not None and refiner.ready:
            labels = self.refine(refiner, look.evidence)
        labels = majority_filter(labels.cpu().numpy().astype(np.uint16), self.thresholds.majority)
        return Found(labels, look.table, look.votes, look.clusters, look.evidence.points, float(frame.K[0, 0]))

    @torch.inference_mode()
    def first_look(self, frame: Frame) -> FirstLook | None:
        """The clusters as their votes have them; None where there are none."""
        if not np.isfinite(frame.depth).any():
            return None
        prediction, points = self.predict(frame)
        votes = self.votes(prediction, points)
        clusters, mixture = self.cluster(votes)
        if mixture is None:
            return None
        table = self._describe(votes, clusters, mixture)
        return FirstLook(self._evidence(frame, prediction, points, mixture, table["centroid"]), table, votes, clusters)

    @torch.inference_mode()
    def refine(self, refiner: Refiner, evidence: Evidence) -> Tensor:
        """Labels (H, W) int64, on the CPU, of a second look at each cluster."""
        corners = windows(evidence.labels, len(evidence.centroid))
        inputs, logits = refiner_inputs(evidence, corners)
        spare = -len(inputs) % BATCH
        with half_precision(self.device):
            logits = logits + refiner(F.pad(inputs, (0, 0, 0, 0, 0, 0, 0, spare)))[: len(inputs)]
        return relabel(evidence.labels.cpu(), corners.cpu(), logits.cpu())  # a loop over clusters, which a GPU would be slow at

    @torch.inference_mode()
    def facts(self, found: Found) -> Tensor:
        """What the scorer looks at, (K, len(FACTS))."""
        image = torch.from_numpy(found.labels.astype(np.int64)).to(self.device)
        return cluster_facts(found.votes, found.clusters, found.table, image, found.points, found.focal)

    @torch.inference_mode()
    def predict(self, frame: Frame) -> tuple[Prediction, Tensor]:
        """Raw network output at ``feature_stride``, of 16 or 32 bits, and the points (H, W, 3) m with missing depth filled, on the device."""
        turns = self.thresholds.turns
        if turns == 1:
            prediction, points = self._predict(frame)
        else:
            prediction = mean_over_turns(lambda turned: self._predict(turned)[0], frame, turns)
            points = deproject(fill_depth(frame.depth)[0], frame.K)
        return prediction, torch.from_numpy(points).to(self.device)

    def _predict(self, frame: Frame) -> tuple[Prediction, np.ndarray]:
        images, points = network_inputs(frame.depth, frame.K, frame.color, self.network.config.inputs)
        height, width = frame.shape
        pad = (0, -width % 32, 0, -height % 32)
        tensors = {}
        for name, image in images.items():
            # (H, W, C) memory seen as (1, C, H, W) is channels-last already.
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device, half_type(self.device.type))
            tensors[name] = F.pad(tensor, pad, mode="replicate") if any(pad) else tensor
        with half_precision(self.device):
            prediction = self.network(tensors, upsample=False)
        return prediction, points

    @torch.inference_mode()
    def votes(self, prediction: Prediction, points: Tensor) -> Votes:
        """Object features of the part pixels on the network's own grid: enough points to find the clusters."""
        t, stride = self.thresholds, self.network.config.feature_stride
        if stride == 1:  # every other row and column is enough to find the clusters, and four times faster
            prediction = Prediction(*(None if x is None else x[..., 1::2, 1::2] for x in prediction))
            stride = 2
        # The point seen at the middle of each cell; bilinear upsampling puts votes there too.
        grid = points[stride // 2 :: stride, stride // 2 :: stride]
        confidence = prediction.mask.float().softmax(1)[0, 1, : grid.shape[0], : grid.shape[1]]
        rows, columns = torch.nonzero(confidence > t.mask, as_tuple=True)

        def voters(x: Tensor) -> Tensor:
            return x[0][:, rows, columns].T.float()

        moments = None if prediction.moments is None else voters(prediction.moments)
        centroid = voters(prediction.votes) + grid[rows, columns]
        both = moments is not None and t.features == "centroid+covariance"
        return Votes(
            features=torch.cat([centroid, moments], 1) if both else centroid,
            centroid=centroid,
            moments=moments,
            probability=voters(prediction.center).softmax(1)[:, 1],
            radius=(voters(prediction.radius)[:, 0] * t.radius_scale).clamp_min(t.min_radius),
            confidence=confidence[rows, columns],
        )

    def cluster(self, votes: Votes) -> tuple[Tensor, GaussianMixture | None]:
        """Cluster of every vote (N,) int64, and the mixture that assigns further ones (None without a cluster)."""
        t = self.thresholds
        return seeded_gmm(
            votes.features,
            votes.probability,
            votes.radius,
            min_points=max(t.min_pixels // max(self.network.config.feature_stride, 2) ** 2, 3),
            max_clusters=t.max_instances,
            noise=t.noise,
        )

    def _describe(self, votes: Votes, labels: Tensor, mixture: GaussianMixture) -> dict[str, Tensor]:
        """Score (K,), centroid (K, 3) and, where predicted, covariance (K, 3, 3) of every cluster: means over its votes.

        The score (the paper leaves it open) joins the probability that a centroid is among the votes, that they are part
        pixels, and how tightly they agree compared with the radius B. A network with a scorer replaces it.
        """
        count = len(mixture.mean)

        def mean(values: Tensor) -> Tensor:
            return cluster_means(values, labels, count)

        centroid = mean(votes.centroid)
        coherence = torch.exp(-spread(votes, labels, centroid) / mean(votes.radius).clamp_min(self.thresholds.min_radius))
        score = (seedness(votes, labels, count) * mean(votes.confidence) * coherence).clamp(0, 1).pow(1 / 3)  # geometric mean of the three
        table = {"score": score, "centroid": centroid}
        if votes.moments is not None:
            table["covariance"] = _square(mean(votes.moments))
        return table

    def _evidence(self, frame: Frame, prediction: Prediction, points: Tensor, mixture: GaussianMixture, centroid: Tensor) -> Evidence:
        """Every pixel of the upsampled mask votes with its own observed point."""
        height, width = points.shape[:2]
        stride = self.network.config.feature_stride
        size = (prediction.mask.shape[2] * stride, prediction.mask.shape[3] * stride)

        def full(x: Tensor) -> Tensor:  # (H, W, C) float32
            x = x if stride == 1 else F.interpolate(x.float(), size, mode="bilinear", align_corners=False)
            return x[0, :, :height, :width].permute(1, 2, 0).contiguous().float()  # together they take three times as long

        background, foreground = full(prediction.mask).unbind(2)
        part = foreground - background
        threshold = self.thresholds.mask
        rows, columns = torch.nonzero(part > math.log(threshold / (1 - threshold)), as_tuple=True)
        features = full(prediction.votes) + points
        if mixture.mean.shape[1] > 3:
            features = torch.cat([features, full(prediction.moments)], 2)
        labels = torch.zeros(height, width, dtype=torch.int64, device=points.device)
        labels[rows, columns] = mixture.assign(features[rows, columns]) + 1
        color = torch.from_numpy(scaled_color(frame.color)).to(self.device) if self.needs_color else None
        valid = torch.from_numpy(np.isfinite(frame.depth)).to(self.device)
        return Evidence(labels, features, part, points, valid, color, centroid, mixture)

    def _answer(self, frame: Frame, label_image: np.ndarray, table: dict[str, Tensor]) -> Instances:
        values = {name: value.cpu().numpy() for name, value in table.items()}
        count = len(values["score"])
        if "covariance" not in values:  # the paper's c: what is visible must do
            values["covariance"] = np.nan_to_num(label_moments(label_image, deproject(frame.depth, frame.K), count)[1])
        answer = Instances(
            labels=label_image,
            score=values["score"],
            centroid=values["centroid"],
            covariance=values["covariance"].astype(np.float32),
            visible_fraction=np.full(count, np.nan, np.float32),
            depth_order=depth_order(label_image, frame.depth, count),
        )
        return answer.select((answer.pixels >= self.thresholds.min_pixels) & (answer.score >= self.thresholds.min_score))


def _square(six: Tensor) -> Tensor:
    """Entries xx yy zz xy yz zx of symmetric S, (N, 6) → S S, (N, 3, 3)."""
    xx, yy, zz, xy, yz, zx = six.unbind(1)
    root = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], 1).view(-1, 3, 3)
    return root @ root
