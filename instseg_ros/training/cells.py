"""Cells of an experiment: folders that say what was asked for, and hold the result once it is there."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json, write_json

CELL = "cell.json"


def finished_or(folder: Path, request: dict[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result that ``folder`` holds, or else that of ``work``, which is then kept there.

    Args:
        request: all that the result depends on, as it comes back from JSON.

    Raises:
        InputError: the folder is of another request.
    """
    file = folder / CELL
    stored = read_json(file) if file.is_file() else {"request": request}
    if not isinstance(stored, dict) or stored.get("request") != request:
        raise InputError(f"{file} is of another configuration, number of steps or test images: choose another --out")
    if stored.get("result") is None:
        write_json(file, {"request": request})
        stored["result"] = work()
        write_json(file, {"request": request, "result": stored["result"]})
    return stored["result"]


def changed(config: dict[str, Any], *changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A configuration with the values of ``changes`` in its sections, later ones last."""
    result = deepcopy(config)
    for change in changes:
        for section, values in change.items():
            result[section] = {**result.get(section, {}), **values}
    return result


def slug(name: str) -> str:
    """A folder's name: letters, digits, dots and dashes."""
    return "-".join("".join(c if c.isalnum() or c == "." else " " for c in name).split()).lower()
