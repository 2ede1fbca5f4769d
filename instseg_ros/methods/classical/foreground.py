"""Which pixels belong to parts at all: everything that stands on the floor of the bin."""

from __future__ import annotations

import numpy as np


def fit_floor(points: np.ndarray, *, tolerance: float = 0.003, trials: int = 200, seed: int = 0) -> np.ndarray | None:
    """The supporting plane of a scene by RANSAC (Fischler and Bolles 1981).

    Among sampled planes it takes the one with the most inliers minus twice the points clearly behind it: parts lie in
    front of a floor, not behind it, so the top of a flat part does not win over the floor that shows beside it.

    Args:
        points: (M, 3) metres in the camera frame, finite.
        tolerance: distance of an inlier at 0.6 m, metres; it grows with the square of the range, as stereo noise does.
        trials: number of sampled planes.
        seed: of the sampling; equal input gives an equal plane.

    Returns:
        (4,) float64 plane ``n·p + d = 0`` with the unit normal towards the camera, or None for fewer than 50 points or
        when no plane holds at least a twentieth of them.
    """
    if len(points) < 50:
        return None
    rng = np.random.default_rng(seed)
    sample = points[rng.integers(len(points), size=4000)].astype(np.float64)
    corner = points[rng.integers(len(points), size=(trials, 3))].astype(np.float64)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    length = np.linalg.norm(normal, axis=-1)
    normal, corner = normal[length > 1e-12] / length[length > 1e-12, None], corner[length > 1e-12, 0]
    if not len(normal):
        return None
    offset = -(normal * corner).sum(-1)
    side = np.where(offset < 0, -1.0, 1.0)  # the camera is at the origin: n·0 + d > 0 turns the normal towards it
    plane = np.concatenate([normal, offset[:, None]], axis=-1) * side[:, None]
    height = sample @ plane[:, :3].T + plane[:, 3]
    limit = tolerance * np.maximum(1.0, (sample[:, 2:] / 0.6) ** 2)
    inside = np.abs(height) < limit
    best = int(np.argmax(inside.sum(0) - 2 * (height < -3 * limit).sum(0)))
    if inside[:, best].mean() < 0.05:
        return None
    chosen = sample[inside[:, best]]
    centre = chosen.mean(0)
    refined = np.linalg.svd(chosen - centre, full_matrices=False)[2][2]
    if refined @ plane[best, :3] < 0:
        refined = -refined
    return np.append(refined, -refined @ centre)


def above_floor(points: np.ndarray, *, height: float = 0.004, tolerance: float = 0.003, seed: int = 0) -> np.ndarray:
    """(H, W) bool of the pixels more than ``height`` metres above the floor plane; all valid ones if no plane is found.

    Args:
        points: (H, W, 3) metres, NaN where there is no reading.
    """
    valid = np.isfinite(points[..., 2])
    plane = fit_floor(points[valid], tolerance=tolerance, seed=seed)
    if plane is None:
        return valid
    with np.errstate(invalid="ignore"):
        return valid & (points @ plane[:3].astype(np.float32) + np.float32(plane[3]) > height)
