"""Values of configurations that come from YAML."""

from __future__ import annotations

from typing import Any


def lists_to_tuples(config: Any) -> None:
    """Give a frozen dataclass the tuples that its fields ask for where YAML, which has none, gave lists."""
    for name, value in vars(config).items():
        if isinstance(value, list):
            object.__setattr__(config, name, tuple(value))
