"""MTML in a bin: depth frames → voxels → network → labels of voxels → labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...errors import InputError
from ...frame import Frame
from ...geometry import depth_order, deproject, label_moments
from ...instances import Instances
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from .views import SceneVoxels, VoxelInput, voxelize_views
from .voxel_segmenter import VoxelSegmenter
from .voxelizer import to_image


class MTMLSegmenter(Segmenter):
    """One depth frame, or several with their poses. Visible surfaces only: there are no amodal layers.

    Args:
        core: network and thresholds.
        inputs: what the network was trained to see.
    """

    def __init__(self, core: VoxelSegmenter, inputs: VoxelInput, *, description: str = "mtml") -> None:
        if core.network.config.channels != inputs.channels:
            raise InputError(
                f"network.channels is {core.network.config.channels}, input.features have {inputs.channels}: "
                "the model was edited, copy it again"
            )
        self.core, self.inputs, self.description = core, inputs, description

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> MTMLSegmenter:
        if "semantics" in model.config["input"].get("modalities", ()):
            raise InputError(
                f"{model.path} labels voxels whose classes are known, not camera frames: score it with `instseg evaluate --voxels`, "
                "or choose a model that was trained on a BOP dataset"
            )
        core = VoxelSegmenter.from_model(model, device)
        return cls(core, VoxelInput.from_dict(model.config["input"]), description=f"mtml ({model.path.name})")

    def segment(self, frame: Frame) -> Instances:
        return self.segment_views([(frame, np.eye(4))])[0]

    def segment_views(self, views: Sequence[tuple[Frame, np.ndarray]]) -> list[Instances]:
        """The parts of one standing scene in each of several frames; rows of all answers are the same parts.

        Args:
            views: frames and poses world_T_camera (4, 4), m, of any world that stands still. The floor is looked for in the first.
        """
        relative = [(frame, np.linalg.inv(views[0][1]) @ pose) for frame, pose in views]
        if not np.isfinite(views[0][0].depth).any():
            return [Instances.empty(frame.shape) for frame, _ in views]
        scene = voxelize_views(relative, self.inputs)
        labels, score = self.label(scene)
        images, start = [], 0
        for frame, _ in views:
            of_points = scene.occupied.row[start : start + frame.depth.size]
            start += frame.depth.size
            images.append(to_image(np.append(labels, 0)[of_points], frame, fill=self.core.thresholds.fill))
        pixels = sum(np.bincount(image.ravel(), minlength=len(score) + 1)[1:] for image in images)
        keep = pixels >= self.core.thresholds.min_pixels
        return [_answer(frame, image, score).select(keep) for (frame, _), image in zip(views, images)]

    def label(self, scene: SceneVoxels) -> tuple[np.ndarray, np.ndarray]:
        """Label (N,) int64 of every occupied voxel, 0 = no part, and score (K,) float32 of the labels 1…K."""
        voxels = torch.from_numpy(scene.occupied.voxels)
        prediction = self.core.predict_grid(torch.from_numpy(scene.features), voxels)
        part = torch.ones(len(voxels), dtype=torch.bool, device=self.core.device)
        if prediction.part is not None:
            part = prediction.part.sigmoid() > self.core.thresholds.part
        labels = np.zeros(len(voxels), np.int64)
        if not bool(part.any()):
            return labels, np.zeros(0, np.float32)
        found, score = self.core.label(prediction.select(part), voxels[part.cpu()])
        labels[part.cpu().numpy()] = found.cpu().numpy() + 1
        return labels, score.clamp(0, 1).cpu().numpy().astype(np.float32)


def _answer(frame: Frame, labels: np.ndarray, score: np.ndarray) -> Instances:
    """Instances with the moments of the points that are seen; NaN for parts that this view does not see."""
    n = len(score)
    centroid, covariance, _ = label_moments(labels, deproject(frame.depth, frame.K), n)
    return Instances(
        labels=labels,
        score=score,
        centroid=centroid.astype(np.float32),
        covariance=covariance.astype(np.float32),
        visible_fraction=np.full(n, np.nan, np.float32),
        depth_order=depth_order(labels, frame.depth, n),
    )
