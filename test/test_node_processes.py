"""The nodes as processes of their own, as users run them: answers over DDS, signals, bad arguments, kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from conftest import ROOT  # noqa: E402
from node_rig import Client  # noqa: E402
from ros_scenes import boxes  # noqa: E402

from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message, stamp_ns  # noqa: E402

SEGMENTER = "instseg_ros.nodes.segmenter"
RUNNING = "segmenting what arrives on"


@pytest.fixture
def model(tmp_path):
    """A model directory that needs no weights."""
    write_classical_model(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def client(ros_context):
    made = Client(ros_context)
    yield made
    made.end()


def parameter(**values):
    return ["--ros-args", *(word for name, value in values.items() for word in ("-p", f"{name}:={value}"))]


def matched(found: np.ndarray, truth: np.ndarray) -> list[float]:
    """Best IoU of each true label."""
    ious = []
    for label in range(1, truth.max() + 1):
        mask = truth == label
        best = [np.logical_and(found == i, mask).sum() / np.logical_or(found == i, mask).sum() for i in np.unique(found[mask]) if i]
        ious.append(max(best, default=0.0))
    return ious


def test_a_bin_of_boxes_is_segmented_across_processes_until_the_signal(spawn, client, model):
    node = spawn(SEGMENTER, *parameter(model=model))
    node.wait_for(RUNNING)
    client.hear("masks", "instances")
    answer = client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
    found = labels_from_message(answer)[0]
    assert min(matched(found, boxes()[1])) > 0.8
    assert client.wait_for_stamp(stamp_ns(answer.header), "instances").width == found.max() == 6
    node.send(signal.SIGINT)
    node.send(signal.SIGINT)
    assert node.wait() == 0
    assert "Traceback" not in node.output and "terminate" not in node.output


def test_sigterm_in_the_middle_of_the_work_ends_cleanly(spawn, client, model):
    node = spawn(SEGMENTER, *parameter(model=model))
    node.wait_for(RUNNING)
    client.hear("masks")
    client.connect()
    for _ in range(20):
        client.send_frame(boxes(stamp_ns=time.time_ns())[0])
    assert node.stop(signal.SIGTERM) == 0
    assert "Traceback" not in node.output


def test_a_killed_node_is_replaced_by_the_next(spawn, client, model):
    for attempt in range(2):
        node = spawn(SEGMENTER, *parameter(model=model))
        node.wait_for(RUNNING)
        if attempt == 0:
            client.hear("masks")
        client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
        node.kill()


def test_up_runs_the_nodes_on_the_camera_topics_and_ends_on_ctrl_c(spawn, model):
    node = spawn("instseg_ros", "up", "--model", model)
    node.wait_for(f"{RUNNING} /camera/camera/aligned_depth_to_color/image_raw")
    assert node.stop(signal.SIGINT) == 0
    assert "Traceback" not in node.output


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ([SEGMENTER, *parameter(model="/nowhere")], "/nowhere does not exist"),
        ([SEGMENTER, *parameter(min_score="much")], "min_score"),
        ([SEGMENTER, "--ros-args", "--params-file", "/nowhere.yaml"], "/nowhere.yaml"),
        (["instseg_ros", "up", "--model", "/nowhere"], "/nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_bad_arguments_end_with_status_2_and_no_traceback(spawn, command, text):
    node = spawn(*command)
    assert node.wait() == 2, node.output
    assert text in node.output and "Traceback" not in node.output


def test_the_yaml_that_ships_names_every_parameter_with_its_default():
    import yaml

    from instseg_ros.nodes.parameters import SPECS

    text = (ROOT / "config" / "bin_picking.yaml").read_text()
    values = yaml.safe_load(text)["/**/instseg"]["ros__parameters"]
    assert values == {"autostart": True, **{name: spec.default for name, spec in SPECS.items()}}
    assert all("#" in line for line in text.splitlines() if line.startswith("    "))


def test_what_ends_the_wheels_bootstrap_does_not_end_help():
    """`instseg up -h` needs neither ROS nor torch."""
    run = subprocess.run([sys.executable, "-m", "instseg_ros", "up", "-h"], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert run.returncode == 0 and "instseg up --source bag" in run.stdout
