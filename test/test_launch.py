"""The launch files against the real launch and launch_ros (which have no wheels: these tests run where ROS is installed)."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed")
pytest.importorskip("launch_ros", reason="launch_ros is not installed")

from conftest import ROOT  # noqa: E402
from launch import LaunchContext  # noqa: E402
from launch.actions import DeclareLaunchArgument  # noqa: E402
from launch_prefix import make_prefix  # noqa: E402

from node_rig import Client  # noqa: E402

from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402

FILES = ["bin_picking.launch.py", "replay.launch.py"]
RUNNING = "segmenting what arrives on"


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """launch finds the package in the source tree."""
    monkeypatch.setenv("AMENT_PREFIX_PATH", make_prefix(tmp_path / "prefix"))


def describe(name: str):
    """Launch file → its module and description."""
    spec = importlib.util.spec_from_file_location(name.split(".")[0], ROOT / "launch" / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.generate_launch_description()


@pytest.mark.parametrize("name", FILES)
def test_every_argument_is_described_has_a_default_and_switches_have_choices(name, prefix):
    _, description = describe(name)
    arguments = [action for action in description.entities if isinstance(action, DeclareLaunchArgument)]
    assert len(arguments) >= 9
    context = LaunchContext()
    for argument in arguments:
        assert len(argument.description) > 10, argument.name
        default = "".join(part.perform(context) for part in argument.default_value)
        if default in ("true", "false"):
            assert argument.choices == ["true", "false"], argument.name


@pytest.fixture
def launch(spawn, prefix, ros_env, monkeypatch):
    """``launch(file, argument=value, …)`` → the child process that runs it."""
    path = os.pathsep.join([str(Path(__file__).parent), ros_env["PYTHONPATH"], *filter(None, sys.path)])

    def start(name, **arguments):
        env = {"PYTHONPATH": path, "AMENT_PREFIX_PATH": os.environ["AMENT_PREFIX_PATH"]}
        return spawn("launch_file", ROOT / "launch" / name, *(f"{k}:={v}" for k, v in arguments.items()), env=env)

    return start


def test_bin_picking_starts_the_segmenter_in_its_namespace_and_ends_on_ctrl_c(launch, tmp_path):
    write_classical_model(tmp_path / "model")
    child = launch("bin_picking.launch.py", model=tmp_path / "model", namespace="left", camera_namespace="cell", camera_name="d435")
    child.wait_for(f"[left.instseg]: {RUNNING} /cell/d435/aligned_depth_to_color/image_raw")
    assert child.stop(signal.SIGINT) == 0, child.output
    assert "process has finished cleanly" in child.output and "Traceback" not in child.output


@pytest.mark.parametrize("name", ["bin_picking.launch.py", "replay.launch.py"])
def test_a_layered_model_beside_the_model_is_passed_on(launch, tmp_path, name):
    write_classical_model(tmp_path / "model")
    out = {"out": tmp_path / "out"} if name.startswith("replay") else {}
    child = launch(name, model=tmp_path / "model", amodal_model=tmp_path / "no-layers", **out)
    child.wait_for("no-layers")
    child.stop(signal.SIGINT)


def test_realsense_and_rviz_are_started_for_this_camera(launch):
    child = launch(
        "bin_picking.launch.py", autostart="false", rviz="true", camera="realsense", namespace="left", camera_namespace="/left",
        camera_name="d435", serial_no="_231122071284", target_frame="base_link",
    )  # fmt: skip
    child.wait_for("rviz2 was started as")
    child.wait_for("realsense2_camera_node was started as")
    child.wait_for("serial_no: '231122071284'")
    for text in ("__ns:=/left", "__node:=d435", "align_depth.enable: true", "camera_name: d435"):
        child.wait_for(text)
    for text in ("-f base_link", "Value: /left/instseg/overlay", "Value: /left/instseg/points", "Frame: d435_color_optical_frame"):
        child.wait_for(text)
    assert " /instseg/" not in child.output and "camera_color_optical_frame" not in child.output
    assert child.stop(signal.SIGINT) == 0, child.output


def test_two_cameras_side_by_side_each_with_its_own_segmenter(launch, ros_context, tmp_path):
    pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")
    write_classical_model(tmp_path / "model")
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters:\n    software: scene\n")
    clients = []
    for side in ("left", "right"):
        launch(
            "bin_picking.launch.py", model=tmp_path / "model", params_file=params, camera="instseg",
            namespace=side, camera_namespace=side, camera_name=f"{side}_camera",
        )  # fmt: skip
    try:
        for side in ("left", "right"):
            clients.append(Client(ros_context, namespace=f"/{side}"))
            clients[-1].hear("masks")
        for client, side in zip(clients, ("left", "right")):
            assert client.wait_for("masks").header.frame_id == f"{side}_camera_color_optical_frame"
    finally:
        for client in clients:
            client.end()


def test_a_lifecycle_manager_may_be_left_to_start_it(launch):
    child = launch("bin_picking.launch.py", autostart="false", log_level="debug")
    child.wait_for("process started")
    assert child.stop(signal.SIGINT) == 0, child.output
    assert RUNNING not in child.output


def test_a_value_that_is_no_choice_is_refused(launch):
    child = launch("bin_picking.launch.py", rviz="perhaps")
    assert child.wait() != 0
    assert "perhaps" in child.output and "process started" not in child.output


def test_replay_scores_a_bag_and_ends_by_itself(launch, tmp_path):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from bag_scenes import write_bag

    write_classical_model(tmp_path / "model")
    bag = write_bag(tmp_path / "bag", 5)
    child = launch("replay.launch.py", model=tmp_path / "model", bag=bag, out=tmp_path / "out")
    assert child.wait(120) == 0, child.output
    assert "5 of 5 frames answered" in child.output
    assert (tmp_path / "out" / "metrics.json").is_file()
