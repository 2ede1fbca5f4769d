"""The classical baselines behind the Segmenter contract."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...frame import Frame
from ...geometry import deproject, depth_order, label_moments
from ...instances import Instances
from ..model_directory import ModelDirectory, write_model
from ..segmenter import Segmenter
from .scene import Scene

ALGORITHMS = {
    "components": "components:connected_components",
    "kmeans": "clusters:kmeans",
    "spectral": "clusters:spectral",
    "grabcut": "clusters:grabcut_kmeans",
    "graphcut": "graphs:graph_cut",
    "ncut": "graphs:normalised_cut",
    "felzenszwalb": "graphs:felzenszwalb",
}
"""Baseline name → ``module:function`` of this package; imported only when asked for."""
USES_COUNT = {"kmeans", "spectral", "grabcut", "graphcut", "ncut"}
"""Baselines that divide into a given number of parts; the others find as many as there are."""


class ClassicalSegmenter(Segmenter):
    """A classical algorithm on the points above the bin's floor.

    Args:
        name: a key of ``ALGORITHMS``.
        min_pixels: smaller segments are dropped.
        depth_range: metres, readings outside it are ignored.
        floor_height: metres above the floor plane at which a part begins.
        seed: of the plane fit and of the algorithm.
        parameters: keyword arguments of the algorithm.
    """

    def __init__(
        self,
        name: str,
        *,
        min_pixels: int = 60,
        depth_range: tuple[float, float] = (0.05, 10.0),
        floor_height: float = 0.005,
        seed: int = 0,
        **parameters: Any,
    ) -> None:
        if name not in ALGORITHMS:
            raise InputError(f"unknown baseline {name!r}: choose {', '.join(ALGORITHMS)}")
        module, function = ALGORITHMS[name].split(":")
        self.algorithm = getattr(importlib.import_module(f".{module}", __package__), function)
        known = inspect.signature(self.algorithm).parameters.keys() - {"scene", "count", "seed"}
        if parameters.keys() - known:
            raise InputError(f"baseline {name} has no parameter {min(parameters.keys() - known)!r}: it has {', '.join(sorted(known))}")
        self.name, self.parameters, self.seed = name, parameters, seed
        self.min_pixels, self.depth_range, self.floor_height = min_pixels, depth_range, floor_height
        self.description = f"classical {name}"

    @classmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> ClassicalSegmenter:
        """Build from ``network: {name: …, <parameters>}``, ``thresholds.min_pixels`` and ``input.depth_range``."""
        network = dict(model.config["network"])
        options = {"min_pixels": model.config["thresholds"].get("min_pixels", 60)}
        if "depth_range" in model.config["input"]:
            options["depth_range"] = tuple(model.config["input"]["depth_range"])
        try:
            return cls(network.pop("name", "components"), **options, **network)
        except (TypeError, InputError) as error:
            raise InputError(f"{model.path / 'model.yaml'}: {error}") from None

    def segment(
        self, frame: Frame, *, count: int | None = None, foreground: np.ndarray | None = None
    ) -> Instances:
        """Find the parts in one frame.

        Args:
            frame: the view; colour is not used.
            count: number of parts where it is known; algorithms that need it estimate it otherwise.
            foreground: (H, W) bool of the pixels that belong to parts, where it is known (a recorded empty bin, or the
                truth, as in InSeGAN's metric); else what stands above the floor plane.
        """
        near, far = self.depth_range
        with np.errstate(invalid="ignore"):
            depth = np.where((frame.depth >= near) & (frame.depth <= far), frame.depth, np.float32(np.nan))
        scene = Scene.build(depth, frame.K, foreground, height=self.floor_height, seed=self.seed)
        if scene is None:
            return Instances.empty(frame.shape)
        labels = self.algorithm(scene, count=count, seed=self.seed, **self.parameters)
        return to_instances(scene.full(labels, frame.shape), depth, deproject(depth, frame.K), self.min_pixels)


def to_instances(labels: np.ndarray, depth: np.ndarray, points: np.ndarray, min_pixels: int) -> Instances:
    """(H, W) integer labels of any numbering → Instances: small ones dropped, rows ordered by size.

    The score is the share of the label's bounding box that it fills times the saturating size ``1 − exp(−pixels / 500)``:
    classical methods have no confidence of their own, and fragments are the usual mistake.
    """
    ids, flat, pixels = np.unique(labels, return_inverse=True, return_counts=True)
    keep = [i for i in np.argsort(-pixels, kind="stable") if ids[i] > 0 and pixels[i] >= min_pixels]
    if not keep:
        return Instances.empty(labels.shape)
    table = np.zeros(len(ids), np.uint16)
    table[keep] = np.arange(1, len(keep) + 1)
    labels, n = table[flat.reshape(labels.shape)], len(keep)
    centroid, covariance, count = label_moments(labels, points, n)
    centroid[count == 0], covariance[count == 0] = 0, 0
    rows, cols = np.nonzero(labels)
    index = labels[rows, cols].astype(np.int64) - 1
    box = np.ones(n)
    for axis in (rows, cols):
        low, high = np.full(n, np.iinfo(np.int64).max), np.zeros(n, np.int64)
        np.minimum.at(low, index, axis)
        np.maximum.at(high, index, axis)
        box *= high - low + 1
    size = pixels[keep]
    return Instances(
        labels=labels,
        score=(size / box * -np.expm1(-size / 500.0)).astype(np.float32),
        centroid=centroid.astype(np.float32),
        covariance=covariance.astype(np.float32),
        visible_fraction=np.full(n, np.nan, np.float32),
        depth_order=depth_order(labels, depth, n),
    )


def write_classical_model(directory: str | Path, name: str = "components", **parameters: Any) -> None:
    """Write a model directory for a baseline, so that nodes and commands load it like any other model."""
    config = {
        "name": f"classical-{name}",
        "method": "classical",
        "network": {"name": name, **parameters},
        "input": {"modalities": ["depth"]},
        "thresholds": {"min_pixels": 60},
        "amodal": False,
    }
    card = f"# classical-{name}\n\nA baseline without weights: `instseg_ros/methods/classical/`, algorithm `{name}`.\n"
    write_model(directory, config=config, weights={"none": torch.zeros(0)}, card=card)
