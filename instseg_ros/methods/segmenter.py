"""What every method promises, and the registry that finds the class behind a model directory."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path

import torch

from ..errors import InputError
from ..frame import Frame
from ..instances import Instances
from .model_directory import ModelDirectory

REGISTRY = {
    "classical": "instseg_ros.methods.classical.segmenter:ClassicalSegmenter",
    "clusternet": "instseg_ros.methods.clusternet.segmenter:ClusterNetSegmenter",
    "insegan": "instseg_ros.methods.insegan.segmenter:InSeGANSegmenter",
    "layered": "instseg_ros.methods.layered.segmenter:LayeredSegmenter",
    "mtml": "instseg_ros.methods.mtml.segmenter:MTMLSegmenter",
    "mask2former": "instseg_ros.methods.mask2former.segmenter:Mask2FormerSegmenter",
}
"""``method`` of ``model.yaml`` → ``module:class``; imported only when asked for."""


class Segmenter(ABC):
    """Frame in, Instances out: no ROS, no files, no global state after loading.

    Attributes:
        needs_color: whether ``segment`` reads ``frame.color``.
        amodal: whether answers have layers behind the first.
        description: one line for diagnostics and reports.
    """

    needs_color: bool = False
    amodal: bool = False
    description: str = ""

    @classmethod
    @abstractmethod
    def from_model(cls, model: ModelDirectory, device: torch.device) -> Segmenter:
        """Build the segmenter from a verified model directory."""

    @classmethod
    def load(cls, directory: str | Path, device: str = "auto") -> Segmenter:
        """Read a model directory and build its segmenter; InputError names what is wrong with it."""
        return load_segmenter(directory, device)

    @abstractmethod
    def segment(self, frame: Frame) -> Instances:
        """Find the parts in one frame. Deterministic; a frame without valid depth gives no instances."""

    def unfiltered(self) -> Segmenter:
        """The same without its limit on scores, where it has one, for callers that know by themselves which parts there are."""
        return self

    def complaint(self, frame: Frame) -> str | None:
        """One sentence on why answers to such frames are not to be trusted (a moved camera, say), None as a rule. Cheap."""
        return None


def load_segmenter(directory: str | Path, device: str = "auto") -> Segmenter:
    """Model directory → segmenter on ``device`` (auto, cpu, cuda or cuda:N)."""
    model = ModelDirectory.read(directory)
    if model.method not in REGISTRY:
        raise InputError(
            f"{model.path / 'model.yaml'}: unknown method {model.method!r}, this version knows {', '.join(sorted(REGISTRY))}"
        )
    module, name = REGISTRY[model.method].split(":")
    return getattr(importlib.import_module(module), name).from_model(model, choose_device(device))


def choose_device(name: str) -> torch.device:
    """``auto`` takes the GPU where there is one; anything that torch cannot use here is an InputError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device {name!r} is unknown: use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise InputError(f"device {name!r} is not available here: use auto or cpu")
    return device
