"""Training configurations small enough for a test, as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write_config(folder: Path, sections: Mapping[str, Mapping[str, Any]], change: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """``folder/config.yaml`` of ``sections`` with the keys of ``change``, by section; its path."""
    config = {name: dict(section) for name, section in sections.items()}
    for name, values in (change or {}).items():
        config.setdefault(name, {}).update(values)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)
