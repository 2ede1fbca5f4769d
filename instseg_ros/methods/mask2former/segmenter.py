"""Mask2Former at run time: Frame → depth, its local contrast and validity → queries → Instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...frame import Frame
from ...geometry import depth_order, deproject, label_moments
from ...instances import Instances
from ..clusternet.inputs import network_inputs
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from ..thresholds import read_thresholds
from .network import STRIDE, Mask2Former, NetworkConfig
from .queries import resolve

INPUT = "depth"
"""Of ClusterNet's inputs: depth minus its median, in units of 0.1 m; minus its local mean, in units of 1 cm; validity."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Free numbers of the inference; stored as ``thresholds`` in ``model.yaml``.

    Attributes:
        part: smallest probability of a query to be a part. mask: smallest probability of its pixels.
        overlap: smallest share of its own mask that an instance keeps against the others (0.8 in the paper's code).
        min_pixels: smaller instances are dropped. min_score: those below it are dropped.
    """

    part: float = 0.5
    mask: float = 0.5
    overlap: float = 0.5
    min_pixels: int = 20
    min_score: float = 0.0

    def __post_init__(self) -> None:
        for name in ("part", "mask", "overlap", "min_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"thresholds.{name} must lie in [0, 1], got {getattr(self, name)!r}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory."""
        return read_thresholds(cls, values)


class Mask2FormerSegmenter(Segmenter):
    """The whole frame at its own resolution, depth only. Centroid and covariance are those of the visible points."""

    def __init__(self, network: Mask2Former, thresholds: Thresholds, device: torch.device, *, description: str = "mask2former") -> None:
        self.network = network.to(device).eval()
        self.thresholds, self.device, self.description = thresholds, device, description

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> Mask2FormerSegmenter:
        network, thresholds = model.build(Mask2Former, NetworkConfig, Thresholds.from_dict)
        return cls(network, thresholds, device, description=f"mask2former ({model.path.name})")

    @torch.inference_mode()
    def segment(self, frame: Frame) -> Instances:
        if not np.isfinite(frame.depth).any():
            return Instances.empty(frame.shape)
        t = self.thresholds
        part, masks = self.predict(frame)
        found = resolve(part, masks, part_threshold=t.part, mask_threshold=t.mask, overlap=t.overlap, min_pixels=t.min_pixels)
        labels, n = found.labels.cpu().numpy().astype(np.uint16), len(found.score)
        centroid, covariance, _ = label_moments(labels, deproject(frame.depth, frame.K), n)
        answer = Instances(
            labels=labels,
            score=found.score.clamp(0, 1).cpu().numpy(),
            centroid=centroid.astype(np.float32),
            covariance=covariance.astype(np.float32),
            visible_fraction=np.full(n, np.nan, np.float32),
            depth_order=depth_order(labels, frame.depth, n),
        )
        return answer.select(answer.score >= t.min_score)

    @torch.inference_mode()
    def predict(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Probability of each query to be a part (Q,), and of its pixels (Q, H, W), float32."""
        images, _ = network_inputs(frame.depth, frame.K, None, [INPUT])
        height, width = frame.shape
        image = torch.from_numpy(images[INPUT]).permute(2, 0, 1)[None].to(self.device)
        pad = (0, -width % STRIDE, 0, -height % STRIDE)
        image = F.pad(image, pad, mode="replicate") if any(pad) else image
        with torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda"):
            prediction = self.network(image)
        masks = F.interpolate(prediction.masks.float(), image.shape[2:], mode="bilinear", align_corners=False)
        return prediction.classes[0].float().softmax(1)[:, 0], masks[0, :, :height, :width].sigmoid()
