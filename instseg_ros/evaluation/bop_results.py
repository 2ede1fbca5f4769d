"""Results in the COCO format of the BOP Challenge, as bop_toolkit's ``eval_bop22_coco.py`` reads them.

Format: docs/bop_challenge_2022 ("2D instance segmentation task") and ``inout.load_coco_results`` of bop_toolkit. Run-length
codes are uncompressed (column-major counts, background first), which both pycocotools and bop_toolkit take.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import write_atomic
from ..instances import Instances


class BopResults:
    """Collects detections and writes them as one JSON list."""

    def __init__(self) -> None:
        self.rows: list[dict] = []

    def add(self, key: tuple[int, int], instances: Instances, seconds: float, object_ids: np.ndarray) -> None:
        """Add the detections of one image.

        Args:
            key: (scene_id, image_id).
            instances: the answer; its labels are class-agnostic.
            seconds: time of this image (bop_toolkit wants one value for all detections of an image).
            object_ids: obj_id of the parts that may lie in this bin: known to whoever filled it.

        Raises:
            InputError: more than one kind of part: nothing here says which detection is which.
        """
        kinds = np.unique(object_ids)
        if len(kinds) > 1:
            raise InputError(
                f"image {key} holds parts {kinds.tolist()}: BOP results need one part an image, since the labels are "
                "class-agnostic; leave --bop out"
            )
        category = int(kinds[0]) if len(kinds) else 1
        for label in range(1, len(instances) + 1):
            mask = instances.labels == label
            if not mask.any():
                continue
            self.rows.append(
                {
                    "scene_id": int(key[0]),
                    "image_id": int(key[1]),
                    "category_id": category,
                    "score": round(float(instances.score[label - 1]), 6),
                    "bbox": bounding_box(mask),
                    "segmentation": run_lengths(mask),
                    "time": float(seconds),
                }
            )

    def write(self, path: str | Path) -> None:
        """Write the JSON; bop_toolkit expects the name ``METHOD_DATASET-SPLIT.json``."""
        text = json.dumps(self.rows)
        write_atomic(path, lambda temporary: temporary.write_text(text))


def bounding_box(mask: np.ndarray) -> list[int]:
    """[x, y, width, height] in pixels of a mask (H, W) bool with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed COCO run-length code of a mask (H, W) bool."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}
