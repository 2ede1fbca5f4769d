"""The executables: what has to be set ahead of a node's imports.

Ctrl-C ends the process at once: the imports take a second or more, in which Python's own handler would print a traceback;
``runner`` sets the nodes' handlers. Torch's threads are told how long to spin while they wait for each other.
"""

from __future__ import annotations

import importlib
import os
import signal
from functools import partial

SPINS = "30000"
"""Rounds that a thread of GNU OpenMP spins before it sleeps; its own 300 000 suit a machine without other work.

``segment()`` of clusternet-bin on two cores, ms, median of 40 frames, two runs each on one slow afternoon:

=================  =========  =========  =========  =========  =========
rounds             0          1000       10 000     30 000     100 000
=================  =========  =========  =========  =========  =========
alone                         212, 212   198, 199   181, 171   172, 174
two busy others    392, 374   387, 345   429, 389   434, 371   559, 483
=================  =========  =========  =========  =========  =========
"""


def run(module: str) -> int:
    """``main()`` of a module of this folder. Returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    return importlib.import_module(f"{__package__}.{module}").main()


NAMES = ("segmenter", "bag_player", "evaluator", "grasp_planner", "camera.node")
segmenter, bag_player, evaluator, grasp_planner, camera = (partial(run, name) for name in NAMES)
