"""``instseg models``: the models that come with the package, with the figures of their cards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..cli import add_common_arguments
from ..errors import InputError

HELP = "List the models that are shipped, or those in another folder, with the figures of their cards."
EXAMPLE = "instseg models"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("folder", nargs="?", metavar="DIR", help="folder of model directories (default: the shipped ones)")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Print one block a model; a directory that is broken is listed with what is wrong."""
    from ..resources import share_directory

    folder = Path(args.folder) if args.folder else share_directory() / "models"
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist: give a folder that holds model directories")
    models = [_read(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    if not models:
        print(f"no models in {folder}: train one with `instseg train`")
    for model in models:
        print(_block(model))
    return {"models": models}


def _read(path: Path) -> dict[str, Any]:
    from ..methods.model_directory import WEIGHTS, read_config

    try:
        config = read_config(path)
    except InputError as error:
        return {"name": path.name, "error": str(error)}
    weights = path / WEIGHTS
    return {
        "name": path.name,
        "path": str(path),
        "method": config["method"],
        "input": config["input"],
        "amodal": bool(config.get("amodal", False)),
        "weights_mb": round(weights.stat().st_size / 1e6, 2) if weights.is_file() else None,
        "training": config.get("training"),
        "metrics": config.get("metrics"),
    }


def _block(model: dict[str, Any]) -> str:
    if "error" in model:
        return f"{model['name']}\n  broken: {model['error']}"
    size = "weights missing" if model["weights_mb"] is None else f"{model['weights_mb']} MB"
    lines = [f"{model['name']}  ({model['method']}, {size})", f"  input    {_line(model['input'])}"]
    for key in ("training", "metrics"):
        if model[key]:
            lines.append(f"  {key:<8} {_line(model[key])}")
    return "\n".join(lines)


def _line(value: Any) -> str:
    """Nested keys and values on one line; long text is cut."""
    if isinstance(value, dict):
        return ", ".join(f"{k} ({_line(v)})" if isinstance(v, dict) else f"{k} {_line(v)}" for k, v in value.items())
    if isinstance(value, float):
        return format(value, ".4g")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_line(v) for v in value) + "]"
    return str(value)[:120]
