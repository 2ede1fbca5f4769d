"""ClusterNet at run time: Frame → network → clustering in object-feature space → Instances."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ...clustering.seeded import seeded_gmm
from ...errors import InputError
from ...frame import Frame
from ...geometry import depth_order, deproject, label_moments
from ...instances import Instances
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from .inputs import network_inputs
from .network import ClusterNet, ClusterNetConfig, Prediction


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
    """

    mask: float = 0.5
    features: str = "centroid+covariance"
    radius_scale: float = 1.0
    min_radius: float = 0.004
    min_pixels: int = 40
    max_instances: int = 200
    noise: float = 1e-3
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if self.features not in ("centroid", "centroid+covariance"):
            raise InputError(f"thresholds.features must be centroid or centroid+covariance, got {self.features!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory."""
        unknown = values.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(f"thresholds: unknown key {sorted(unknown)[0]!r}")
        return cls(**values)


class ClusterNetSegmenter(Segmenter):
    """The paper's pipeline at full resolution: votes are upsampled, the observed point is added at every pixel."""

    def __init__(self, network: ClusterNet, thresholds: Thresholds, device: torch.device, *, description: str = "clusternet") -> None:
        self.network = network.to(device).eval()
        self.thresholds, self.device, self.description = thresholds, device, description
        self.needs_color = "rgb" in network.config.inputs

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> ClusterNetSegmenter:
        try:
            network = ClusterNet(ClusterNetConfig(**model.config["network"]))
            thresholds = Thresholds.from_dict(model.config["thresholds"])
        except TypeError as error:
            raise InputError(f"{model.path / 'model.yaml'}: {error}") from None
        model.load_into(network)
        network = fold_batch_norm(network.eval()).to(memory_format=torch.channels_last)
        return cls(network, thresholds, device, description=f"clusternet ({model.path.name})")

    @torch.inference_mode()
    def segment(self, frame: Frame) -> Instances:
        if self.needs_color and frame.color is None:
            raise InputError("this model needs colour: publish color/image or choose a depth-only model")
        if not np.isfinite(frame.depth).any():
            return Instances.empty(frame.shape)
        prediction, points = self.predict(frame)
        labels, instances = self._cluster(prediction, points)
        return self._answer(frame, labels, instances)

    @torch.inference_mode()
    def predict(self, frame: Frame) -> tuple[Prediction, np.ndarray]:
        """Raw network output at ``feature_stride`` and the filled points (H, W, 3) m."""
        images, points = network_inputs(frame.depth, frame.K, frame.color, self.network.config.inputs)
        height, width = frame.shape
        pad = (0, -width % 32, 0, -height % 32)
        tensors = {}
        for name, image in images.items():
            # (H, W, C) memory seen as (1, C, H, W) is channels-last already.
            tensor = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
            tensors[name] = F.pad(tensor, pad, mode="replicate") if any(pad) else tensor
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            prediction = self.network(tensors, upsample=False)
        return Prediction(*(None if x is None else x.float() for x in prediction)), points

    def _cluster(self, prediction: Prediction, points: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        """Labels (H, W) int64, 0 = background, and score, centroid, covariance of every label."""
        t = self.thresholds
        height, width = points.shape[:2]
        stride = self.network.config.feature_stride
        with_moments = prediction.moments is not None and t.features == "centroid+covariance"

        # Coarse grid: enough points to find the clusters.
        confidence = prediction.mask.softmax(1)[0, 1]
        rows, columns = torch.nonzero(confidence > t.mask, as_tuple=True)
        inside = (rows * stride < height) & (columns * stride < width)
        rows, columns = rows[inside], columns[inside]
        cloud = torch.from_numpy(points).to(self.device)
        grid = F.interpolate(cloud.permute(2, 0, 1)[None], scale_factor=1 / stride, mode="nearest-exact")[0] if stride > 1 else cloud.permute(2, 0, 1)
        rows, columns = rows.clamp_max(grid.shape[1] - 1), columns.clamp_max(grid.shape[2] - 1)
        votes = prediction.votes[0][:, rows, columns] + grid[:, rows, columns]
        moments = prediction.moments[0][:, rows, columns] if prediction.moments is not None else None
        features = (torch.cat([votes, moments]) if with_moments else votes).T.contiguous()
        probability = prediction.center.softmax(1)[0, 1][rows, columns]
        radius = (prediction.radius[0, 0][rows, columns] * t.radius_scale).clamp_min(t.min_radius)
        coarse, mixture = seeded_gmm(
            features, probability, radius,
            min_points=max(t.min_pixels // stride**2, 3), max_clusters=t.max_instances, noise=t.noise,
        )
        labels = torch.zeros(height, width, dtype=torch.int64, device=self.device)
        if mixture is None:
            return labels, {}
        count = len(mixture.mean)

        # Full resolution: only pixels of the upsampled mask, every one with its own observed point.
        full_rows, full_columns, full = self._full_resolution(prediction, cloud, t.mask, with_moments)
        labels[full_rows, full_columns] = mixture.assign(full) + 1

        # Score and moments of every cluster, from the coarse votes.
        weight = torch.zeros(count, device=self.device).index_add_(0, coarse, torch.ones_like(probability)).clamp_min(1)

        def mean(values: Tensor) -> Tensor:
            total = torch.zeros(count, *values.shape[1:], device=self.device).index_add_(0, coarse, values)
            return total / weight.view(-1, *[1] * (values.ndim - 1))

        # The seed's neighbourhood: the likeliest tenth of a cluster would need a sort a cluster; the η-weighted mean is close.
        seedness = mean(probability.square()) / mean(probability).clamp_min(1e-6)
        centroid = mean(votes.T.contiguous())
        spread = mean((votes.T - centroid[coarse]).square().sum(1)).sqrt()
        coherence = torch.exp(-spread / mean(radius))
        table = {"score": (seedness * mean(confidence[rows, columns]) * coherence).clamp(0, 1), "centroid": centroid}
        if moments is not None:
            table["covariance"] = _square(mean(moments.T.contiguous()))
        return labels, table

    def _full_resolution(self, prediction: Prediction, cloud: Tensor, threshold: float, with_moments: bool) -> tuple[Tensor, Tensor, Tensor]:
        height, width = cloud.shape[:2]
        stride = self.network.config.feature_stride
        size = (prediction.mask.shape[2] * stride, prediction.mask.shape[3] * stride)

        def full(x: Tensor) -> Tensor:
            x = x if stride == 1 else F.interpolate(x, size, mode="bilinear", align_corners=False)
            return x[0, :, :height, :width]

        mask = full(prediction.mask)
        odds = float(np.log(threshold / (1 - threshold)))
        rows, columns = torch.nonzero(mask[1] - mask[0] > odds, as_tuple=True)
        votes = full(prediction.votes)[:, rows, columns].T + cloud[rows, columns]
        if with_moments:
            votes = torch.cat([votes, full(prediction.moments)[:, rows, columns].T], 1)
        return rows, columns, votes

    def _answer(self, frame: Frame, labels: Tensor, table: dict[str, Tensor]) -> Instances:
        if not table:
            return Instances.empty(frame.shape)
        label_image = labels.cpu().numpy().astype(np.uint16)
        count = len(table["score"])
        if "covariance" in table:
            covariance = table["covariance"].cpu().numpy()
        else:
            covariance = np.nan_to_num(label_moments(label_image, deproject(frame.depth, frame.K), count)[1])
        answer = Instances(
            labels=label_image,
            score=table["score"].float().cpu().numpy(),
            centroid=table["centroid"].float().cpu().numpy(),
            covariance=covariance.astype(np.float32),
            visible_fraction=np.full(count, np.nan, np.float32),
            depth_order=depth_order(label_image, frame.depth, count),
        )
        return answer.select((answer.pixels >= self.thresholds.min_pixels) & (answer.score >= self.thresholds.min_score))


def _square(six: Tensor) -> Tensor:
    """Entries xx yy zz xy yz zx of symmetric S, (N, 6) → S S, (N, 3, 3)."""
    xx, yy, zz, xy, yz, zx = six.unbind(1)
    root = torch.stack([xx, xy, zx, xy, yy, yz, zx, yz, zz], 1).view(-1, 3, 3)
    return root @ root


def fold_batch_norm(network: torch.nn.Module) -> torch.nn.Module:
    """Fold every batch norm into the convolution before it (exact in eval mode); works in place."""
    for module in network.modules():
        if isinstance(module, torch.nn.Sequential) and len(module) >= 2 and isinstance(module[1], torch.nn.BatchNorm2d):
            module[0] = fuse_conv_bn_eval(module[0], module[1])
            module[1] = torch.nn.Identity()
    return network
