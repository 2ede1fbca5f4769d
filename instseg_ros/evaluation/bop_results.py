"""Results in the COCO format of the BOP Challenge, as bop_toolkit's ``eval_bop22_coco.py --ann_type segm`` reads them.

bop_toolkit (checked with commit cea62d6 and BOP's fork of pycocotools) gives such a file the same twelve scores as
``Evaluation``, which test/test_coco.py holds fast. Where the two would part, this is what makes them agree:

- Both ignore true instances of which less than 10 % is visible (``protocol.MIN_VISIBLE``); BOP's fork of pycocotools honours
  the ``ignore`` that ``calc_gt_coco.py`` writes, the original does not.
- No ``bbox`` is written: pycocotools would take a detection's area from it, which moves AP by size, and BOP's boxes are those
  of the whole silhouette, which a visible mask does not tell.
- Scores keep all their digits: rounded ones could tie, and ties are ranked by place.
- bop_toolkit scores each part (``obj_id``) and takes the mean. For a set of several parts that is the mean of our
  ``per_part``; our own figure pools them, since nobody tells the methods what to look for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import write_atomic
from ..instances import Instances
from .coco import encode_labels


class BopResults:
    """Collects detections and writes them as one JSON list.

    Args:
        parts: obj_id of every part of the data set.
    """

    def __init__(self, parts: Iterable[int]) -> None:
        self.parts, self.rows = sorted(parts), []

    def add(self, key: tuple[int, int], instances: Instances, seconds: float, object_ids: np.ndarray) -> None:
        """Add the detections of one image.

        Args:
            key: (scene_id, image_id).
            instances: the answer; its labels are class-agnostic.
            seconds: time of this image (bop_toolkit wants one value for all detections of an image).
            object_ids: obj_id of the parts that lie in this bin: known to whoever filled it.

        Raises:
            InputError: more than one kind of part: nothing here says which detection is which.
        """
        kinds = np.unique(object_ids).tolist() or self.parts[:1] or [1]  # an empty bin has no part; bop_toolkit leaves it out
        if len(kinds) > 1:
            raise InputError(
                f"image {key} holds parts {kinds}: BOP results need one part an image, since the labels are "
                "class-agnostic; leave --bop out"
            )
        masks = encode_labels(instances.labels, len(instances))
        for mask, score, pixels in zip(masks, instances.score, instances.pixels):
            if pixels:
                self.rows.append(
                    {
                        "scene_id": int(key[0]),
                        "image_id": int(key[1]),
                        "category_id": int(kinds[0]),
                        "score": float(score),
                        "segmentation": {"size": list(map(int, mask["size"])), "counts": _text(mask["counts"])},
                        "time": float(seconds),
                    }
                )

    def write(self, path: str | Path) -> None:
        """Write the JSON; bop_toolkit expects the name ``METHOD_DATASET-SPLIT.json``."""
        text = json.dumps(self.rows)
        write_atomic(path, lambda temporary: temporary.write_text(text))


def _text(counts: bytes | str) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts
