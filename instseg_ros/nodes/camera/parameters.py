"""Parameters of the camera node. Those that realsense2_camera has, too, have its names and meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from ...errors import InputError
from ..parameters import Spec, check, declare, values
from .filters import FILTER_SPECS

SERIAL = "Serial number of the camera, empty = the first one found. On the command line put _ before it, so that it stays text."
SPECS: dict[str, Spec] = {
    "serial_no": Spec("", SERIAL),
    "rosbag_filename": Spec("", "RealSense recording (.db3, .bag) to play in place of a camera."),
    "loop": Spec(True, "Recording: begin anew at its end."),
    "real_time": Spec(True, "Recording: as fast as it was recorded; false: each frame, as fast as they are taken."),
    "software": Spec(
        "", "What a software device shows in place of a camera: scene (boxes in a bin), bundled, or the path of a rosbag2 or BOP data set."
    ),
    "camera_name": Spec("", "First part of the frames' names; empty = the name of the node."),
    "publish_tf": Spec(True, "Publish the transforms between the camera's frames on /tf_static."),
    "base_frame_id": Spec("link", "Last part of the name of the frame that the camera's others hang on; camera_name and _ come before it."),
    "depth_module.depth_profile": Spec("0x0x0", "Depth stream: width x height x frames per second; 0 = the camera's default."),
    "rgb_camera.color_profile": Spec("0x0x0", "Color stream: width x height x frames per second; 0 = the camera's default."),
    "enable_color": Spec(True, "Use the color camera."),
    "align_depth.enable": Spec(True, "Publish depth aligned to color."),
    **FILTER_SPECS,
    "frame_timeout": Spec(3.0, "Seconds without a frame after which the camera is opened anew.", 0.5, 60.0),
    "reconnect_timeout": Spec(6.0, "Seconds between two attempts to open a camera that is not there.", 0.1, 60.0),
}
AT_ANY_TIME = {*FILTER_SPECS, "frame_timeout", "reconnect_timeout"}
"""The others change only while the node is unconfigured."""
_PROFILE = re.compile(r"(\d+)[x,](\d+)[x,](\d+)")


@dataclass(frozen=True)
class Profile:
    """A stream that is asked for, 0 = any: pixels and frames per second."""

    width: int
    height: int
    fps: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.fps}"


class CameraParameters(dict[str, Any]):
    """Checked values by name.

    Raises:
        InputError: a value that cannot be used, with the reason.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        # A YAML or command line makes a number of a serial number; realsense2_camera takes _ before it as a remedy.
        self["serial_no"] = str(given["serial_no"]).removeprefix("_")
        check(self, SPECS)
        self.depth_profile = _profile(self, "depth_module.depth_profile")
        self.color_profile = _profile(self, "rgb_camera.color_profile")
        if self["rosbag_filename"] and self["software"]:
            raise InputError(
                f"rosbag_filename is {self['rosbag_filename']!r} and software is {self['software']!r}: give one of them"
            )
        if self["align_depth.enable"] and not self["enable_color"]:
            raise InputError("align_depth.enable needs the color camera: set enable_color to true, or align_depth.enable to false")

    def changed(self, new: CameraParameters) -> set[str]:
        """Names whose values differ in ``new``."""
        return {name for name, value in self.items() if value != new[name]}


def declare_parameters(node: Node) -> None:
    """Declare every parameter with its description and range."""
    declare(node, {name: spec for name, spec in SPECS.items() if name != "serial_no"})
    node.declare_parameter("serial_no", "", ParameterDescriptor(description=SERIAL, dynamic_typing=True))


def read_parameters(node: Node, changes: Iterable[Any] = ()) -> CameraParameters:
    """The node's parameters with ``changes`` (``rclpy.Parameter``) made. InputError as above."""
    return CameraParameters(values(node, SPECS, changes))


def _profile(wanted: Mapping[str, Any], name: str) -> Profile:
    match = _PROFILE.fullmatch(wanted[name].replace(" ", ""))
    if match is None:
        raise InputError(f"{name} must be width x height x frames per second such as 640x480x30, got {wanted[name]!r}")
    return Profile(*map(int, match.groups()))
