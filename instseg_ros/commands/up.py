"""``instseg up``: the nodes without launch."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from ..errors import InputError
from ..shared_memory import VARIABLE, fitting_profile

HELP = """Start the ROS 2 nodes in one process, with the parameters of config/bin_picking.yaml: what
`ros2 launch instseg_ros bin_picking.launch.py` does, for machines without launch. Ctrl-C ends it."""
EXAMPLE = "instseg up --source bag"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; what they mean is decided in ``nodes/up.py``."""
    parser.add_argument("--model", metavar="DIR", help="model directory or shipped model's name (default: that of the YAML)")
    parser.add_argument("--amodal-model", metavar="DIR", help="layered model that adds what is hidden (default: that of the YAML)")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N (default: that of the YAML)")
    parser.add_argument("--source", choices=["bag", "camera"], help="start this source too (default: a camera driver runs already)")
    parser.add_argument("--bag", metavar="FILE", help="rosbag2 for --source bag (default: the bundled one)")
    parser.add_argument("--params", metavar="FILE", help="parameters of the nodes (default: config/bin_picking.yaml)")
    parser.add_argument("--camera-namespace", help="camera_namespace of realsense2_camera (default: camera)")
    parser.add_argument("--camera-name", help="camera_name of realsense2_camera (default: camera)")


def run(args: argparse.Namespace) -> None:
    """Become the process of the nodes: signals then reach them and nothing stands in between."""
    if importlib.util.find_spec("rclpy") is None:
        raise InputError("ROS 2 is not on the path: source /opt/ros/<distribution>/setup.bash, or install the extra `ros`")
    names = ("model", "amodal_model", "device", "source", "bag", "params", "camera_namespace", "camera_name")
    words = [
        word for name in names if (value := getattr(args, name)) is not None for word in (f"--{name.replace('_', '-')}", value)
    ]
    os.environ[VARIABLE] = str(fitting_profile())
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "instseg_ros.nodes.up", *words])
