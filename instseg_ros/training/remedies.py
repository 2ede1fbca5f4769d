"""The remedies of the improved InSeGAN, each switched off alone: what does it bring?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from ..methods.model_directory import ModelDirectory, write_model

OFF: dict[str, dict[str, dict[str, Any]]] = {
    # in the answer alone
    "no refinement": {"thresholds": {"refine_steps": 0}},
    "no search": {"thresholds": {"search": False}},
    "neither (encoder alone)": {"thresholds": {"refine_steps": 0, "search": False}},
    "no half turns in the answer": {"thresholds": {"half_turns": False}},
    "five parts at most": {"thresholds": {"most": 5}},
    # in training too
    "no half turns at all": {"template": {"half_turns": False}, "pool": {"half_turns": False}, "thresholds": {"half_turns": False}},
    "no branches of the template": {"template": {"branches": 0}},
    "no bores in the template": {"template": {"bores": False}},
    "smooth to the last": {"template": {"detail": 0.02}},
    "no polish of the template": {"template": {"polish": 0}},
    "mean, no z-buffer": {"network": {"composition": "mean"}},
    "no perspective": {"network": {"perspective": False}},
    "one hypothesis of the rotation": {"network": {"hypotheses": 1}},
    "encoder on drawn images only": {"loss": {"real": 0.0}},
    "always all parts drawn": {"loss": {"drop": 0.0}},
}
"""Name of the row → what it changes in the configuration. A change of ``thresholds`` alone needs no training."""


def answer_only(change: dict[str, dict[str, Any]]) -> bool:
    """Whether a change concerns the answer alone: the trained weights stay."""
    return change.keys() == {"thresholds"}


def switch(source: Path, folder: Path, name: str, change: dict[str, dict[str, Any]]) -> int:
    """Write the model ``source`` to ``folder`` with the thresholds of ``change``; all others, also those chosen in training, stay.

    Returns:
        how many images it was trained on.
    """
    model = ModelDirectory.read(source)
    if model.method != "insegan":
        raise InputError(f"{source} is a model of {model.method}: give one of insegan")
    config = {**model.config, "name": folder.name, "thresholds": {**model.config["thresholds"], **change.get("thresholds", {})}}
    write_model(folder, config=config, weights=model.weights, card=f"# {name}\n\nThe weights of {source}, with the thresholds {change}.\n")
    return int(config.get("training", {}).get("distinct", 0)) or 1  # 0 would say that nothing was trained
