"""The executables: each imports its node with Ctrl-C set to end the process at once.

The imports take a second or more, in which Python's own handler would print a traceback. ``runner`` sets the nodes' handlers.
"""

from __future__ import annotations

import importlib
import signal
from functools import partial


def run(module: str) -> int:
    """``main()`` of a module of this folder. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return importlib.import_module(f"{__package__}.{module}").main()


NAMES = ("segmenter", "bag_player", "evaluator", "grasp_planner", "camera.node")
segmenter, bag_player, evaluator, grasp_planner, camera = (partial(run, name) for name in NAMES)
