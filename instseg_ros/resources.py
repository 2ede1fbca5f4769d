"""Where the files lie that come with the package: models, config, launch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import InputError

PACKAGE = "instseg_ros"
DEFAULT_MODEL = "clusternet-bin"


def share_directory() -> Path:
    """The folder that holds ``models/`` and ``config/``: the source tree, a colcon install space, or pip's prefix.

    Raises:
        InputError: none of them has it.
    """
    source = Path(__file__).resolve().parents[1]  # resolved: --symlink-install links into the source tree
    if (source / "package.xml").is_file() or (source / "config").is_dir():
        return source
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in (*prefixes, sys.prefix):
        share = Path(prefix) / "share" / PACKAGE
        if share.is_dir():
            return share
    raise InputError(f"the share folder of {PACKAGE} is missing: install the package, or source its workspace")


def find_model(name: str) -> Path:
    """Model directory of a path, or of a shipped model's name; an empty ``name`` means the default model.

    A path that does not exist is returned as it is: reading it says what is wrong.
    """
    path = Path(name or DEFAULT_MODEL).expanduser()
    if path.is_dir() or path.is_absolute():
        return path
    shipped = share_directory() / "models" / path
    return shipped if shipped.is_dir() or not name else path


def find_bag(name: str | Path = "") -> Path:
    """Path of a bag; an empty ``name`` means the bundled one."""
    return Path(name).expanduser() if name else share_directory() / "resource" / "demo_bag"
