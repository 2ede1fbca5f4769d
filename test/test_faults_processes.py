"""Faults of processes: signals at any time, and kills. A node ends when it is told to, and what replaces it works."""

from __future__ import annotations

import os
import re
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from node_rig import Client, wait_until  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from ros_scenes import boxes  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from instseg_ros import shared_memory  # noqa: E402
from instseg_ros.nodes.messages import labels_from_message  # noqa: E402
from instseg_ros.resources import share_directory  # noqa: E402

RUNNING = "segmenting what arrives on"
LOADING = "loading model"


@pytest.fixture
def start(spawn, tmp_path, ros_env):
    """``start("camera", …)`` runs a role of ``fault_nodes``; ``start("segmenter", model="slow")`` with that model."""
    path = os.pathsep.join([str(Path(__file__).parent), ros_env["PYTHONPATH"]])

    def start(role, *args, model=None, env=None):
        if role == "segmenter":
            (tmp_path / (model or "known")).mkdir(exist_ok=True)
            args = ("--ros-args", "-p", f"model:={tmp_path / (model or 'known')}", *args)
        return spawn("fault_nodes", role, *args, env={"PYTHONPATH": path, **(env or {})})

    return start


@pytest.fixture
def client(ros_context):
    made = Client(ros_context)
    yield made
    made.end()


def frame(stamp):
    return boxes(stamp_ns=stamp)[0]


def ended_cleanly(node, status=0):
    assert node.wait() == status, node.output
    assert "Traceback" not in node.output and "terminate" not in node.output, node.output


# ---- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_model_is_loaded_ends_the_node_once_that_is_done(start, tmp_path, number):
    node = start("segmenter", model="slow")
    node.wait_for(LOADING)
    node.send(number)
    (tmp_path / "slow" / "go").touch()
    ended_cleanly(node)


def test_four_signals_end_a_node_whose_model_takes_for_ever_to_load(start):
    node = start("segmenter", model="slow")
    node.wait_for(LOADING)
    _insist(node, signal.SIGINT)
    ended_cleanly(node, 128 + signal.SIGINT)


def test_four_signals_end_a_node_whose_model_hangs(start, client):
    node = start("segmenter", model="hung")
    node.wait_for(RUNNING)
    client.hear("masks")
    client.connect()
    wait_until(lambda: client.send_frame(frame(time.time_ns())) and "hanging" in node.output, "the model to hang")
    _insist(node, signal.SIGTERM)
    ended_cleanly(node, 128 + signal.SIGTERM)


def _insist(node, number):
    """Send a signal until the node is gone; signals that come too fast count as one."""
    wait_until(lambda: node.process.poll() is not None or node.send(number) or time.sleep(0.05), "the node to end")


def test_signals_of_both_kinds_in_the_middle_of_the_work_end_it_once(start, client):
    node = start("segmenter")
    node.wait_for(RUNNING)
    client.hear("masks")
    client.ask(frame)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        node.send(number)
        client.send_frame(frame(time.time_ns()))
    ended_cleanly(node)


def test_a_signal_during_the_imports_ends_the_executable_at_once(spawn):
    node = spawn("instseg_ros.nodes.segmenter")
    node.send(signal.SIGINT)
    node.wait()
    assert node.process.returncode != 0 and RUNNING not in node.output


# ---- kills


def test_a_killed_segmenter_is_replaced_while_camera_and_client_go_on(start, client):
    camera = start("camera")
    camera.wait_for("up")
    for _ in range(2):
        node = start("segmenter")
        node.wait_for(RUNNING)
        if not client.heard["masks"]:
            client.hear("masks")
        before = len(client.heard["masks"])
        client.wait_for("masks", before + 5)
        np.testing.assert_array_equal(labels_from_message(client.heard["masks"][-1])[0], boxes()[1])
        node.kill()


def test_a_killed_camera_is_replaced_while_the_segmenter_goes_on(start, client):
    node = start("segmenter")
    node.wait_for(RUNNING)
    client.hear("masks")
    for _ in range(2):
        camera = start("camera")
        before = len(client.heard["masks"])
        client.wait_for("masks", before + 5)
        camera.kill()
    assert node.stop() == 0


LISTENER = 20612
"""Bytes from a port's number to the state of its first reader (Fast DDS 3.2)."""
IN_USE, WAITING, PROCESSING = 1, 2, 4


def _die_between_two_messages(child):
    """Kill a process, and leave its ports as if their readers had been neither waiting for a message nor at work on one, which is
    so for half a thousandth of the time: nobody who writes to such a port can see that its reader is dead."""
    links = [os.readlink(link) for link in Path(f"/proc/{child.process.pid}/fd").iterdir() if link.exists()]
    ports = [Path(link.removesuffix("_el")) for link in links if re.search(r"/fastdds_port\d+_el$", link)]
    child.kill()
    assert ports
    for path in ports:
        with path.open("r+b") as file:
            memory = file.read()
            number = int(path.name.removeprefix("fastdds_port"))
            state = memory.find(struct.pack("<IIII", number, 1, 1000, 333)) + LISTENER
            if not memory[state] & IN_USE or memory[state] & ~(IN_USE | WAITING | PROCESSING):
                pytest.skip("another Fast DDS: the state of a port's reader is elsewhere")
            file.seek(state)
            file.write(bytes([IN_USE]))


def test_a_segmenter_that_died_between_two_messages_is_replaced(start, client):
    """A camera of another package goes on; without ``mark_dead_ports`` it would write to the dead node's memory for ever."""
    start("camera").wait_for("up")
    for _ in range(3):
        node = start("segmenter")
        node.wait_for(RUNNING)
        if not client.heard["masks"]:
            client.hear("masks")
        before = len(client.heard["masks"])
        client.wait_for("masks", before + 5)
        _die_between_two_messages(node)


def test_a_planner_that_died_between_two_messages_is_replaced(start, client):
    """The segmenter goes on; without ``PortWatch`` it would write to the dead planner's memory for ever."""
    start("camera").wait_for("up")
    node = start("segmenter")
    node.wait_for(RUNNING)
    for _ in range(3):
        listener = start("listener", "/instseg/masks")
        listener.wait_for("heard")
        _die_between_two_messages(listener)
    assert node.stop() == 0


def test_what_a_killed_node_left_in_shared_memory_is_removed_by_the_next(start, monkeypatch):
    monkeypatch.setattr(shared_memory, "NEWBORN", 0.0)
    before = _segments()
    node = start("segmenter")
    node.wait_for(RUNNING)
    mine = {segment for segment in _segments() - before if _maps(node.process.pid, segment)}
    assert mine
    node.kill()
    assert mine <= _segments()
    for segment in mine:  # not newborn any more
        os.utime(segment.with_name(f"{segment.name}_el"), (0, 0))
    node = start("segmenter")
    node.wait_for(LOADING)
    assert not mine & _segments()
    assert node.stop() == 0


def _segments():
    return {path for path in shared_memory.FOLDER.glob("fastdds_*") if len(path.name) == len("fastdds_") + 16}


def _maps(pid, path):
    return str(path) in Path(f"/proc/{pid}/maps").read_text()


# ---- subscribers


def test_a_subscriber_that_never_reads_holds_up_nobody(start, client, tmp_path):
    """A reliable one in a process that is stopped, and many times more answers than the shared memory holds."""
    profile = tmp_path / "small.xml"
    shipped = (share_directory() / "config" / "fastdds_shm.xml").read_text()
    profile.write_text(re.sub(r"<(segment_size|maxMessageSize)>\d+", r"<\1>500000", shipped))
    listener = start("listener", "/instseg/masks")
    listener.wait_for("up")
    node = start("segmenter", env={shared_memory.VARIABLE: str(profile)})
    node.wait_for(RUNNING)
    client.hear("masks")
    wait_until(lambda: client.ask(frame) and "heard" in listener.output, "the listener to hear")
    listener.send(signal.SIGSTOP)
    for _ in range(150):
        client.wait_for_stamp(client.send_frame(frame(time.time_ns())))
    listener.send(signal.SIGCONT)
    assert node.stop() == 0


def test_a_subscriber_with_incompatible_qos_is_named_and_the_others_are_served(start, client):
    node = start("segmenter")
    node.wait_for(RUNNING)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    client.create_subscription(Image, "/instseg/masks", client.heard["latched"].append, latched)
    node.wait_for("masks', requesting incompatible QoS. No messages will be sent to it. Last incompatible policy: DURABILITY")
    client.hear("masks")
    client.ask(frame)
    assert not client.heard["latched"]
    assert node.stop() == 0
