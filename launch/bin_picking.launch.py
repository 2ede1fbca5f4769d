"""Segment the bin under a depth camera: the camera and RViz on request, and the segmenter wired to realsense2_camera's topics.

    ros2 launch instseg_ros bin_picking.launch.py camera:=realsense rviz:=true
    ros2 launch instseg_ros bin_picking.launch.py namespace:=left camera_namespace:=left camera_name:=left_camera    # one of two
"""

import tempfile
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from instseg_ros.shared_memory import VARIABLE, fitting_profile

SHARE = Path(get_package_share_directory("instseg_ros"))
BOOLEAN = ["true", "false"]
CAMERA_FRAME = "camera_color_optical_frame"
"""In the RViz configuration."""
RESPAWN_DELAY = 2.0
"""Seconds."""
PATIENCE = "20"
"""Seconds from SIGINT to SIGTERM: the frame in hand is finished, which may take some on a slow computer."""

ARGUMENTS = [
    DeclareLaunchArgument("model", default_value="", description="Model directory or shipped model's name; empty: that of params_file."),
    DeclareLaunchArgument("amodal_model", default_value="", description="Layered model that adds what is hidden; empty: that of params_file."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N; empty: that of params_file."),
    DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "bin_picking.yaml"), description="Parameters of the nodes."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node; for two cameras, two namespaces."),
    DeclareLaunchArgument("target_frame", default_value="", description="tf2 frame of positions, such as base_link; empty: the camera's."),
    DeclareLaunchArgument(
        "camera",
        default_value="none",
        choices=["none", "realsense", "instseg"],
        description="Driver to start: none (it runs), realsense (realsense2_camera), instseg (this package's, on pyrealsense2).",
    ),
    DeclareLaunchArgument("camera_namespace", default_value="camera", description="Namespace of the camera, as of realsense2_camera."),
    DeclareLaunchArgument("camera_name", default_value="camera", description="Name of the camera, as of realsense2_camera."),
    DeclareLaunchArgument("serial_no", default_value="", description="Serial number of the camera to start; empty: the first found."),
    DeclareLaunchArgument("autostart", default_value="true", choices=BOOLEAN, description="false: a lifecycle manager starts the nodes."),
    DeclareLaunchArgument("respawn", default_value="false", choices=BOOLEAN, description="Start a node anew that ended by itself."),
    DeclareLaunchArgument("use_sim_time", default_value="false", choices=BOOLEAN, description="Take the time from /clock (bags)."),
    DeclareLaunchArgument("rviz", default_value="false", choices=BOOLEAN, description="Open RViz with the overlay, cloud and markers."),
    DeclareLaunchArgument(
        "log_level", default_value="info", choices=["debug", "info", "warn", "error", "fatal"], description="Of camera and segmenter."
    ),
]


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    return LaunchDescription(
        [
            *ARGUMENTS,
            SetEnvironmentVariable(VARIABLE, str(fitting_profile())),  # images need room; a profile of the user's own stays
            OpaqueFunction(function=make_nodes),
        ]
    )


def make_nodes(context: LaunchContext) -> list[Node]:
    """The nodes for the arguments' values."""
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    nodes = [segmenter(values)]
    if values["camera"] != "none":
        nodes.append(camera(values))
    if values["rviz"] == "true":
        nodes.append(rviz(values))
    return nodes


def segmenter(values: dict[str, str]) -> Node:
    """The segmenter; what an argument leaves empty is as ``params_file`` has it."""
    camera_topics = path(values["camera_namespace"], values["camera_name"])
    overrides = {name: values[name] == "true" for name in ("autostart", "use_sim_time")}
    overrides.update({name: text(values[name]) for name in ("model", "amodal_model", "device", "target_frame") if values[name]})
    return Node(
        package="instseg_ros",
        executable="segmenter",
        name="instseg",
        namespace=values["namespace"],
        parameters=[values["params_file"], overrides],
        remappings=[
            ("depth/image", f"{camera_topics}/aligned_depth_to_color/image_raw"),
            ("depth/camera_info", f"{camera_topics}/aligned_depth_to_color/camera_info"),
            ("color/image", f"{camera_topics}/color/image_raw"),
        ],
        **process(values, values["namespace"], "instseg"),
    )


def camera(values: dict[str, str]) -> Node:
    """A driver that publishes depth aligned to colour."""
    ours = values["camera"] == "instseg"
    overrides = {"align_depth.enable": True}
    if values["serial_no"]:
        overrides["serial_no"] = text(values["serial_no"].removeprefix("_"))
    if ours:
        overrides["autostart"] = values["autostart"] == "true"
    return Node(
        package="instseg_ros" if ours else "realsense2_camera",
        executable="camera" if ours else "realsense2_camera_node",
        name=values["camera_name"],
        namespace=values["camera_namespace"],
        parameters=[*([values["params_file"]] if ours else [{"camera_name": text(values["camera_name"])}]), overrides],
        **process(values, values["camera_namespace"], values["camera_name"]),
    )


def rviz(values: dict[str, str]) -> Node:
    """RViz on the topics of this segmenter, seen from this camera, in the frame that the answers are in."""
    shipped = SHARE / "config" / "bin_picking.rviz"
    frame = f"{values['camera_name']}_color_optical_frame"
    config = shipped.read_text().replace(" /instseg/", f" {path(values['namespace'])}/instseg/").replace(CAMERA_FRAME, frame)
    with tempfile.NamedTemporaryFile("w", prefix="instseg_", suffix=".rviz", delete=False) as file:
        file.write(config)
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=values["namespace"],
        arguments=["-d", file.name, "-f", values["target_frame"] or frame],
        parameters=[{"use_sim_time": values["use_sim_time"] == "true"}],
        output="screen",
    )


def process(values: dict[str, str], namespace: str, name: str) -> dict[str, object]:
    """How a node's process is run."""
    logger = path(namespace, name).strip("/").replace("/", ".")
    return {
        "arguments": ["--ros-args", "--log-level", f"{logger}:={values['log_level']}"],
        "output": "screen",
        "respawn": values["respawn"] == "true",
        "respawn_delay": RESPAWN_DELAY,
        "sigterm_timeout": PATIENCE,
    }


def path(*names: str) -> str:
    """Names of ROS as one with a slash before each; empty ones are left out."""
    return "".join(f"/{name.strip('/')}" for name in names if name.strip("/"))


def text(value: str) -> ParameterValue:
    """A value that stays text, also where it reads as a number: serial numbers do."""
    return ParameterValue(value, value_type=str)
