"""The remedies of the improved InSeGAN, each switched off alone: what does it bring?"""

from __future__ import annotations

from typing import Any

OFF: dict[str, dict[str, dict[str, Any]]] = {
    # in the answer alone
    "no refinement": {"thresholds": {"refine_steps": 0}},
    "no search": {"thresholds": {"search": False}},
    "neither (encoder alone)": {"thresholds": {"refine_steps": 0, "search": False}},
    "no half turns in the answer": {"thresholds": {"half_turns": False}},
    "five parts at most": {"thresholds": {"most": 5}},
    # in training too
    "no half turns at all": {"template": {"half_turns": False}, "pool": {"half_turns": False}, "thresholds": {"half_turns": False}},
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
