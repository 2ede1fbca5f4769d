"""Pinhole geometry, moments and rigid motions (NumPy). Camera optical frame: x right, y down, z forward, metres."""

from __future__ import annotations

import numpy as np


def deproject(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Depth image (H, W) float32 metres → points (H, W, 3) float32 metres in the camera frame; NaN stays NaN."""
    h, w = depth.shape
    x = ((np.arange(w) - K[0, 2]) / K[0, 0]).astype(np.float32)
    y = ((np.arange(h) - K[1, 2]) / K[1, 1]).astype(np.float32)
    points = np.empty((h, w, 3), np.float32)
    np.multiply(depth, x[None, :], out=points[..., 0])
    np.multiply(depth, y[:, None], out=points[..., 1])
    points[..., 2] = depth
    return points


def project(points: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (…, 3) metres in the camera frame → pixel coordinates (…, 2), x (column) first."""
    z = points[..., 2]
    return np.stack([points[..., 0] / z * K[0, 0] + K[0, 2], points[..., 1] / z * K[1, 1] + K[1, 2]], axis=-1)


def scale_intrinsics(K: np.ndarray, sx: float, sy: float) -> np.ndarray:
    """Intrinsics of the image resized by factors ``sx``, ``sy`` (pixel centres at integer coordinates)."""
    scaled = K.astype(np.float64).copy()
    scaled[0, 0] *= sx
    scaled[1, 1] *= sy
    scaled[0, 2] = (K[0, 2] + 0.5) * sx - 0.5
    scaled[1, 2] = (K[1, 2] + 0.5) * sy - 0.5
    return scaled


def crop_intrinsics(K: np.ndarray, left: int, top: int) -> np.ndarray:
    """Intrinsics of the crop whose first pixel is column ``left``, row ``top`` of the full image."""
    cropped = K.astype(np.float64).copy()
    cropped[0, 2] -= left
    cropped[1, 2] -= top
    return cropped


def window_overlap(
    left: int, top: int, shape: tuple[int, int], size: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Index of the part of a window of ``shape`` at (left, top) that lies in an image of ``size``: in the image, and in the window."""
    v0, v1, u0, u1 = max(top, 0), min(top + shape[0], size[0]), max(left, 0), min(left + shape[1], size[1])
    v1, u1 = max(v0, v1), max(u0, u1)
    return (slice(v0, v1), slice(u0, u1)), (slice(v0 - top, v1 - top), slice(u0 - left, u1 - left))


def label_moments(labels: np.ndarray, points: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second central moments of the points of every label.

    Args:
        labels: (H, W) integers, 0 = background, 1…n.
        points: (H, W, 3) metres; NaN rows are left out.
        n: number of labels.

    Returns:
        centroid (n, 3) float64 m, covariance (n, 3, 3) float64 m² (divided by the count), count (n,) int64. Labels
        without a valid point get NaN.
    """
    flat = labels.ravel()
    use = np.flatnonzero(flat)
    p = points.reshape(-1, 3)
    use = use[np.isfinite(p[use, 2])]
    index = flat[use].astype(np.int64) - 1
    count = np.bincount(index, minlength=n)
    mean, cov, d = np.empty((n, 3)), np.empty((n, 3, 3)), []
    with np.errstate(invalid="ignore", divide="ignore"):
        for i in range(3):  # a coordinate at a time: steps along memory are twice as fast
            value = p[use, i].astype(np.float64)
            mean[:, i] = np.bincount(index, value, n) / count
            d.append(value - mean[index, i])  # centred first: metres at 0.6 m range would lose the millimetres squared
            for j in range(i + 1):
                cov[:, i, j] = cov[:, j, i] = np.bincount(index, d[i] * d[j], n) / count
    return mean, cov, count


EDGE_REACH, EDGE_STEP = 5, 0.004
"""Pixels across a border between two labels, and the step of depth (m) over it that tells which of them is in front."""


def depth_order(labels: np.ndarray, depth: np.ndarray, n: int, edges: np.ndarray | None = None) -> np.ndarray:
    """(n,) int32 rank of labels 1…n, 0 = on top; unseen labels last.

    Of two that touch, the one whose side of their border is nearer to the camera comes first; what touches nothing comes in the order of
    the 10th percentile of its depth.

    Args:
        edges: ``occlusion_edges`` of the same, for whoever has them; None = find them.
    """
    flat, z = labels.ravel(), depth.ravel()
    use = np.flatnonzero((flat > 0) & np.isfinite(z))
    near = np.full(n, np.inf)
    if use.size:
        use = use[np.lexsort((z[use], flat[use]))]
        ids, first, count = np.unique(flat[use], return_index=True, return_counts=True)
        near[ids.astype(np.int64) - 1] = z[use[first + count // 10]]
    over = occlusion_edges(labels, depth, n) if edges is None else edges
    return order_from_overlaps(over - over.T, np.argsort(near, kind="stable"))


def occlusion_edges(labels: np.ndarray, depth: np.ndarray, n: int) -> np.ndarray:
    """(n, n) int64, [a, b] = pixels of the border of labels a + 1 and b + 1 over which the first is in front by ``EDGE_STEP``."""
    over = np.zeros((n + 1) * (n + 1), np.int64)
    for here, there in ((np.s_[:-EDGE_REACH], np.s_[EDGE_REACH:]), (np.s_[:, :-EDGE_REACH], np.s_[:, EDGE_REACH:])):
        a, b = labels[here], labels[there]
        at = np.nonzero((a != b) & (a > 0) & (b > 0))
        a, b = a[at].astype(np.int64), b[at].astype(np.int64)
        step = depth[there][at] - depth[here][at]  # NaN is neither
        for front, back, rows in ((a, b, step > EDGE_STEP), (b, a, step < -EDGE_STEP)):
            over += np.bincount(front[rows] * (n + 1) + back[rows], minlength=len(over))
    return over.reshape(n + 1, n + 1)[1:, 1:]


def stack_overlaps(stack: np.ndarray, n: int) -> np.ndarray:
    """(n, n) int64, [a, b] = pixels of an amodal stack (L, H, W) at which label a + 1 is in front of label b + 1."""
    over = np.zeros((n + 1) * (n + 1), np.int64)
    flat = stack.reshape(len(stack), -1)
    flat = flat[:, flat[1:].any(0)].astype(np.int64)  # most pixels have nothing behind
    for front in range(len(flat)):
        for behind in range(front + 1, len(flat)):
            over += np.bincount(flat[front] * (n + 1) + flat[behind], minlength=len(over))
    return over.reshape(n + 1, n + 1)[1:, 1:]


def order_from_overlaps(net: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """(n,) int32 ranks, 0 = on top, that contradict the fewest pixels one could hope for.

    Greedy: next comes the row of which the fewest pixels are under rows that are still to come, of several the first in ``prior``.

    Args:
        net: (n, n) antisymmetric, [a, b] = pixels at which a is in front of b less those at which it is behind.
        prior: (n,) the rows in an order found by other means.
    """
    left, under = prior, np.maximum(net, 0).sum(0)
    rank = np.empty(len(net), np.int32)
    for place in range(len(net)):
        first = left[under[left].argmin()]
        rank[first] = place
        left = left[left != first]
        under = under - np.maximum(net[first], 0)
    return rank


def sqrt_covariance(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root S of covariances (…, 3, 3) m²: S S = covariance, S in metres."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]) @ np.swapaxes(vectors, -1, -2)


def gaussian_distance(mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray) -> np.ndarray:
    """2-Wasserstein distance (…,) m between Gaussians of means (…, 3) m and covariances (…, 3, 3) m²."""
    root = sqrt_covariance(covariance_a)
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ covariance_b @ root), 0, None)).sum(-1)
    spread = np.trace(covariance_a, axis1=-2, axis2=-1) + np.trace(covariance_b, axis1=-2, axis2=-1) - 2 * cross
    return np.sqrt(((mean_a - mean_b) ** 2).sum(-1) + np.clip(spread, 0, None))


def principal_axes(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations and standard deviations of covariances (…, 3, 3).

    Returns:
        rotation (…, 3, 3), right-handed, columns = axes with the longest first (x); sigma (…, 3) metres, descending.
    """
    values, vectors = np.linalg.eigh(covariance)
    rotation = vectors[..., ::-1].copy()
    rotation[..., :, 2] *= np.sign(np.linalg.det(rotation))[..., None]
    return rotation, np.sqrt(np.clip(values[..., ::-1], 0, None))


def quaternion_from_matrix(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrices (…, 3, 3) → unit quaternions (…, 4) in ROS order x, y, z, w with w ≥ 0."""
    from scipy.spatial.transform import Rotation

    q = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat(canonical=True)
    return q.reshape(*rotation.shape[:-2], 4)


def transform(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a rigid motion T (4, 4) to points (…, 3)."""
    return points @ T[:3, :3].T + T[:3, 3]
