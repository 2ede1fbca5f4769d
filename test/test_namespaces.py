"""Two cameras in two namespaces, and bring-up by a lifecycle manager: the nodes as processes, without launch.

``test_launch.py`` and ``test_launch_testing.py`` do the same through the launch file, where launch is installed.
"""

from __future__ import annotations

import contextlib
import signal

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from bring_up import bring_down, bring_up  # noqa: E402
from conftest import open_context  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from node_rig import Client, wait_until  # noqa: E402
from ros_scenes import boxes  # noqa: E402

from instseg_ros.methods.classical.segmenter import write_classical_model  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402

SEGMENTER = "instseg_ros.nodes.segmenter"
SIDES = ("left", "right")


@pytest.fixture
def model(tmp_path):
    """A model directory that needs no weights."""
    write_classical_model(tmp_path / "model")
    return tmp_path / "model"


def start(spawn, model, *remaps, autostart="true"):
    words = [word for remap in remaps for word in ("-r", remap)]
    return spawn(SEGMENTER, "--ros-args", "-p", f"model:={model}", "-p", f"autostart:={autostart}", *words)


def test_two_cameras_in_two_namespaces_are_answered_side_by_side(spawn, model, ros_domain):
    nodes = [start(spawn, model, f"__ns:=/{side}") for side in SIDES]
    with contextlib.ExitStack() as stack:
        clients = []
        for side, node in zip(SIDES, nodes):
            node.wait_for(f"segmenting what arrives on /{side}/depth/image")
            clients.append(Client(stack.enter_context(open_context(ros_domain)), namespace=f"/{side}"))
            stack.callback(clients[-1].end)
            clients[-1].hear("masks")
        seen = {side: client.ask(view(side)) for side, client in zip(SIDES, clients)}
        for side, client in zip(SIDES, clients):
            assert {m.header.frame_id for m in client.heard["masks"]} == {f"{side}_optical_frame"}
            wait_until(lambda client=client: named(client) >= {"left/instseg", "right/instseg"}, "the diagnostics of both")
        left, right = (labels_from_message(seen[side])[0] > 0 for side in SIDES)
        assert left[:, :60].any() and not left[:, 80:].any() and right[:, 100:].any() and not right[:, :80].any()
        assert [node.stop(signal.SIGINT) for node in nodes] == [0, 0]


def named(client):
    """Nodes in /diagnostics, one topic for all: they are told apart by the name."""
    return {status.name.split(":")[0] for message in client.heard["diagnostics"] for status in message.status}


def view(side):
    """Boxes in the left or in the right third of the view only."""

    def make(stamp):
        frame, labels = boxes(stamp_ns=stamp)
        depth = frame.depth.copy()
        hidden = (labels % 3 != 1) if side == "left" else (labels % 3 != 0)
        depth[(labels > 0) & hidden] = 0.8
        return type(frame)(depth, frame.K, stamp_ns=stamp, frame_id=f"{side}_optical_frame")

    return make


def test_a_lifecycle_manager_brings_the_node_up_and_down_again(spawn, model, ros_context):
    node = start(spawn, model, autostart="false")
    client = Client(ros_context)
    try:
        assert client.look(GetState, "get_state").current_state.id == State.PRIMARY_STATE_UNCONFIGURED
        for again in (False, True):  # a manager resets by cleaning up and starting again
            bring_up(client)
            if not again:
                client.hear("masks")
            labels = labels_from_message(client.ask(lambda stamp: boxes(stamp_ns=stamp)[0]))[0]
            assert labels.max() == 6 and np.count_nonzero(labels) > 0.8 * np.count_nonzero(boxes()[1])
            bring_down(client, finally_shutdown=False)
        bring_up(client)
        bring_down(client)
        assert node.stop(signal.SIGINT) == 0 and "Traceback" not in node.output
    finally:
        client.end()


def test_a_lifecycle_manager_brings_up_camera_and_segmenter(spawn, model, ros_context):
    pytest.importorskip("pyrealsense2", reason="pyrealsense2 is not installed")
    camera = spawn("instseg_ros.nodes.camera", "--ros-args", "-p", "software:=scene", "-p", "autostart:=false")
    topics = "/camera/camera/aligned_depth_to_color"
    node = start(
        spawn, model, f"depth/image:={topics}/image_raw", f"depth/camera_info:={topics}/camera_info", autostart="false"
    )
    clients = [Client(ros_context, node=name) for name in ("/camera/camera", "/instseg")]
    try:
        bring_up(*clients)
        clients[1].hear("masks")
        assert clients[1].wait_for("masks").header.frame_id == "camera_color_optical_frame"
        bring_down(*clients)
        assert (camera.stop(signal.SIGINT), node.stop(signal.SIGINT)) == (0, 0)
        assert "Traceback" not in camera.output + node.output
    finally:
        for client in clients:
            client.end()


def test_a_model_that_cannot_be_loaded_fails_the_bring_up_and_a_corrected_one_succeeds(spawn, model, ros_context):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    node = start(spawn, "/nowhere", autostart="false")
    client = Client(ros_context)
    try:
        with pytest.raises(AssertionError, match="configure"):
            bring_up(client)
        node.wait_for("/nowhere does not exist")
        assert client.look(GetState, "get_state").current_state.id == State.PRIMARY_STATE_UNCONFIGURED
        corrected = Parameter("model", value=str(model)).to_parameter_msg()
        assert client.call(SetParameters, "set_parameters", parameters=[corrected]).results[0].successful
        bring_up(client)
        wait_until(lambda: client.status.get("level") is not None, "diagnostics")
    finally:
        client.end()
