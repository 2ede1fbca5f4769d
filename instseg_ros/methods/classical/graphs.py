"""Graph methods of scikit-image: normalised cuts of superpixels, and Felzenszwalb's segmentation."""

from __future__ import annotations

import warnings

import numpy as np

from .components import estimate_count
from .edges import concave_edges, depth_edges, grow
from .scene import Scene


def graph_cut(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    superpixels: int = 250,
    crease: float = 0.6,
    sharpness: float = 2.0,
) -> np.ndarray:
    """(h, w) int32 labels by normalised cuts of a graph of superpixels into ``count`` parts.

    SLIC superpixels on xyz; an edge's weight falls with the mean strength of the depth edges and concave creases along the
    common border. The cut is scikit-learn's multiclass normalised cut (Shi and Malik 2000; Yu and Shi 2003). ``count``
    None = estimated as for k-means.
    """
    from skimage import graph
    from skimage.segmentation import slic
    from sklearn.cluster import spectral_clustering

    span = np.ptp(scene.points[scene.foreground], axis=0).max()
    pixels = slic(
        (scene.points / max(span, 1e-6)).astype(np.float64), superpixels, compactness=0.05, mask=scene.foreground,
        start_label=1, convert2lab=False, channel_axis=-1,
    )  # fmt: skip
    n = int(pixels.max())
    k = count or estimate_count(scene)
    if k < 2 or n <= k:
        return grow(pixels.astype(np.int32) if n <= k else scene.foreground.astype(np.int32), scene.foreground)
    strength = np.minimum(depth_edges(scene.depth, scene.K[0, 0]), 2.0) + np.minimum(concave_edges(scene) / crease, 2.0)
    rag = graph.rag_boundary(pixels, strength.astype(np.float64), connectivity=1)
    affinity = 1e-4 * np.ones((n, n))  # hardly connected: separate piles must not make the graph fall apart
    for i, j, edge in rag.edges(data=True):
        if i and j:  # 0 is the background, nobody's neighbour
            affinity[i - 1, j - 1] = affinity[j - 1, i - 1] = np.exp(-sharpness * edge["weight"])
    np.fill_diagonal(affinity, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels = spectral_clustering(affinity, n_clusters=k, assign_labels="discretize", random_state=seed, eigen_solver="arpack")
    return grow(np.append(0, labels + 1)[pixels].astype(np.int32), scene.foreground)


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
