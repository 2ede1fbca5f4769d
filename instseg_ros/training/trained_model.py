"""The model directory that a training leaves behind, with a first model card."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..methods.model_directory import write_model
from .config import plain


def write_trained(
    out: Path,
    network: nn.Module,
    thresholds: Any,
    *,
    method: str,
    what: str,
    trained: str,
    inputs: dict[str, Any],
    facts: dict[str, Any],
    metrics: dict[str, Any],
    layers: int | str | None = None,
    measured: str = "Validation metric",
    more: dict[str, Any] | None = None,
) -> None:
    """Write ``out`` from a network that has a dataclass ``config``.

    Args:
        thresholds: dataclass of the method's.
        what: the network in a few words. trained: what it was trained on, a sentence without its full stop.
        inputs, facts, metrics: ``input``, ``training`` and ``metrics`` of ``model.yaml``. more: further keys of it.
        layers: amodal layers that the model answers with, or a word about them; None = layer 0 only.
        measured: heading of the card's table of ``metrics``.
    """
    assert is_dataclass(network.config) and is_dataclass(thresholds)
    config = {
        "method": method,
        "name": out.name,
        "network": plain(asdict(network.config)),
        "input": inputs,
        "thresholds": plain(asdict(thresholds)),
        "amodal": layers is not None,
        **(more or {}),
        "training": facts,
        "metrics": metrics,
    }
    parameters = sum(p.numel() for p in network.parameters()) / 1e6
    answer = "Layers: layer 0 only (no amodal output)." if layers is None else f"Amodal layers: {layers}."
    rows = "\n".join(f"| {name} | {value} |" for name, value in metrics.items())
    card = (
        f"# {out.name}\n\n{what}; {parameters:.2f} M parameters.\n{answer}\n\n{trained}.\n\n"
        f"| {measured} | Value |\n| --- | --- |\n{rows}\n"
    )
    write_model(out, config=config, weights=network.state_dict(), card=card)
