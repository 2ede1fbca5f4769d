"""Segment the bin under a depth camera: the segmenter node, wired to realsense2_camera's topics, and RViz on request.

    ros2 launch realsense2_camera rs_launch.py align_depth.enable:=true
    ros2 launch instseg_ros bin_picking.launch.py model:=clusternet-bin rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from instseg_ros.shared_memory import VARIABLE, fitting_profile

SHARE = Path(get_package_share_directory("instseg_ros"))
BOOLEAN = ["true", "false"]
PICTURE_TOPICS = ["overlay", "markers", "points", "poses"]

ARGUMENTS = [
    DeclareLaunchArgument("model", default_value="", description="Model directory or shipped model's name; empty: that of params_file."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N; empty: that of params_file."),
    DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "bin_picking.yaml"), description="Parameters of the nodes."),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node; for two cameras, two namespaces."),
    DeclareLaunchArgument("camera_namespace", default_value="camera", description="camera_namespace of realsense2_camera."),
    DeclareLaunchArgument("camera_name", default_value="camera", description="camera_name of realsense2_camera."),
    DeclareLaunchArgument("autostart", default_value="true", choices=BOOLEAN, description="false: a lifecycle manager starts it."),
    DeclareLaunchArgument("use_sim_time", default_value="false", choices=BOOLEAN, description="Take the time from /clock (bags)."),
    DeclareLaunchArgument("rviz", default_value="false", choices=BOOLEAN, description="Open RViz with the overlay, cloud and markers."),
    DeclareLaunchArgument(
        "log_level", default_value="info", choices=["debug", "info", "warn", "error", "fatal"], description="Of the segmenter."
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
    camera = "".join(f"/{values[name]}" for name in ("camera_namespace", "camera_name") if values[name])
    logger = ".".join([*filter(None, values["namespace"].split("/")), "instseg"])
    overrides = {name: values[name] == "true" for name in ("autostart", "use_sim_time")}
    overrides.update({name: values[name] for name in ("model", "device") if values[name]})
    segmenter = Node(
        package="instseg_ros",
        executable="segmenter",
        name="instseg",
        namespace=values["namespace"],
        parameters=[values["params_file"], overrides],
        remappings=[
            ("depth/image", f"{camera}/aligned_depth_to_color/image_raw"),
            ("depth/camera_info", f"{camera}/aligned_depth_to_color/camera_info"),
            ("color/image", f"{camera}/color/image_raw"),
        ],
        arguments=["--ros-args", "--log-level", f"{logger}:={values['log_level']}"],
        output="screen",
    )
    if values["rviz"] == "false":
        return [segmenter]
    below = f"/{values['namespace'].strip('/')}" if values["namespace"].strip("/") else ""
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(SHARE / "config" / "bin_picking.rviz")],
        remappings=[(f"/instseg/{topic}", f"{below}/instseg/{topic}") for topic in PICTURE_TOPICS] if below else [],
        parameters=[{"use_sim_time": overrides["use_sim_time"]}],
    )
    return [segmenter, rviz]
