"""MTML on voxels: features of the occupied voxels → network → mean shift at several thresholds → scored proposals → labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...clustering.mean_shift import mean_shift
from ...errors import InputError
from ..half_precision import half_precision
from ..model_directory import ModelDirectory
from ..thresholds import read_thresholds
from .network import MTML, MTMLConfig, Prediction
from .proposals import Proposals, best_proposals, candidate_masks, resolve, score_proposals


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Free numbers of the inference; stored as ``thresholds`` in ``model.yaml``.

    Attributes:
        bandwidths: radii of the mean shift in the embedding, one labelling each.
        radius: δ_var, how near its mean a coherent instance's embeddings lie.
        direction: score by direction coherency too (off: the paper's "FE only").
        least: voxels; smaller candidates are dropped.
        overlap: largest intersection over union of two proposals that are both kept.
        least_score: proposals below it are dropped.
        reach: voxels in no proposal go to the nearest mean embedding within this radius.
        usual: mean and standard deviation of ln(voxels) of each class in the training set.
        part: in images: probability from which a voxel belongs to an instance.
        min_pixels: in images: smaller instances are dropped.
        fill: in images: pixels without a reading take the label of the nearest one that has, up to so many pixels away.
    """

    bandwidths: tuple[float, ...] = (0.75, 1.5, 2.25)
    radius: float = 0.5
    direction: bool = True
    least: int = 10
    overlap: float = 0.3
    least_score: float = 0.05
    reach: float = 1.5
    usual: tuple[tuple[float, float], ...] = ()
    part: float = 0.5
    min_pixels: int = 60
    fill: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "usual", tuple((float(mean), float(deviation)) for mean, deviation in self.usual))
        object.__setattr__(self, "bandwidths", tuple(float(b) for b in self.bandwidths))
        if not self.bandwidths or min(self.bandwidths) <= 0:
            raise InputError(f"thresholds.bandwidths must be positive numbers, got {list(self.bandwidths)}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory."""
        return read_thresholds(cls, values)


class VoxelSegmenter:
    """Occupied voxels in, instances out.

    Args:
        network: trained.
        thresholds: of the inference.
        device: where to run.
    """

    def __init__(self, network: MTML, thresholds: Thresholds, device: torch.device) -> None:
        self.network = network.to(device).eval()
        self.thresholds, self.device = thresholds, device

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> VoxelSegmenter:
        """Build it from a verified model directory; InputError on a configuration that is not MTML's."""
        network, thresholds = model.build(MTML, MTMLConfig, Thresholds.from_dict)
        return cls(network, thresholds, device)

    def predict(self, features: Tensor, voxels: Tensor, size: tuple[int, int, int]) -> Prediction:
        """Network output of N voxels: features (N, C), voxels (N, 3) int64 inside of ``size``; the others are 0."""
        grid = torch.zeros(features.shape[1], *size)
        grid[:, voxels[:, 0], voxels[:, 1], voxels[:, 2]] = features.T
        return self.predict_grid(grid, voxels)

    @torch.inference_mode()
    def predict_grid(self, grid: Tensor, voxels: Tensor) -> Prediction:
        """Network output, 32 bits, of N voxels (N, 3) int64 of a grid (C, X, Y, Z)."""
        with half_precision(self.device):
            prediction = self.network(grid[None].to(self.device), F.pad(voxels.to(self.device), (1, 0)))
        return Prediction(*(None if x is None else x.float() for x in prediction))

    @torch.inference_mode()
    def propose(self, prediction: Prediction, voxels: Tensor) -> Proposals:
        """Scored proposals after non-maximum suppression, best first; they may overlap."""
        t = self.thresholds
        x = prediction.embedding
        labelings = [mean_shift(x, bandwidth=bandwidth, norm=2)[0] for bandwidth in t.bandwidths]
        masks = candidate_masks(labelings, voxels, least=t.least)
        direction = prediction.direction if t.direction else None
        proposals = score_proposals(x, direction, voxels.to(x), masks, radius=t.radius, usual=t.usual)
        return best_proposals(proposals, overlap=t.overlap, least_score=t.least_score)

    @torch.inference_mode()
    def segment(self, features: Tensor, voxels: Tensor, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """One coherent labelling.

        Returns:
            labels (N,) int64 in 0…K−1, −1 = none; score (K,).
        """
        return self.label(self.predict(features, voxels, size), voxels)

    @torch.inference_mode()
    def label(self, prediction: Prediction, voxels: Tensor) -> tuple[Tensor, Tensor]:
        """One coherent labelling of N voxels (N, 3) from the network's output; returns as of :meth:`segment`."""
        proposals = self.propose(prediction, voxels.to(self.device))
        labels = resolve(proposals, prediction.embedding, reach=self.thresholds.reach)
        used, renumbered = torch.unique(labels[labels >= 0], return_inverse=True)  # a proposal may be covered by better ones
        labels[labels >= 0] = renumbered
        return labels, proposals.score[used]
