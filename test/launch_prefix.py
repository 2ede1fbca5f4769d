"""The package as if it were installed, from the source tree, for ``launch``; and packages that it starts but that are not here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from conftest import ROOT

NODES = ("segmenter", "bag_player", "evaluator", "camera", "grasp_planner")
ECHO = """#!/bin/sh
echo "$(basename "$0") was started as $*"
for word; do [ -f "$word" ] && cat "$word"; done
exec sleep 600
"""
"""Says how it was started, with the parameter files that launch wrote for it."""


def make_prefix(folder: Path) -> str:
    """Fill ``folder`` and return the AMENT_PREFIX_PATH that has it first."""
    (folder / "share").mkdir(parents=True)
    (folder / "share" / "instseg_ros").symlink_to(ROOT)
    for name in NODES:
        _executable(folder, "instseg_ros", name, f'#!/bin/sh\nexec {sys.executable} -m instseg_ros.nodes.{name} "$@"\n')
    _executable(folder, "realsense2_camera", "realsense2_camera_node", ECHO)
    _executable(folder, "rviz2", "rviz2", ECHO)
    return os.pathsep.join([str(folder), os.environ.get("AMENT_PREFIX_PATH", sys.prefix)])


def _executable(prefix: Path, package: str, name: str, script: str) -> None:
    index = prefix / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True, exist_ok=True)
    (index / package).touch()
    path = prefix / "lib" / package / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)
