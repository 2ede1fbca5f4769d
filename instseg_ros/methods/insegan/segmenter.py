"""InSeGAN at run time: Frame → working image → poses or latents → every instance rendered alone → Instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from ...errors import InputError
from ...frame import Frame
from ...instances import Instances
from ..model_directory import ModelDirectory
from ..segmenter import Segmenter
from ..thresholds import read_thresholds
from .assembly import add_missing, improve, select
from .displacement import displacement
from .labelling import Singles, label_frame
from .network import ExplicitNetwork, GanNetwork, build_network, network_config
from .normalisation import Normalisation
from .pose_encoder import candidates
from .refine import Poses, draw
from .search import FLOOR, make_library, spread_rotations, stack
from .working_camera import WorkingCamera


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Free numbers of the inference; stored as ``thresholds`` in ``model.yaml``.

    Attributes:
        tolerance: metres between rendered and observed depth within which a pixel may belong to an instance.
        min_pixels: smaller instances are dropped. min_score: those of lower score too.
        refine_steps: gradient steps on the poses against the observed depth (explicit network), 0 = off.
        half_turns: try the half turns of every instance after the refinement (explicit network).
        search: also search exhaustively for instances where the observed depth is not explained (explicit network).
        rotations: that this search tries; a part that looks different from every side needs more of them.
        probability: smallest probability of a candidate; candidates: how many cells are looked at, for each usual part.
        least: smallest share of its own outline that an instance must explain. most: upper bound on instances.
        cut: value above which a single rendering is part of the instance (GAN).
        median, blur: pixels and sigma of the paper's filters on single renderings (GAN), 0 = off.
    """

    tolerance: float = 0.012
    min_pixels: int = 40
    min_score: float = 0.0
    refine_steps: int = 0
    half_turns: bool = True
    search: bool = False
    rotations: int = 200
    probability: float = 0.1
    candidates: int = 3
    least: float = 0.15
    most: int = 30
    cut: float = -0.9
    median: int = 0
    blur: float = 0.0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Thresholds:
        """Read ``thresholds`` of a model directory or a configuration."""
        result = read_thresholds(cls, values)
        if result.median not in (0, 3, 5):
            raise InputError(f"thresholds.median must be 0, 3 or 5, got {result.median!r}")
        if result.rotations < 1:
            raise InputError(f"thresholds.rotations must be at least 1, got {result.rotations!r}")
        return result


class InSeGANSegmenter(Segmenter):
    """Depth only. The camera must be the one of the training frames, the bin where it was."""

    amodal = True

    def __init__(
        self, network: GanNetwork | ExplicitNetwork, normalisation: Normalisation, thresholds: Thresholds, device: torch.device,
        *, description: str = "insegan",
    ) -> None:  # fmt: skip
        self.network = network.to(device).eval().requires_grad_(False)
        self.normalisation, self.thresholds, self.device, self.description = normalisation, thresholds, device, description
        size = normalisation.size
        explicit = isinstance(network, ExplicitNetwork)
        self.view = WorkingCamera.of(normalisation, network.config if explicit else None, device)
        self.camera, self.K = self.view.camera, self.view.K
        self.library = None
        if explicit:
            middle = (self.camera.near + 2 * self.camera.far) / 3
            stride = max(size // 32, 1)
            self.library = make_library(network.shape, spread_rotations(thresholds.rotations).to(device), float(self.K[0, 0]), middle, stride)
            self.surface = network.shape.surface_points(2000).cpu().numpy()

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> InSeGANSegmenter:
        try:
            network = build_network(network_config(model.config["network"]))
            thresholds = Thresholds.from_dict(model.config["thresholds"])
            normalisation = Normalisation.from_dict(model.config.get("normalisation"))
            if normalisation.size != network.config.size:
                raise InputError(f"normalisation.size is {normalisation.size}, network.size {network.config.size}: copy the model anew")
        except (TypeError, InputError) as error:
            raise InputError(f"{model.path / 'model.yaml'}: {error}") from None
        model.load_into(network)
        return cls(network, normalisation, thresholds, device, description=f"insegan ({model.path.name})")

    def segment(self, frame: Frame) -> Instances:
        singles = self.singles(frame)
        t = self.thresholds
        answer = label_frame(frame, singles, self.normalisation, tolerance=t.tolerance, min_pixels=t.min_pixels)
        return answer.select(answer.score >= t.min_score)

    def complaint(self, frame: Frame) -> str | None:
        return displacement(self.normalisation, frame)

    def explain(self, frame: Frame) -> dict[str, np.ndarray]:
        """Pictures of what the model believes, (S, S) float32 values in [−1, 1] each: the working image ``input``, the
        ``hallucinated`` depth of all instances together, and every instance alone, ``single1`` ….
        """
        singles = self.singles(frame)
        value = self.normalisation.from_metres(singles.depth)
        alone = np.where(singles.opacity > 0.5, value, np.float32(-1))
        pictures = {"input": self.normalisation.apply(frame), "hallucinated": singles.image}
        return pictures | {f"single{i + 1}": one for i, one in enumerate(alone)}

    def singles(self, frame: Frame) -> Singles:
        """Every instance of the frame rendered alone, at working size."""
        return self.singles_of(torch.from_numpy(self.normalisation.apply(frame)))

    def singles_of(self, image: torch.Tensor) -> Singles:
        """As ``singles``, of a working image (S, S)."""
        size = self.normalisation.size
        if not (image > FLOOR).any():
            nothing = np.zeros((0, size, size), np.float32)
            return Singles(np.full((size, size), -1, np.float32), nothing, nothing)
        observed = image.to(self.device)
        return self._explicit(observed) if isinstance(self.network, ExplicitNetwork) else self._gan(observed)

    @torch.inference_mode()
    def _gan(self, observed: torch.Tensor) -> Singles:
        t = self.thresholds
        z, _ = self.network.encoder(observed[None, None])
        alone = self.network.generator.singles(z)[0].cpu().numpy()
        image = self.network.generator(z)[0][0, 0].cpu().numpy()
        if t.median:
            alone = np.stack([cv2.medianBlur(one, t.median) for one in alone])
        if t.blur:
            alone = np.stack([cv2.GaussianBlur(one, (0, 0), t.blur) for one in alone])
        # Soft at the cut, so that the outline can be interpolated between working pixels.
        opacity = ((alone - t.cut) / 0.1 + 0.5).clip(0, 1).astype(np.float32)
        keep = (opacity > 0.5).any((1, 2))
        return Singles(image, self.normalisation.to_metres(alone)[keep], opacity[keep])

    def poses(self, observed: torch.Tensor) -> Poses:
        """Poses of one working image (S, S), one image in the batch (explicit network)."""
        t, network, camera = self.thresholds, self.network, self.camera
        flat, size = observed.flatten(), self.normalisation.size
        with torch.no_grad():
            found = network.encoder(observed[None])
            c = candidates(found, 0, camera, self.K, count=t.candidates * network.config.instances, least=t.probability)
            chosen = select(network.shape, c.rotation, c.translation, flat, camera, least=t.least, most=t.most)
            poses = stack([(c.rotation[chosen], c.translation[chosen])], max(len(chosen), network.config.instances) + 2)
        poses = Poses(poses.rotation.to(observed), poses.translation.to(observed), poses.present.to(observed.device))
        library = self.library if t.search else None
        if t.refine_steps:
            return improve(network.shape, library, poses, flat[None], camera, size, steps=t.refine_steps, least=t.least, half_turns=t.half_turns)
        if library is not None:
            one = add_missing(network.shape, library, poses[0], flat, camera, size, least=t.least)
            poses = Poses(one.rotation[None], one.translation[None], one.present[None])
        return poses

    def _explicit(self, observed: torch.Tensor) -> Singles:
        poses = self.poses(observed)
        size, there = self.normalisation.size, poses.present[0]
        with torch.no_grad():
            scene = draw(self.network.shape, poses, self.camera)
        depth, opacity = (x[0, there].view(-1, size, size).cpu().numpy() for x in (scene.depth, scene.opacity))
        rotation, translation = poses.rotation[0, there].cpu().numpy(), poses.translation[0, there].cpu().numpy()
        covariance = np.cov(self.surface.T).astype(np.float32)
        return Singles(
            scene.image[0].view(size, size).cpu().numpy(), depth - np.float32(self.view.retreat), opacity,
            centroid=self.view.true_points(rotation @ self.surface.mean(0) + translation),
            covariance=rotation @ covariance @ rotation.transpose(0, 2, 1),
        )  # fmt: skip
