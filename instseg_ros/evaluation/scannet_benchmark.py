"""ScanNet's benchmark of instances: its files, written and read, and the score by class (Dai et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import write_atomic
from .average_precision_3d import Scene3D, class_table
from .scannet import CLASSES, Scan

MASKS = "predicted_masks"
LEAST = 100
"""Vertices of an instance that counts, true or found."""
UNIT = 1000
"""Truth is written as class · 1000 + number of the instance."""


def write_truth(folder: Path, scan: Scan) -> None:
    """Write ``<scene>.txt`` of the benchmark's truth: a line a vertex, class · 1000 + instance, 0 = none."""
    kind = np.append(0, scan.object_class)[scan.instance]
    _lines(folder / f"{scan.name}.txt", np.where(kind > 0, kind * UNIT + scan.instance, 0))


def read_truth(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Instance (N,) int64, 1…K, 0 = none, and NYU40 id (K,) of each from a file of :func:`write_truth`."""
    codes = read_numbers(file)
    used, row = np.unique(codes, return_inverse=True)
    rank = np.cumsum(used > 0) * (used > 0)
    return rank[row.reshape(-1)], used[used > 0] // UNIT


def write_answer(folder: Path, scene: str, masks: np.ndarray, kinds: np.ndarray, score: np.ndarray) -> None:
    """Write ``<scene>.txt`` and its masks as the benchmark's server takes them.

    Args:
        masks: (P, N) bool over the vertices. kinds: (P,) NYU40 ids. score: (P,).
    """
    lines = []
    for number, (mask, kind, sure) in enumerate(zip(masks, kinds, score)):
        name = f"{MASKS}/{scene}_{number:03d}.txt"
        _lines(folder / name, mask.astype(np.int64))
        lines.append(f"{name} {int(kind)} {float(sure):.6f}\n")
    write_atomic(folder / f"{scene}.txt", lambda file: file.write_text("".join(lines)))


def read_answer(file: Path, vertices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masks (P, N) bool, NYU40 ids (P,) and scores (P,) from ``<scene>.txt``.

    Raises:
        InputError: a file is missing, or has another number of vertices.
    """
    masks, kinds, score = [np.zeros((0, vertices), bool)], [], []
    for number, line in enumerate(_text(file).splitlines(), 1):
        try:
            name, kind, sure = line.split()
            kinds.append(int(kind))
            score.append(float(sure))
        except ValueError:
            raise InputError(f"{file}, line {number}: expected a mask's file, a class and a score, got {line!r}") from None
        mask = read_numbers(file.parent / name)
        if len(mask) != vertices:
            raise InputError(f"{file.parent / name} has {len(mask)} vertices, the scene {vertices}: it is of another mesh")
        masks.append(mask[None] != 0)
    return np.concatenate(masks), np.array(kinds, np.int64), np.array(score, np.float64)


def score_answers(truth: Sequence[Path], answers: Path) -> dict[str, dict[str, float]]:
    """AP, AP50 and AP25 by class name, and ``mean`` over the classes that occur, of files in the benchmark's format.

    Args:
        truth: ``<scene>.txt`` of every scene. answers: folder with a ``<scene>.txt`` for each.
    """
    scenes = []
    for file in truth:
        instance, kinds = read_truth(file)
        masks, found, score = read_answer(answers / file.name, len(instance))
        scenes.append(Scene3D(instance, np.where(np.isin(kinds, list(CLASSES)), kinds, 0), masks, found, score, LEAST))
    rows = class_table(scenes, list(CLASSES))
    table = {name: rows[kind] for kind, name in CLASSES.items()}
    if all(np.isnan(row["AP50"]) for row in table.values()):
        raise InputError("none of the scenes holds an instance that the benchmark counts: check the classes of the truth")
    return {**table, "mean": {key: float(np.nanmean([row[key] for row in table.values()])) for key in ("AP", "AP50", "AP25")}}


def _lines(file: Path, values: np.ndarray) -> None:
    write_atomic(file, lambda temporary: np.savetxt(temporary, values, fmt="%d"))


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_numbers(file: Path) -> np.ndarray:
    """(V,) int64 from a file with a whole number a line."""
    try:
        return np.array(_text(file).split(), np.int64)
    except ValueError as error:
        raise InputError(f"{file} must hold a whole number a line: {error}") from None
