"""The rules of the evaluation, in one place. Every result carries them under ``protocol``."""

from __future__ import annotations

import numpy as np

MIN_VISIBLE = 0.1
"""True instances of which less than this share is visible are *ignored*: they are neither misses nor may they turn the
detection that matches them into a false positive (BOP Challenge 2022 to 2024: targets have ``visib_fract ≥ 0.1``)."""

OCCLUSION = {"heavy": (0.0, 0.3), "medium": (0.3, 0.75), "little": (0.75, 1.0)}
"""Visible fraction [low, high) of the occlusion classes of ClusterNet (section IV); the last one includes its end."""

HIDDEN = {"none": 1e-5, "partial": 0.25, "heavy": 1.0}
"""Largest hidden share of the occlusion classes of Layered Embeddings (paper-facts), on its 64 × 64 masks."""

MATCH_IOU = 0.5
"""Instances are matched for centroid, covariance and order when their masks overlap at least this much."""

MIN_OVERLAP = 10
"""Pixels by which two true amodal masks must overlap before their order is asked for."""

RESAMPLES = 200
"""Bootstrap resamples of the images behind every 95 % interval."""


def counted(visible_fraction: np.ndarray) -> np.ndarray:
    """(N,) bool of the true instances that count, from their visible fractions (N,); unknown ones (NaN) count."""
    return ~(visible_fraction < MIN_VISIBLE)


def occlusion_class(visible_fraction: np.ndarray) -> np.ndarray:
    """(N,) int64 index into ``OCCLUSION`` (0 heavy, 1 medium, 2 little) of visible fractions (N,) in [0, 1]; 3 = unknown."""
    classes = np.digitize(visible_fraction, [high for _, high in OCCLUSION.values()][:-1])
    return np.where(np.isnan(visible_fraction), len(OCCLUSION), classes)


def hidden_class(visible_fraction: np.ndarray) -> np.ndarray:
    """(N,) int64 index into ``HIDDEN`` (0 none, 1 partial, 2 heavy) of visible fractions (N,) in [0, 1]."""
    return np.digitize(1 - np.asarray(visible_fraction, float), list(HIDDEN.values())[:-1], right=True)


def describe() -> dict:
    """The rules as JSON, for results."""
    return {
        "ignored": f"true instances with visible_fraction < {MIN_VISIBLE} (not for amodal scores)",
        "occlusion": {name: list(bounds) for name, bounds in OCCLUSION.items()},
        "match_iou": MATCH_IOU,
        "classes": "class-agnostic",
        "AP": "COCO, IoU 0.50:0.05:0.95, 100 detections an image, masks, faster-coco-eval",
        "mIoU": "mean over counted true instances; one-to-one by the Hungarian method, mIoU_best takes each one's best",
        "interval": f"95 %, percentile bootstrap over images, {RESAMPLES} resamples",
    }
