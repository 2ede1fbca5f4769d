"""Graph methods: normalised cuts, graph cuts by α-expansion, Felzenszwalb's segmentation."""

from __future__ import annotations

import warnings

import numpy as np

from .clusters import SAMPLE, xyz
from .components import estimate_count
from .edges import grow
from .expansion import alpha_expansion
from .scene import Scene
from .superpixels import borders, edge_strength, superpixels


def normalised_cut(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    number: int = 200,
    crease: float = 0.6,
    sharpness: float = 2.0,
) -> np.ndarray:
    """(h, w) int32 labels by normalised cuts of a graph of superpixels into ``count`` parts.

    An edge's weight falls with the mean strength of the depth edges and concave creases along the common border. The cut is
    scikit-learn's multiclass normalised cut (Shi and Malik 2000; Yu and Shi 2003). ``count`` None = estimated as for k-means.

    Args:
        number: of superpixels, about.
        crease: radians of a concave crease that parts as much as a depth edge.
        sharpness: how fast an edge parts what it runs through.
    """
    from skimage import graph
    from sklearn.cluster import spectral_clustering

    pixels, k = superpixels(scene, number), count or estimate_count(scene)
    n = int(pixels.max())
    if k < 2 or n <= k:
        return pixels if k >= 2 else scene.foreground.astype(np.int32)
    rag = graph.rag_boundary(pixels, edge_strength(scene, crease), connectivity=1)
    affinity = 1e-4 * np.ones((n, n))  # hardly connected: separate piles must not make the graph fall apart
    for i, j, edge in rag.edges(data=True):
        if i and j:  # 0 is the background, nobody's neighbour
            affinity[i - 1, j - 1] = affinity[j - 1, i - 1] = np.exp(-sharpness * edge["weight"])
    np.fill_diagonal(affinity, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = spectral_clustering(affinity, n_clusters=k, assign_labels="discretize", random_state=seed, eigen_solver="arpack")
    return grow(np.append(0, labels + 1)[pixels].astype(np.int32), scene.foreground)


def graph_cut(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    number: int = 600,
    crease: float = 0.9,
    sharpness: float = 2.0,
    smoothness: float = 20.0,
    weights: tuple[float, float, float] = (1.0, 1.0, 1.5),
    rounds: int = 3,
) -> np.ndarray:
    """(h, w) int32 labels by graph cuts (Boykov, Veksler and Zabih 2001) of superpixels into ``count`` parts.

    Energy: every superpixel pays its squared distance to its part's centre (weighted xyz, in units of twice the variance) a
    pixel, every border between two parts its length, less where it is a depth edge or a concave crease. α-expansion and new
    centres alternate, from the centres of k-means on. Minimum cuts do not depend on the max-flow algorithm: SciPy's finds
    those of Boykov and Kolmogorov (2004). ``count`` None = estimated as for k-means.

    Args:
        number: of superpixels, about.
        crease, sharpness: as for ``normalised_cut``.
        smoothness: cost of a pixel of smooth border; times the side of a part in pixels, so that it means the same at
            every resolution.
        weights: of x, y, z.
        rounds: of expansion and new centres.
    """
    from sklearn.cluster import KMeans

    pixels, k = superpixels(scene, number), count or estimate_count(scene)
    n = int(pixels.max())
    if k < 2 or n <= k:
        return pixels if k >= 2 else scene.foreground.astype(np.int32)
    features = xyz(scene, weights)
    inside = scene.foreground.ravel()
    of_pixel, area = pixels.ravel()[inside] - 1, np.bincount(pixels.ravel(), minlength=n + 1)[1:]
    mean = _sums(features[inside], of_pixel, n) / area[:, None]
    spread = np.maximum(_sums(features[inside] ** 2, of_pixel, n) / area[:, None] - mean**2, 0).sum(1)
    pairs, weight = borders(pixels, edge_strength(scene, crease), sharpness)
    weight = weight * smoothness * np.sqrt(area.sum() / k)
    centre = KMeans(k, n_init=5, random_state=seed).fit(features[scene.sample(SAMPLE, seed)]).cluster_centers_
    labels = ((mean[:, None] - centre) ** 2).sum(-1).argmin(1)
    for _ in range(rounds):
        distance = ((mean[:, None] - centre) ** 2).sum(-1) + spread[:, None]
        variance = max((distance[np.arange(n), labels] * area).sum() / (3 * area.sum()), 1e-12)
        labels = alpha_expansion(area[:, None] * distance / (2 * variance), pairs, weight)
        pixels_of = np.bincount(labels, weights=area, minlength=k)[:, None]
        centre = np.where(pixels_of > 0, _sums(mean * area[:, None], labels, k) / np.maximum(pixels_of, 1), centre)
    return np.append(0, labels + 1)[pixels].astype(np.int32)


def _sums(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """(n, C) sums of the rows of ``values`` (M, C) that belong to each group."""
    return np.stack([np.bincount(group, weights=column, minlength=n) for column in values.T.astype(np.float64)], axis=1)


def felzenszwalb(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    scale: float = 1000.0,
    min_size: int = 80,
    crease: float = 0.6,
) -> np.ndarray:
    """(h, w) int32 labels by Felzenszwalb and Huttenlocher (2004) on xyz and normals.

    Args:
        count, seed: not used.
        scale: larger = fewer segments.
        min_size: pixels of the smallest segment.
        crease: weight of the normals against positions.
    """
    from skimage.segmentation import felzenszwalb as segment

    span = np.ptp(scene.points[scene.foreground], axis=0).max()
    image = np.dstack([scene.points / max(span, 1e-6) * 4, scene.normals * crease]).astype(np.float64)
    image[~scene.foreground] = -9.0  # far from everything: never merged with a part

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # six channels are meant
        labels = segment(image, scale=scale, sigma=0.6, min_size=min_size, channel_axis=-1)
    return np.where(scene.foreground, labels + 1, 0).astype(np.int32)
