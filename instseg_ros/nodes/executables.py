"""The executables: what has to be set ahead of a node's imports.

Ctrl-C ends the process at once: the imports take a second or more, in which Python's own handler would print a traceback;
``runner`` sets the nodes' handlers. Torch's threads are told how long to spin while they wait for each other.
"""

from __future__ import annotations

import importlib
import os
import signal
from functools import partial

SPINS = "100000"
"""Rounds that a thread of GNU OpenMP spins before it sleeps; its own 300 000 suit a machine without other work.

``segment()`` of clusternet-bin on two cores, 24 frames: beside two busy processes 298 ms instead of 619, alone 204 to 222
instead of 200 to 208; without spinning (``OMP_WAIT_POLICY=PASSIVE``) alone 266 to 301.
"""


def run(module: str) -> int:
    """``main()`` of a module of this folder. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    return importlib.import_module(f"{__package__}.{module}").main()


NAMES = ("segmenter", "bag_player", "evaluator", "grasp_planner", "camera.node")
segmenter, bag_player, evaluator, grasp_planner, camera = (partial(run, name) for name in NAMES)
