"""One image's truth and answer, reduced to what the scores need (a few kilobytes; the images themselves are not kept)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..instances import Instances
from .coco import Masks, encode_labels, encode_layers, encode_masks
from .metrics import Matched, best_match, matched_errors, one_to_one, order_score, overlap, true_order
from .protocol import counted

if TYPE_CHECKING:
    from ..bop import Truth


@dataclass(frozen=True)
class Record:
    """Attributes: N true instances, M found ones.

    key: JSON-ready name of the image.
    part: (N,) names.
    counted: (N,) bool, False = ignored.
    visible: masks of the visible pixels; amodal: whole masks where both sides have them, else None.
    iou: (N,) one-to-one; best: (N,) best match; both only over counted instances, 0 elsewhere.
    matched: errors of the matched counted instances.
    order: right and asked pairs.
    found: predictions that do not lie mostly on ignored instances.
    seconds: of ``segment``, NaN where it was not measured.
    """

    key: Any
    part: np.ndarray
    counted: np.ndarray
    visible: Masks
    amodal: Masks | None
    iou: np.ndarray
    best: np.ndarray
    matched: Matched
    order: tuple[int, int]
    found: int
    seconds: float


def make_record(truth: Truth, instances: Instances, seconds: float | None, key: Any) -> Record:
    """Score one image. InputError when truth and answer differ in size."""
    if truth.labels.shape != instances.labels.shape:
        raise InputError(
            f"image {key}: the truth is {truth.labels.shape} pixels, the answer {instances.labels.shape}: "
            "evaluate at the size of the camera image"
        )
    n, m = len(truth.visible_fraction), len(instances)
    keep = counted(np.asarray(truth.visible_fraction))
    shared, iou = overlap(truth.labels, instances.labels, n, m)
    # Ignored rows leave the matching: they must not take a prediction away from an instance that counts.
    match, value = np.full(n, -1), np.zeros(n)
    column, value[keep] = one_to_one(iou[keep])
    match[keep] = column
    best = np.where(keep, best_match(iou), 0.0)
    on_ignored = shared[~keep].sum(0) > 0.5 * np.maximum(instances.pixels, 1)
    order = (0, 0)
    if truth.layers is not None:
        order = order_score(true_order(truth.layers, n), match, value, instances.depth_order)
    return Record(
        key=key,
        part=np.asarray(truth.part, dtype=object),
        counted=keep,
        visible=Masks(
            truth.labels.shape,
            encode_labels(truth.labels, n),
            encode_labels(instances.labels, m),
            np.asarray(truth.visible_fraction),
            keep,
            instances.score,
        ),
        amodal=_amodal(truth, instances),
        iou=value,
        best=best,
        matched=matched_errors(
            match, value, (truth.centroid, truth.covariance, np.asarray(truth.visible_fraction)),
            (instances.centroid, instances.covariance, instances.visible_fraction),
        ),  # fmt: skip
        order=order,
        found=int((~on_ignored).sum()),
        seconds=float("nan") if seconds is None else float(seconds),
    )


def _amodal(truth: Truth, instances: Instances) -> Masks | None:
    """Whole masks; hidden instances count here, since finding them is what the layers are for. A bag has no masks, but
    its layers hold them, down to the deepest layer."""
    if len(instances.layers) < 2 or (truth.masks is None and truth.layers is None):
        return None
    if truth.masks is not None:
        true, seen = encode_masks(truth.masks), truth.masks.any(axis=(1, 2))
    else:
        n = len(truth.visible_fraction)
        true = encode_layers(truth.layers, n)
        seen = np.bincount(truth.layers.ravel(), minlength=n + 1)[1:] > 0
    found = encode_layers(instances.layers, len(instances))
    return Masks(truth.labels.shape, true, found, np.asarray(truth.visible_fraction), seen, instances.score)
