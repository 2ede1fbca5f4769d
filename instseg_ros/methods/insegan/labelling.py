"""From renderings of single instances at working size to Instances at the frame's own size.

The small renderings only say which surface to expect where; the outline comes from the observed depth: each observed pixel of
a part goes to the instance whose rendered depth is nearest to it there.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects

from ...frame import Frame
from ...geometry import deproject, depth_order, label_moments
from ...instances import Instances
from .normalisation import Normalisation

EDGE = 4e-3  # metres; what being off a rendering's outline costs compared with being off its depth
REACH = 3.0  # working pixels, over which leftovers join what lies next to them
SPECK = 2.5  # working pixels, side of the square below which a separate patch of an instance belongs to what surrounds it


@dataclass(frozen=True)
class Singles:
    """What the model believes to be in the image, each instance alone.

    Attributes:
        image: (S, S) value of all together, the hallucinated depth.
        depth: (n, S, S) float32 metres. opacity: (n, S, S) float32 in [0, 1].
        centroid: (n, 3) metres and covariance: (n, 3, 3) m² of the whole surface; None: taken from the renderings.
    """

    image: np.ndarray
    depth: np.ndarray
    opacity: np.ndarray
    centroid: np.ndarray | None = None
    covariance: np.ndarray | None = None


def label_frame(frame: Frame, singles: Singles, normalisation: Normalisation, *, tolerance: float, min_pixels: int) -> Instances:
    """Full-resolution answer; renderings that explain less than ``min_pixels`` of the frame are dropped.

    Args:
        tolerance: metres between rendered and observed depth beyond which a pixel does not belong to an instance.
    """
    n = len(singles.depth)
    part = normalisation.foreground(frame)
    if not n or not part.any():
        return Instances.empty(frame.shape)
    opacity = normalisation.to_frame(singles.opacity, frame, fill=0.0)
    depth = normalisation.to_frame(_extend(singles.depth, singles.opacity), frame, fill=normalisation.far)
    observed = np.where(np.isfinite(frame.depth), frame.depth, np.float32(normalisation.near))
    error = np.abs(depth - observed)
    cost = error + EDGE * (1 - opacity)
    cost[(opacity < 0.1) | (error > tolerance)] = np.inf
    least = cost.min(0)
    labels = np.where(part & np.isfinite(least), cost.argmin(0) + 1, 0).astype(np.uint16)
    scale = frame.K[0, 0] / normalisation.working_K[0, 0]  # frame pixels along a side of a working pixel
    labels = _join_leftovers(labels, part, REACH * scale)
    labels = _without_specks(labels, part, (SPECK * scale) ** 2)

    amodal = opacity > 0.5
    amodal[labels[None] == np.arange(1, n + 1)[:, None, None]] = True
    area = amodal.sum((1, 2))
    pixels = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    # Seen where expected: the share of what is given to an instance, or should show it, that agrees with its rendering.
    expected = np.where(amodal, depth, np.inf)
    front = (expected.argmin(0) + 1) * amodal.any(0)
    agree = _per_label(labels, least < tolerance / 2, n)
    claimed = pixels + _per_label(front, front != labels, n)
    centroid, covariance = singles.centroid, singles.covariance
    if centroid is None or covariance is None:
        centroid, covariance = _rendered_moments(amodal, depth, frame.K)
    answer = Instances(
        labels=labels,
        score=(agree / np.maximum(claimed, 1)).clip(0, 1).astype(np.float32),
        centroid=np.nan_to_num(centroid).astype(np.float32),
        covariance=np.nan_to_num(covariance).astype(np.float32),
        visible_fraction=(pixels / np.maximum(area, 1)).clip(0, 1).astype(np.float32),
        depth_order=depth_order(labels, frame.depth, n),
        layers=_layers(labels, amodal, depth),
    )
    return answer.select(answer.pixels >= min_pixels)


def _extend(depth: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Continue every depth (n, S, S) beyond its outline by the nearest rendered value, so that nothing mixes with the floor."""
    result = depth.astype(np.float32).copy()
    for one, solid in zip(result, opacity > 0.5):
        if solid.any() and not solid.all():
            _, nearest = cv2.distanceTransformWithLabels((~solid).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
            table = np.zeros(int(nearest.max()) + 1, np.float32)
            table[nearest[solid]] = one[solid]
            one[:] = table[nearest]
    return result


def _join_leftovers(labels: np.ndarray, part: np.ndarray, reach: float) -> np.ndarray:
    """Give observed pixels of parts that fit no rendering the label of the nearest pixel that has one, up to ``reach`` pixels."""
    if not labels.any():
        return labels
    distance, nearest = cv2.distanceTransformWithLabels((labels == 0).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, labels.dtype)
    table[nearest[labels > 0]] = labels[labels > 0]
    return np.where(part & (labels == 0) & (distance <= reach), table[nearest], labels)


def _without_specks(labels: np.ndarray, part: np.ndarray, area: float) -> np.ndarray:
    """Give patches of fewer than ``area`` pixels that lie apart from the rest of their instance to what is next to them.

    Where two surfaces lie within a few millimetres, the nearer one changes from pixel to pixel.
    """
    cleaned = labels.copy()
    for k, box in enumerate(find_objects(labels), 1):
        if box is None:
            continue
        own = labels[box] == k
        count, patch, stats, _ = cv2.connectedComponentsWithStats(own.view(np.uint8), connectivity=8)
        size = stats[:, cv2.CC_STAT_AREA]
        small = size < area
        small[[0, 1 + int(size[1:].argmax())]] = False  # neither what is not its own nor its largest patch
        if small.any():
            cleaned[box][small[patch]] = 0
    return _join_leftovers(cleaned, part & (labels > 0), np.inf) if (cleaned != labels).any() else labels


def _per_label(labels: np.ndarray, where: np.ndarray, n: int) -> np.ndarray:
    """(n,) pixels of each label 1…n at which ``where`` holds."""
    return np.bincount(labels[where & (labels > 0)].ravel(), minlength=n + 1)[1:]


def _layers(labels: np.ndarray, amodal: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """(L, H, W) uint16 amodal stack: the visible label, then what is hidden behind it from front to back."""
    n = len(amodal)
    ids = np.arange(1, n + 1, dtype=np.uint16)[:, None, None]
    behind = amodal & (labels[None] != ids) & (labels[None] > 0)
    hidden = int(behind.sum(0).max(initial=0))  # as deep as the pile
    order = np.argsort(np.where(behind, depth, np.inf), axis=0)[:hidden]
    hidden = np.where(np.take_along_axis(behind, order, 0), (order + 1).astype(np.uint16), 0)
    return np.concatenate([labels[None], hidden.astype(np.uint16)])


def _rendered_moments(amodal: np.ndarray, depth: np.ndarray, K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroid and covariance of the rendered front surfaces."""
    moments = [label_moments(mask.astype(np.uint16), deproject(np.ascontiguousarray(one), K), 1)[:2] for mask, one in zip(amodal, depth)]
    return np.concatenate([m for m, _ in moments]), np.concatenate([c for _, c in moments])
