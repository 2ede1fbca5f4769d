"""Average precision of instances in point sets or voxel grids, by the protocol of the ScanNet benchmark (Dai et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

OVERLAPS = np.arange(0.50, 0.95, 0.05)
"""Intersection over union that AP is the mean over: the benchmark stops at 0.90, although papers write 0.95."""


@dataclass(frozen=True)
class Scene3D:
    """Truth and answer of one scene with N points.

    Attributes:
        instance: (N,) int, 0 = void, 1…T. true_class: (T,) int > 0; 0 = not evaluated (a class outside of the benchmark).
        masks: (P, N) bool, may overlap. found_class: (P,) int. score: (P,) float.
        least: instances with fewer points are not evaluated, neither true nor found ones (the benchmark: 100).
    """

    instance: np.ndarray
    true_class: np.ndarray
    masks: np.ndarray
    found_class: np.ndarray
    score: np.ndarray
    least: int = 1


def average_precision(scenes: Sequence[Scene3D], kind: int, overlap: float) -> float:
    """AP of one class at one overlap; NaN where the class has no instance in the truth.

    An instance is found by the surest answer of its class that overlaps it by more than ``overlap``; further ones are false.
    An answer that matches nothing is false, unless it lies by more than ``overlap`` in what is not evaluated.
    """
    hits: list[bool] = []
    scores: list[float] = []
    wanted = 0
    for scene in scenes:
        found, confidence, truth = _match(scene, kind, overlap)
        hits += found
        scores += confidence
        wanted += truth
    return _area(np.array(hits, bool), np.array(scores), wanted) if wanted else float("nan")


def class_table(scenes: Sequence[Scene3D], classes: Sequence[int]) -> dict[int, dict[str, float]]:
    """AP, AP50 and AP25 of every class."""
    table = {}
    for kind in classes:
        each = [average_precision(scenes, kind, overlap) for overlap in OVERLAPS]
        table[kind] = {"AP": float(np.mean(each)), "AP50": each[0], "AP25": average_precision(scenes, kind, 0.25)}
    return table


def _match(scene: Scene3D, kind: int, overlap: float) -> tuple[list[bool], list[float], int]:
    """Right or false, and score, of the answers of one class that count; and the number of true instances."""
    count = len(scene.true_class)
    size = np.bincount(scene.instance, minlength=count + 1)[1:]
    counted = (scene.true_class == kind) & (size >= scene.least)
    rows = np.flatnonzero(scene.found_class == kind)
    rows = rows[np.argsort(-scene.score[rows], kind="stable")]
    hits, scores = [], []
    taken = np.zeros(count, bool)
    # A prediction may lie on void, on other classes that are not evaluated and on instances too small to count.
    outside = np.concatenate([[True], (scene.true_class == 0) | ((scene.true_class == kind) & ~counted)])
    for row in rows:
        shared = np.bincount(scene.instance[scene.masks[row]], minlength=count + 1)
        pixels = int(shared.sum())  # points
        if pixels < max(scene.least, 1):
            continue
        iou = shared[1:] / (size + pixels - shared[1:])
        matching = np.flatnonzero(counted & (iou > overlap))
        free = matching[~taken[matching]]
        if len(matching):
            taken[free] = True
            hits.append(len(free) > 0)
        elif shared[outside].sum() / pixels > overlap:
            continue
        else:
            hits.append(False)
        scores.append(float(scene.score[row]))
    return hits, scores, int(counted.sum())


def _area(hits: np.ndarray, scores: np.ndarray, wanted: int) -> float:
    """Area under precision over recall with one point a distinct score, each weighted by half the recall around it."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # equal scores cannot be told apart: one point
    recall = np.concatenate([right[last][::-1] / wanted, [0.0]])
    precision = np.concatenate([(right[last] / (last + 1))[::-1], [1.0]])
    # From the highest recall down to none: the step at a point is half the way to each of its neighbours.
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(precision @ (0.5 * (padded[:-2] - padded[2:])))
