"""Model directories: ``model.safetensors``, ``model.yaml``, ``README.md``. Verified on reading, atomic on writing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import InputError
from ..files import write_atomic

WEIGHTS, CARD, CONFIG = "model.safetensors", "README.md", "model.yaml"
REQUIRED = {"method", "network", "input", "thresholds", "weights_sha256"}
OPTIONAL = {"name", "amodal", "training", "metrics", "normalisation"}
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
C, T = TypeVar("C"), TypeVar("T")
N = TypeVar("N", bound=torch.nn.Module)


@dataclass(frozen=True)
class ModelDirectory:
    """A verified model directory.

    Attributes:
        path: the folder.
        method: key of the segmenter registry.
        config: the whole of ``model.yaml``: ``network`` (constructor arguments), ``input`` (size, modalities, depth_range
            in metres), ``thresholds``, and where known ``training``, ``metrics``, ``amodal``, ``normalisation``.
        weights: state dict on the CPU.
    """

    path: Path
    method: str
    config: dict[str, Any] = field(repr=False)
    weights: dict[str, torch.Tensor] = field(repr=False)

    @classmethod
    def read(cls, directory: str | Path) -> ModelDirectory:
        """Read and verify a model directory.

        Raises:
            InputError: missing files, a pickle in place of safetensors, unknown or missing keys, a hash that differs.
        """
        path = Path(directory)
        config = read_config(path)
        weights_file = path / WEIGHTS
        if not weights_file.is_file():
            pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
            if pickles:
                raise InputError(f"{path}: {pickles[0]} is a pickle, which can run code when loaded: convert it to {WEIGHTS}")
            raise InputError(f"{path}: {WEIGHTS} is missing, copy the whole model directory")
        digest = sha256(weights_file)
        if digest != config["weights_sha256"]:
            raise InputError(
                f"{weights_file}: sha256 is {digest[:12]}…, {CONFIG} says {str(config['weights_sha256'])[:12]}…: "
                "the file is truncated or belongs to another model, copy it again"
            )
        try:
            weights = load_file(weights_file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{weights_file} is not a safetensors file: {error}") from None
        return cls(path, config["method"], config, weights)

    def build(self, network: Callable[[C], N], config: Callable[..., C], thresholds: Callable[[dict[str, Any]], T]) -> tuple[N, T]:
        """The network with its weights, and the thresholds.

        Args:
            network, config: the module, and the dataclass that it is made from, whose fields are the keys of section network.
            thresholds: reads that section.

        Raises:
            InputError: a key that the method does not have, a value that it refuses, weights that do not fit.
        """
        try:
            built = network(config(**self.config["network"]))
            read = thresholds(self.config["thresholds"])
        except TypeError as error:
            raise InputError(f"{self.path / CONFIG}: {error}") from None
        self.load_into(built)
        return built, read

    def load_into(self, network: torch.nn.Module) -> None:
        """Copy the weights into ``network``; every name and shape must match."""
        try:
            network.load_state_dict(self.weights, strict=True)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise InputError(f"{self.path}: weights do not fit the network of {CONFIG}: {first}") from None


def read_config(directory: str | Path) -> dict[str, Any]:
    """Read and check ``model.yaml`` alone (what ``instseg models`` lists)."""
    path = Path(directory)
    if not path.is_dir():
        raise InputError(f"model directory {path} does not exist: see `instseg models` for those that ship")
    file = path / CONFIG
    if not file.is_file():
        raise InputError(f"{path}: {CONFIG} is missing, this is not a model directory")
    try:
        config = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(config, dict):
        raise InputError(f"{file} must hold keys and values, got {type(config).__name__}")
    missing, unknown = REQUIRED - config.keys(), config.keys() - REQUIRED - OPTIONAL
    if missing:
        raise InputError(f"{file}: key {sorted(missing)[0]!r} is missing")
    if unknown:
        raise InputError(f"{file}: unknown key {sorted(map(str, unknown))[0]!r}, written by another version?")
    for key in ("network", "input", "thresholds"):
        if not isinstance(config[key], dict):
            raise InputError(f"{file}: {key!r} must hold keys and values, got {config[key]!r}")
    return config


def write_model(
    directory: str | Path, *, config: dict[str, Any], weights: dict[str, torch.Tensor], card: str
) -> None:
    """Write a model directory; ``weights_sha256`` is filled in. ``model.yaml`` comes last, so a directory that has one is whole."""
    path = Path(directory)
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomic(path / WEIGHTS, lambda file: save_file(tensors, file))
    write_atomic(path / CARD, lambda file: file.write_text(card))
    config = {**config, "weights_sha256": sha256(path / WEIGHTS)}
    text = yaml.safe_dump(config, sort_keys=False, width=120)
    write_atomic(path / CONFIG, lambda file: file.write_text(text))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
