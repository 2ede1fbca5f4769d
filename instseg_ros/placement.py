"""Placement: the coordinate frame in which answers are given."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .errors import InputError
from .geometry import transform
from .instances import Instances

TOLERANCE = 1e-3
"""By which a quaternion's norm may differ from 1, as tf2 has it: more is a mistake, less is rounding."""


@dataclass(frozen=True, eq=False)
class Placement:
    """The camera's pose in the frame in which positions are to be given.

    Attributes:
        frame_id: name of that frame.
        pose: (4, 4) float64 rigid motion, camera optical frame → ``frame_id``, metres. None = the camera's own frame.
    """

    frame_id: str
    pose: np.ndarray | None = None

    def points(self, points: np.ndarray) -> np.ndarray:
        """Camera points (…, 3) in this frame, of the same dtype."""
        return points if self.pose is None else transform(self.pose.astype(points.dtype), points)

    def direction(self, vector: np.ndarray) -> np.ndarray:
        """A direction (3,) of the camera in this frame."""
        return vector if self.pose is None else self.pose[:3, :3] @ vector

    def instances(self, instances: Instances) -> Instances:
        """The answer with centroids R c + t and covariances R Σ Rᵀ in this frame; masks and order remain the camera's."""
        if self.pose is None:
            return instances
        R = self.pose[:3, :3]
        centroid = transform(self.pose, instances.centroid.astype(np.float64))
        covariance = R @ instances.covariance.astype(np.float64) @ R.T
        return replace(instances, centroid=centroid.astype(np.float32), covariance=covariance.astype(np.float32))


def rigid(translation: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Translation (3,) metres and unit quaternion (4,) x, y, z, w → rigid motion (4, 4) float64.

    Raises:
        InputError: a value that is not finite, or a quaternion of another length than 1.
    """
    from scipy.spatial.transform import Rotation

    t, q = np.asarray(translation, np.float64), np.asarray(quaternion, np.float64)
    if not (np.isfinite(t).all() and abs(np.linalg.norm(q) - 1) < TOLERANCE):  # NaN compares false
        raise InputError(f"translation {t.tolist()} with quaternion {q.tolist()} is no rigid motion: the quaternion must have length 1")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(q).as_matrix(), t
    return T
