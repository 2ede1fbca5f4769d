"""Which pixels belong to parts at all: what stands on the floor of the bin, less its walls."""

from __future__ import annotations

import cv2
import numpy as np

from ...geometry import deproject

REFERENCE_RANGE = 0.6
"""Metres. Tolerances hold at this range and grow with its square beyond, as the noise of stereo does."""


def smooth_depth(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) float32 with holes filled by the nearest reading and a 5 × 5 median over it; no NaN unless all are."""
    valid = np.isfinite(depth)
    if not valid.any():
        return depth
    _, nearest = cv2.distanceTransformWithLabels((~valid).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, np.float32)
    table[nearest[valid]] = depth[valid]
    return cv2.medianBlur(table[nearest], 5)


def fit_floor(points: np.ndarray, *, tolerance: float = 0.003, trials: int = 200, seed: int = 0) -> np.ndarray | None:
    """The supporting plane of a scene by RANSAC (Fischler and Bolles 1981).

    Among sampled planes it takes the one with the most inliers minus twice the points clearly behind it: parts lie in
    front of a floor, not behind it, so the top of a flat part does not win over the floor that shows beside it.

    Args:
        points: (M, 3) metres in the camera frame, finite.
        tolerance: distance of an inlier at 0.6 m, metres.
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
    limit = tolerance * _growth(sample[:, 2:])
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


def wall_lines(
    flat: np.ndarray, *, tolerance: float = 0.003, thickness: float = 0.012, trials: int = 400, seed: int = 0
) -> list[np.ndarray]:
    """Walls of a bin, as lines in the floor plane.

    A wall is a straight line that holds many of the raised points along most of their extent, while next to nothing
    raised lies beyond it. Up to four are found one after the other (RANSAC over pairs of points).

    Args:
        flat: (M, 2) metres, raised points projected onto the floor.
        tolerance: distance of an inlier.
        thickness: how far beyond the line the wall's own top may reach.

    Returns:
        (3,) lines ``a·u + b·v + c`` with the unit normal outwards.
    """
    rng = np.random.default_rng(seed)
    lines: list[np.ndarray] = []
    rest = flat[rng.integers(len(flat), size=min(3000, 4 * len(flat)))].astype(np.float64) if len(flat) else flat
    total = len(rest)
    while len(lines) < 4 and len(rest) > 0.1 * total and len(rest) >= 50:
        a, b = rest[rng.integers(len(rest), size=(2, trials))]
        direction = b - a
        length = np.linalg.norm(direction, axis=1)
        a, direction = a[length > 0.02], direction[length > 0.02] / length[length > 0.02, None]
        if not len(a):
            break
        normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
        offset = -(normal * a).sum(1)
        middle = np.median(rest, axis=0)
        side = np.where(normal @ middle + offset > 0, -1.0, 1.0)
        normal, offset = normal * side[:, None], offset * side
        distance = rest @ normal.T + offset
        inlier = np.abs(distance) < tolerance
        along = rest @ direction.T
        extent = np.where(inlier, along, -np.inf).max(0) - np.where(inlier, along, np.inf).min(0)
        span = np.percentile(along, 98, axis=0) - np.percentile(along, 2, axis=0)
        # Beyond a wall is a rim at most, and before it lies floor: a line through parts has as much on both sides.
        beyond, before = (distance > tolerance).sum(0), ((distance < -tolerance) & (distance > -3 * tolerance)).sum(0)
        score = inlier.sum(0) - beyond - 5.0 * (distance > thickness).sum(0)
        score[before > 0.6 * inlier.sum(0)] = -np.inf
        score[(extent < 0.5 * span) | ((distance > thickness).mean(0) > 0.03)] = -np.inf
        best = next((i for i in np.argsort(-score)[:20] if _is_covered(along[inlier[:, i], i])), None)
        if best is None or score[best] < 0.04 * len(rest):
            break
        line = np.append(normal[best], offset[best])
        lines.append(line)
        rest = rest[rest @ line[:2] + line[2] < -tolerance]
    return lines


def find_foreground(depth: np.ndarray, seen: np.ndarray, K: np.ndarray, *, height: float = 0.005, seed: int = 0) -> np.ndarray:
    """(H, W) bool of the pixels of parts: raised above the floor, not on a wall, small holes closed.

    Args:
        depth: (H, W) float32 metres without NaN (``smooth_depth``).
        seen: (H, W) bool of the pixels with a reading; holes up to 9 pixels wide count as seen, shadows do not.
        K: intrinsics.
        height: metres above the floor at 0.6 m range from which a pixel counts as raised.
    """
    points = deproject(depth, K)
    flat = points.reshape(-1, 3)
    plane = fit_floor(points[seen], seed=seed)
    if plane is None:
        return seen
    above = points @ plane[:3].astype(np.float32) + np.float32(plane[3])
    seen = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0
    raised = seen & (above > height * _growth(depth))
    raised = cv2.morphologyEx(raised.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    axes = np.linalg.svd(plane[None, :3])[2][1:]  # two directions within the floor
    where = flat[raised.ravel()] @ axes.T.astype(np.float32)
    inside = np.ones(len(where), bool)
    for line in wall_lines(where, seed=seed):
        inside &= where @ line[:2].astype(np.float32) + np.float32(line[2]) < -0.003
    raised[raised] = inside
    return cv2.morphologyEx(raised.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _is_covered(along: np.ndarray) -> bool:
    """Whether positions (M,) on a line leave few gaps between its ends: a wall is whole, a row of parts is not."""
    return along.size > 20 and (np.histogram(along, 20)[0] > 0).mean() >= 0.85


def _growth(z: np.ndarray) -> np.ndarray:
    return np.maximum(1.0, (z / np.float32(REFERENCE_RANGE)) ** 2)
