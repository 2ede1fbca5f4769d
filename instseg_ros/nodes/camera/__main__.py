"""``python -m instseg_ros.nodes.camera``."""

from ..executables import camera

raise SystemExit(camera())
