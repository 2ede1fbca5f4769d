"""Play a rosbag2 through the segmenter, in lockstep or by the clock; with truth topics in the bag, score the answers.

    ros2 launch instseg_ros replay.launch.py                              # the bundled bag, once, scored
    ros2 launch instseg_ros replay.launch.py bag:=my_bag evaluate:=false lockstep:=false passes:=0 rviz:=true
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_entity import LaunchDescriptionEntity
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("instseg_ros"))
BOOLEAN = ["true", "false"]
PASSED_ON = ["model", "amodal_model", "device", "params_file", "camera_namespace", "camera_name", "rviz", "log_level"]

ARGUMENTS = [
    DeclareLaunchArgument("bag", default_value="", description="Bag: a folder, an .mcap or a .db3 file; empty: the bundled one."),
    DeclareLaunchArgument("lockstep", default_value="true", choices=BOOLEAN, description="Each frame waits for the last one's answer."),
    DeclareLaunchArgument("rate", default_value="1.0", description="Speed without lockstep; 1 = as recorded."),
    DeclareLaunchArgument("passes", default_value="1", description="How often to play the bag; 0 = for ever."),
    DeclareLaunchArgument("evaluate", default_value="true", choices=BOOLEAN, description="Score against the bag's truth topics."),
    DeclareLaunchArgument("out", default_value="replay_out", description="Folder for metrics.json and pictures of the evaluation."),
    DeclareLaunchArgument("model", default_value="", description="Model directory or shipped model's name; empty: that of params_file."),
    DeclareLaunchArgument("amodal_model", default_value="", description="Layered model that adds what is hidden; empty: that of params_file."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N; empty: that of params_file."),
    DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "bin_picking.yaml"), description="Parameters of the nodes."),
    DeclareLaunchArgument("camera_namespace", default_value="camera", description="camera_namespace when the bag was recorded."),
    DeclareLaunchArgument("camera_name", default_value="camera", description="camera_name when the bag was recorded."),
    DeclareLaunchArgument("rviz", default_value="false", choices=BOOLEAN, description="Open RViz with the overlay, cloud and markers."),
    DeclareLaunchArgument(
        "log_level", default_value="info", choices=["debug", "info", "warn", "error", "fatal"], description="Of the segmenter."
    ),
]


def generate_launch_description() -> LaunchDescription:
    """What ``ros2 launch`` asks for."""
    segmenter = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(SHARE / "launch" / "bin_picking.launch.py")),
        launch_arguments=[("use_sim_time", "true"), *((name, LaunchConfiguration(name)) for name in PASSED_ON)],
    )
    return LaunchDescription([*ARGUMENTS, segmenter, OpaqueFunction(function=make_nodes)])


def make_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The player, and the evaluator where it is wanted; the launch ends with the last of them."""
    evaluate = LaunchConfiguration("evaluate").perform(context) == "true"
    player = Node(
        package="instseg_ros",
        executable="bag_player",
        name="bag_player",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
                "lockstep": ParameterValue(LaunchConfiguration("lockstep"), value_type=bool),
                "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
                "passes": ParameterValue(LaunchConfiguration("passes"), value_type=int),
                # Scoring is waited for, too, so that it does not compete with the next frame.
                "answers": ["/instseg/masks", "/evaluator/scored"] if evaluate else ["/instseg/masks"],
            },
        ],
        output="screen",
        on_exit=None if evaluate else [Shutdown(reason="the bag is over")],
    )
    if not evaluate:
        return [player]
    out = ParameterValue(LaunchConfiguration("out"), value_type=str)
    evaluator = Node(
        package="instseg_ros",
        executable="evaluator",
        name="evaluator",
        parameters=[LaunchConfiguration("params_file"), {"out": out}],
        output="screen",
        on_exit=[Shutdown(reason="the answers are scored")],
    )
    return [player, evaluator]

