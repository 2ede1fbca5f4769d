"""What the evaluator does with one frame's messages, which come as received bytes: decode, score, draw."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from .. import clouds, images
from ..bags.decoding import decode_labels, decode_truth
from ..errors import InputError
from ..evaluation.evaluation import jsonable
from ..evaluation.side_by_side import side_by_side, write_picture
from ..instances import Instances
from ..timing import milliseconds
from .pairing import Collected

if TYPE_CHECKING:
    from ..bop import Truth

TYPES = {
    "depth": Image,
    "color": Image,
    "compressed_color": CompressedImage,
    "masks": Image,
    "instances": PointCloud2,
    "layers": Image,
    "true_masks": Image,
    "true_layers": Image,
    "true_instances": PointCloud2,
}
LATENCY = "depth image received by the evaluator → masks received by the evaluator"


@dataclass
class Scoring:
    """Collects frames and gives the result.

    Args:
        folder: for pictures, None = none.
        every: a picture of each ``every``-th frame, 0 = none.

    Attributes:
        part_names: object_id → name, filled by the owner.
        counts: seen (depth images), answered, scored, unanswered, without_truth.
        missing: why there are no metrics, empty where there are.
    """

    folder: Path | None = None
    every: int = 0
    part_names: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    missing: str = ""

    def __post_init__(self) -> None:
        self._evaluation: Any = None
        if importlib.util.find_spec("faster_coco_eval") is None:
            self.missing = "no metrics, only latency: faster-coco-eval is not installed (extra `eval`)"
        else:
            from ..evaluation import Evaluation

            self._evaluation = Evaluation()

    def add(self, frame: Collected) -> str:
        """Score one frame; returns a line about it. InputError when its messages do not belong together."""
        have = frame.messages.keys()
        if "depth" in have:
            self.counts["seen"] += 1
        if not {"masks", "instances"} <= have:
            self.counts["unanswered"] += "depth" in have
            return ""
        self.counts["answered"] += 1
        parts = []
        if "depth" in have:
            self.latencies.append(frame.arrived["masks"] - frame.arrived["depth"])
            parts.append(f"{self.latencies[-1] * 1e3:.0f} ms")
        instances = self._instances(frame)
        truth = self._truth(frame)
        if truth is None:
            self.counts["without_truth"] += 1
            parts.append(f"{len(instances)} parts found")
        elif self._evaluation is not None:
            figures = self._evaluation.add(truth, None, instances, key=frame.stamp_ns)
            self.counts["scored"] += 1
            overlap = "" if figures["mIoU"] is None else f", mIoU {figures['mIoU']:.2f}"
            parts.append(f"{', '.join(figures['part'])}: {figures['found']} found, {figures['true']} true{overlap}")
        text = "   ".join(reversed(parts))
        if self.folder is not None and self.every and (self.counts["answered"] - 1) % self.every == 0:
            self._draw(frame, instances, truth, text)
        return text

    def result(self, *, seed: int = 0) -> dict:
        """Scores (keys of ``Evaluation.result``; absent without truth), ``frames`` and ``latency_ms``."""
        scores = self._evaluation.result(seed=seed) if self.counts["scored"] else {}
        names = ("seen", "answered", "unanswered", "scored", "without_truth")
        frames = {name: self.counts[name] for name in names}
        return jsonable(
            scores | {"frames": frames, "latency_ms": milliseconds(self.latencies) | {"definition": LATENCY}}
        )

    def _instances(self, frame: Collected) -> Instances:
        layers = decode_labels(_decode(frame, "layers")) if "layers" in frame.messages else None
        labels = decode_labels(_decode(frame, "masks"))[0]
        return clouds.instances_from(labels, clouds.read_cloud(_decode(frame, "instances")), layers)

    def _truth(self, frame: Collected) -> Truth | None:
        if "true_masks" not in frame.messages:
            return None
        layers, instances = (
            _decode(frame, k) if k in frame.messages else None for k in ("true_layers", "true_instances")
        )
        return decode_truth(_decode(frame, "true_masks"), layers, instances, self.part_names)

    def _draw(self, frame: Collected, instances: Instances, truth: Truth | None, text: str) -> None:
        shape = instances.labels.shape
        depth = np.full(shape, np.nan, np.float32)
        if "depth" in frame.messages:
            image = _decode(frame, "depth")
            depth = images.decode_depth(*_raw(image))
        color = None
        if "color" in frame.messages:
            color = images.decode_color(*_raw(_decode(frame, "color")))
        elif "compressed_color" in frame.messages:
            image = _decode(frame, "compressed_color")
            color = images.decode_compressed_color(image.format, image.data)
        if depth.shape != shape or (color is not None and color.shape[:2] != shape):
            return
        picture = side_by_side(depth, color, instances.labels, None if truth is None else truth.labels, text)
        write_picture(self.folder / f"{self.counts['answered']:04d}.png", picture)


def _decode(frame: Collected, kind: str) -> Any:
    try:
        return deserialize_message(frame.messages[kind], TYPES[kind])
    except Exception as error:  # rclpy's own class for this is private
        raise InputError(f"the {kind} message is no {TYPES[kind].__name__}: {error}") from None


def _raw(image: Image) -> tuple[str, int, int, int, int, Any]:
    return image.encoding, image.height, image.width, image.step, image.is_bigendian, image.data
