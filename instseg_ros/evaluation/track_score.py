"""Do ids stay with their parts? The measures of multiple-object tracking over one sequence.

CLEAR MOT: Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008. IDF1: Ristani et al.,
"Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", 2016.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.optimize import linear_sum_assignment

from .metrics import one_to_one, overlap
from .protocol import MATCH_IOU, counted


class TrackScore:
    """Add the frames of one sequence in order, then ask for the ``result``."""

    def __init__(self) -> None:
        self._frames = self._true = self._found = self._matches = self._switches = self._handed_on = 0
        self._id_of: dict[int, int] = {}
        self._part_of: dict[int, int] = {}
        self._together: Counter[tuple[int, int]] = Counter()

    def add(
        self, true: np.ndarray, numbers: np.ndarray, visible_fraction: np.ndarray, found: np.ndarray, ids: np.ndarray
    ) -> None:
        """One frame.

        Args:
            true: (H, W) integers, the number of the part at each pixel, 0 = none.
            numbers: (n,) of the parts that are there, and visible_fraction (n,) of each. Parts that are hardly visible
                (``protocol.MIN_VISIBLE``) are ignored, and what is found of them too.
            found: (H, W) integers, 0 = none, 1…N.
            ids: (N,) that the tracker gave to them.
        """
        iou = overlap(true, found, int(true.max(initial=0)), len(ids))[1]
        rows = np.zeros((len(numbers), len(ids)))
        there = numbers <= len(iou)
        rows[there] = iou[numbers[there] - 1]
        rows[rows < MATCH_IOU] = 0
        before = np.array([[self._id_of.get(int(n)) == i for i in ids] for n in numbers], bool).reshape(rows.shape)
        match, _ = one_to_one(rows + (before & (rows > 0)))  # pairs that go on come first
        counts = counted(visible_fraction)
        ignored = np.isin(np.arange(len(ids)), match[(match >= 0) & ~counts])
        self._frames += 1
        self._true += int(counts.sum())
        self._found += int((~ignored).sum())
        for number, column in zip(numbers[counts & (match >= 0)].tolist(), match[counts & (match >= 0)]):
            self._meet(number, int(ids[column]))
        for row, column in zip(*np.nonzero(rows * counts[:, None])):
            self._together[int(numbers[row]), int(ids[column])] += 1

    def _meet(self, number: int, id_: int) -> None:
        """A part was found under this id."""
        self._matches += 1
        self._switches += self._id_of.setdefault(number, id_) != id_
        self._handed_on += self._part_of.setdefault(id_, number) != number
        self._id_of[number], self._part_of[id_] = id_, number

    def result(self) -> dict:
        """Keys: frames; matches (true parts found, IoU ≥ 0.5, summed over the frames); switches (CLEAR MOT's IDSW) and
        switch_share of the matches; handed_on (ids that went over to another part); MOTA; IDF1."""
        misses, wrong = self._true - self._matches, self._found - self._matches
        same = self._same_identity()
        return {
            "frames": self._frames,
            "matches": self._matches,
            "switches": self._switches,
            "switch_share": self._switches / max(self._matches, 1),
            "handed_on": self._handed_on,
            "MOTA": 1 - (misses + wrong + self._switches) / max(self._true, 1),
            "IDF1": 2 * same / max(self._true + self._found, 1),
        }

    def _same_identity(self) -> int:
        """IDTP: frames in which parts and ids agree, under the best one-to-one naming of parts by ids over the sequence."""
        parts, ids = (sorted({pair[side] for pair in self._together}) for side in (0, 1))
        table = np.zeros((len(parts), len(ids)))
        for (part, id_), count in self._together.items():
            table[parts.index(part), ids.index(id_)] = count
        return int(table[linear_sum_assignment(-table)].sum())
