"""What the thresholds of all methods have in common: they are read from ``model.yaml`` and from training configurations."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from ..errors import InputError

T = TypeVar("T")


def read_thresholds(kind: type[T], values: dict[str, Any], *, section: str = "thresholds") -> T:
    """Make the thresholds (a dataclass), or another ``section``, of a method. InputError: a key that it does not have."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = values.keys() - set(known)
    if unknown:
        raise InputError(f"{section}: unknown key {sorted(unknown)[0]!r}, known are {', '.join(known)}")
    return kind(**values)


def check_turns(turns: int) -> None:
    """InputError unless the camera can be rolled by 360°/``turns`` without resampling the image."""
    if turns not in (1, 2, 4):
        raise InputError(f"thresholds.turns must be 1, 2 or 4, got {turns!r}")
