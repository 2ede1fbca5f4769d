"""Two models beside each other: one finds the parts, the other says what of them is hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..errors import InputError
from ..frame import Frame
from ..geometry import occlusion_edges
from ..instances import Instances
from .layered.stack import amodal_pixels, compact, stack_order
from .model_directory import ModelDirectory
from .segmenter import Segmenter, load_segmenter

LEAST_IOU = 0.25
"""Visible masks that overlap less do not belong to one part."""


class AmodalSegmenter(Segmenter):
    """Labels, scores and positions of one segmenter, layers of another.

    Args:
        visible: answers what is seen (ClusterNet, InSeGAN, …).
        hidden: gives layers, a ``LayeredSegmenter`` say.

    Raises:
        InputError: ``hidden`` sees no hidden parts.
    """

    amodal = True

    def __init__(self, visible: Segmenter, hidden: Segmenter) -> None:
        if not hidden.amodal:
            raise InputError(f"amodal_model: {hidden.description} gives no layers, a layered model does: choose another or leave it empty")
        self.visible, self.hidden = visible, hidden.unfiltered()
        self.needs_color = visible.needs_color or hidden.needs_color
        self.description = f"{visible.description}, layers by {hidden.description}"

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> AmodalSegmenter:
        raise InputError(f"{model.path} is one model, an amodal segmenter takes two: use load_with_layers")

    def segment(self, frame: Frame) -> Instances:
        seen = self.visible.segment(frame)
        return with_layers(seen, self.hidden.segment(frame), occlusion_edges(seen.labels, frame.depth, len(seen)))

    def complaint(self, frame: Frame) -> str | None:
        return self.visible.complaint(frame) or self.hidden.complaint(frame)


def load_with_layers(directory: str | Path, amodal: str | Path | None, device: str = "auto") -> Segmenter:
    """Model directory → segmenter; ``amodal`` is the directory of a model that gives its answers layers, None = its own."""
    segmenter = load_segmenter(directory, device)
    return segmenter if amodal is None else AmodalSegmenter(segmenter, load_segmenter(amodal, device))


def with_layers(visible: Instances, hidden: Instances, edges: np.ndarray | None = None) -> Instances:
    """``visible`` with the hidden extents of ``hidden``: layer 0, ids, scores, centroids and covariances stay as they are.

    Instances belong together, one to one, where their visible masks overlap by an IoU of ``LEAST_IOU`` (largest total, Hungarian
    method); of those left, where the centroids are nearer to each other than the part's own size (root mean square radius). What
    ``hidden`` says of others is left out, as is what it sees in front: what another part covers by its rough outline alone does not
    lie behind. What it says of pixels where it alone sees a part is left out, too; where both see none, a wall may hide some. Of an
    instance without partner it is not known what is hidden: its visible fraction is NaN.

    Args:
        visible, hidden: answers to the same frame.
        edges: (N, N) of ``geometry.occlusion_edges`` for the labels of ``visible``, which help to tell the order.

    Raises:
        InputError: they differ in size.
    """
    if visible.labels.shape != hidden.labels.shape:
        raise InputError(f"labels are {visible.labels.shape} pixels, layers {hidden.labels.shape}: both models must see the same frame")
    n = len(visible)
    partner = match(visible, hidden)
    relabel = np.zeros(len(hidden) + 1, np.uint16)
    known = partner >= 0
    relabel[partner[known] + 1] = np.flatnonzero(known) + 1
    stack = np.zeros((max(len(hidden.layers), 2), *visible.labels.shape), np.uint16)
    stack[0], stack[1 : len(hidden.layers)] = visible.labels, relabel[hidden.layers[1:]]
    stack[:, (visible.labels == 0) & (hidden.labels > 0)] = 0
    stack = compact(stack)
    fraction = visible.pixels / np.maximum(amodal_pixels(stack, n), 1)
    return replace(
        visible,
        layers=stack,
        visible_fraction=np.where(known, fraction, np.nan).astype(np.float32),
        depth_order=stack_order(stack, n, visible.depth_order, edges),
    )


def match(visible: Instances, hidden: Instances) -> np.ndarray:
    """(N,) int64 row of ``hidden`` that is the same part as each row of ``visible``, −1 = none; see :func:`with_layers`."""
    n, m = len(visible), len(hidden)
    code = visible.labels.astype(np.int64) * (m + 1) + hidden.labels
    table = np.bincount(code.ravel(), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    both = table[1:, 1:]
    iou = both / np.maximum(table.sum(1)[1:, None] + table.sum(0)[None, 1:] - both, 1)
    partner = np.full(n, -1)
    _pair(partner, np.where(iou >= LEAST_IOU, iou, 0), np.arange(n), np.arange(m))
    rows, columns = np.flatnonzero(partner < 0), np.setdiff1d(np.arange(m), partner)
    distance = np.linalg.norm(visible.centroid[rows, None] - hidden.centroid[None, columns], axis=2)
    size = np.sqrt(np.trace(visible.covariance[rows], axis1=1, axis2=2))[:, None]
    with np.errstate(invalid="ignore"):  # centroids may be unknown (NaN)
        near = np.where(distance < size, 1 - distance / size, 0)
    _pair(partner, near, rows, columns)
    return partner


def _pair(partner: np.ndarray, gain: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Enter the one-to-one pairs of largest total gain (R, C); a gain of 0 makes no pair."""
    r, c = linear_sum_assignment(-gain)
    paired = gain[r, c] > 0
    partner[rows[r[paired]]] = columns[c[paired]]
