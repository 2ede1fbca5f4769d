"""Graph methods of scikit-image: normalised cuts of superpixels, and Felzenszwalb's segmentation."""

from __future__ import annotations

import warnings

import numpy as np

from .edges import concave_edges, depth_edges
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
    """(h, w) int32 labels by normalised cuts (Shi and Malik 2000) of a graph of superpixels.

    SLIC superpixels on xyz; an edge's weight falls with the mean strength of the depth edges and concave creases along the
    border. The stopping threshold is the one that gives ``count`` segments, or nearly so; without a count a fixed one.
    """
    from skimage import graph
    from skimage.segmentation import slic

    span = np.ptp(scene.points[scene.foreground], axis=0).max()
    image = scene.points / max(span, 1e-6)
    pixels = slic(
        image.astype(np.float64), superpixels, compactness=0.05, mask=scene.foreground, start_label=1, convert2lab=False,
        channel_axis=-1,
    )  # fmt: skip
    if pixels.max() < 2:
        return pixels.astype(np.int32)
    strength = np.minimum(depth_edges(scene.depth, scene.K[0, 0]), 2.0) + np.minimum(concave_edges(scene) / crease, 2.0)
    rag = graph.rag_boundary(pixels, strength.astype(np.float64), connectivity=1)
    if rag.has_node(0):
        rag.remove_node(0)  # the background is nobody's neighbour
    for _, _, edge in rag.edges(data=True):
        edge["weight"] = float(np.exp(-sharpness * edge["weight"]))
    for node in rag.nodes:
        rag.add_edge(node, node, weight=1.0)

    def cut(threshold: float) -> np.ndarray:
        labels = graph.cut_normalized(pixels, rag, thresh=threshold, num_cuts=10, in_place=False, rng=seed)
        return np.where(scene.foreground, labels + 1, 0).astype(np.int32)

    if count is None:
        return cut(0.05)
    low, high, best = 0.0, 1.0, None
    for _ in range(7):  # more segments with a higher threshold
        middle = (low + high) / 2
        labels = cut(middle)
        found = len(np.unique(labels[scene.foreground]))
        if best is None or abs(found - count) < best[0]:
            best = abs(found - count), labels
        if found == count:
            break
        low, high = (middle, high) if found < count else (low, middle)
    return best[1]


def felzenszwalb(
    scene: Scene,
    *,
    count: int | None = None,
    seed: int = 0,
    scale: float = 200.0,
    min_size: int = 80,
    crease: float = 0.6,
) -> np.ndarray:
    """(h, w) int32 labels by Felzenszwalb and Huttenlocher (2004) on xyz and normals.

    With ``count`` the scale is searched that gives as many segments, or nearly so.

    Args:
        scale: larger = fewer segments.
        min_size: pixels of the smallest segment.
        crease: weight of the normals against positions.
    """
    from skimage.segmentation import felzenszwalb as segment

    span = np.ptp(scene.points[scene.foreground], axis=0).max()
    image = np.dstack([scene.points / max(span, 1e-6) * 4, scene.normals * crease]).astype(np.float64)
    image[~scene.foreground] = -9.0  # far from everything: never merged with a part

    def at(value: float) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # six channels are meant
            labels = segment(image, scale=value, sigma=0.6, min_size=min_size, channel_axis=-1)
        return np.where(scene.foreground, labels + 1, 0).astype(np.int32)

    if count is None:
        return at(scale)
    low, high, best = np.log(5.0), np.log(20000.0), None
    for _ in range(8):
        middle = (low + high) / 2
        labels = at(float(np.exp(middle)))
        found = len(np.unique(labels[scene.foreground]))
        if best is None or abs(found - count) < best[0]:
            best = abs(found - count), labels
        if found == count:
            break
        low, high = (middle, high) if found > count else (low, middle)
    return best[1]
