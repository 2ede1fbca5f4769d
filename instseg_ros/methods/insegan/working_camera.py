"""The camera that looks at the template: the working image's own, or one so far behind it that nothing shrinks with distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .network import ExplicitConfig
from .normalisation import Normalisation
from .refine import Camera
from .shape import pixel_rays

DISTANCE = 30.0
"""How many times as far away as the true camera the one without perspective stands: rays are parallel to 1 in 30."""


@dataclass(frozen=True)
class WorkingCamera:
    """A camera that sees the working image.

    Attributes:
        camera: rays and values. K: (3, 3) of it, working pixels.
        retreat: metres that it stands behind the true camera, on the same axis.
        zoom: its focal length over the true one's.
    """

    camera: Camera
    K: Tensor
    retreat: float = 0.0
    zoom: float = 1.0

    @classmethod
    def of(cls, normalisation: Normalisation, config: ExplicitConfig | None, device: torch.device) -> WorkingCamera:
        """The camera of a network; None = no explicit one, the true camera."""
        n = normalisation
        K = torch.tensor(n.working_K, dtype=torch.float32, device=device)
        retreat, zoom, composition = 0.0, 1.0, "z-buffer"
        if config is not None:
            composition = config.composition
            if not config.perspective:
                # Parts near this depth are seen in their true size.
                middle = (n.near + 2 * n.far) / 3
                retreat, zoom = (DISTANCE - 1) * middle, DISTANCE
                K = K.clone()
                K[[0, 1], [0, 1]] *= zoom
        return cls(Camera(pixel_rays(K, n.size, n.size), n.near + retreat, n.far + retreat, composition), K, retreat, zoom)

    def true_points(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 3) in this camera's frame, metres → those that the true camera sees at the same pixel and depth."""
        depth = points[..., 2:] - self.retreat
        return np.concatenate([points[..., :2] / points[..., 2:] * self.zoom * depth, depth], -1)
