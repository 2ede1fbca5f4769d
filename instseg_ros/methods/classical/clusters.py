"""Clustering of the points: k-means, spectral clustering, GrabCut before k-means (scikit-learn and OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np

from .components import estimate_count
from .edges import grow
from .scene import Scene

SAMPLE = 3000
"""Points that are clustered; the others follow the nearest centre or sample."""


def xyz(scene: Scene, weights: tuple[float, float, float]) -> np.ndarray:
    """(h·w, 3) float32 points, scaled by axis: depth says more about who lies on whom than x and y do."""
    return scene.points.reshape(-1, 3) * np.asarray(weights, np.float32)


def kmeans(
    scene: Scene, *, count: int | None = None, seed: int = 0, weights: tuple[float, float, float] = (1.0, 1.0, 1.5)
) -> np.ndarray:
    """(h, w) int32 labels by k-means on weighted xyz; ``count`` None = ``estimate_count``."""
    from sklearn.cluster import KMeans

    features = xyz(scene, weights)
    sample = features[scene.sample(SAMPLE, seed)]
    k = min(count or estimate_count(scene), len(sample))
    model = KMeans(k, n_init=5, random_state=seed).fit(sample)
    return _assign(scene, model.predict(features[scene.foreground.ravel()]))


def spectral(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.5),
    neighbors: int = 12,
    sample: int = 1200,
) -> np.ndarray:
    """(h, w) int32 labels by spectral clustering (Ng, Jordan and Weiss 2001) on a nearest-neighbour graph of a sample.

    The other pixels take the label of their nearest sample. ``count`` None = estimated as for k-means.
    """
    import warnings

    from scipy.spatial import cKDTree
    from sklearn.cluster import SpectralClustering

    features = xyz(scene, weights)
    points = features[scene.sample(sample, seed)]
    k = min(count or estimate_count(scene), max(len(points) - 2, 1))
    if k < 2 or len(points) <= neighbors:
        return scene.foreground.astype(np.int32)
    model = SpectralClustering(
        k, affinity="nearest_neighbors", n_neighbors=neighbors, assign_labels="kmeans", random_state=seed, n_init=5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "graph is not fully connected": separate piles are welcome
        labels = model.fit_predict(points)
    nearest = cKDTree(points).query(features[scene.foreground.ravel()])[1]
    return _assign(scene, labels[nearest])


def grabcut_kmeans(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.5),
    iterations: int = 3,
) -> np.ndarray:
    """(h, w) int32 labels: GrabCut (Rother et al. 2004, OpenCV) refines the foreground, then k-means divides it.

    GrabCut sees the normal map with the depth in place of its third channel; the foreground found by the plane is its first
    guess, of which the inner part is certain.
    """
    z = scene.depth
    low, high = np.percentile(z, (1, 99))
    picture = np.dstack([scene.normals[..., :2] * 0.5 + 0.5, np.clip((z - low) / max(high - low, 1e-6), 0, 1)])
    picture = np.ascontiguousarray((picture * 255).astype(np.uint8))
    sure = cv2.erode(scene.foreground.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    near = cv2.dilate(scene.foreground.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    mask = np.full(z.shape, cv2.GC_BGD, np.uint8)
    mask[near] = cv2.GC_PR_BGD
    mask[scene.foreground] = cv2.GC_PR_FGD
    mask[sure] = cv2.GC_FGD
    if sure.any() and not near.all():  # GrabCut needs both kinds of pixels
        cv2.setRNGSeed(seed)
        cv2.grabCut(picture, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), iterations, cv2.GC_INIT_WITH_MASK)
    refined = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return kmeans(Scene(scene.depth, refined, scene.K, scene.box), count=count, seed=seed, weights=weights)


def _assign(scene: Scene, labels: np.ndarray) -> np.ndarray:
    """Labels 0… of the foreground pixels → (h, w) int32 labels 1…; specks of a label join what surrounds them."""
    image = np.zeros(scene.foreground.shape, np.int32)
    image[scene.foreground] = labels + 1
    cleaned = cv2.medianBlur(image.astype(np.uint8), 3).astype(np.int32) if image.max(initial=0) < 256 else image
    return grow(cleaned, scene.foreground)
