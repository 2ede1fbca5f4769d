"""The bag_player node: lockstep over DDS between processes, timed playing, and what it says when things go wrong."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from bag_scenes import SHAPE, START_NS, scenes, write_bag

from instseg_ros.bags import Bag
from instseg_ros.bags import topics as names
from instseg_ros.errors import InputError

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2")
pytest.importorskip("rosbags", reason="needs the package rosbags")

from answerer import Answerer, stamp_ns  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402

from instseg_ros.nodes.bag_player import BagPlayerNode  # noqa: E402
from instseg_ros.nodes.lockstep import Answers  # noqa: E402
from instseg_ros.processes import parameter_arguments  # noqa: E402

PLAYER = "instseg_ros.nodes.bag_player"
TESTS = str(Path(__file__).parent)


def ros(**parameters):
    return ["--ros-args", *parameter_arguments(parameters)]


def spawn_answerer(spawn, ros_env, file, behaviour="prompt"):
    return spawn("answerer", file, behaviour, env={"PYTHONPATH": os.pathsep.join([TESTS, ros_env["PYTHONPATH"]])})


@pytest.fixture
def bag(tmp_path):
    return write_bag(tmp_path / "bag", 30)


@pytest.fixture
def play(ros_context):
    """Play a bag in this process with ``nodes`` listening: returns the player and its exit status."""
    executor = SingleThreadedExecutor(context=ros_context)
    spinner = threading.Thread(target=executor.spin, daemon=True)
    nodes = []

    def play(bag, *listeners, **parameters):
        overrides = [Parameter(name, value=value) for name, value in {"bag": str(bag), **parameters}.items()]
        player = BagPlayerNode(context=ros_context, parameter_overrides=overrides)
        nodes.extend([player, *listeners])
        for node in (player, *listeners):
            executor.add_node(node)
        if not spinner.is_alive():
            spinner.start()
        player.start()
        return player, player.work(threading.Event())

    yield play
    executor.shutdown()
    if spinner.is_alive():
        spinner.join(5)
    for node in nodes:
        if hasattr(node, "close"):
            node.close()
        node.destroy_node()


def test_lockstep_between_two_processes_loses_and_doubles_no_frame(spawn, ros_env, tmp_path, bag):
    seen, report = tmp_path / "seen.json", tmp_path / "report.json"
    answerer = spawn_answerer(spawn, ros_env, seen, "slow")
    player = spawn(PLAYER, *ros(bag=str(bag), lockstep=True, report=str(report)))
    assert player.wait() == 0, player.output
    assert answerer.stop() == 0, answerer.output
    expected = [frame.stamp_ns for frame, _ in scenes(30)]
    heard = json.loads(seen.read_text())
    assert heard["depths"] == expected, "every depth image arrived once, in order"
    assert heard["infos"] == expected
    told = json.loads(report.read_text())
    counts = {key: told[key] for key in ("frames", "played", "answered", "unanswered", "duplicates", "strays")}
    assert counts == {"frames": 30, "played": 30, "answered": 30, "unanswered": 0, "duplicates": 0, "strays": 0}
    assert len(told["latency_ms"]) == 30 and min(told["latency_ms"]) > 0
    assert told["answered_at_s"] == sorted(told["answered_at_s"])


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"bag": "/absent"}, "bag_player: bag /absent does not exist"),
        ({"rate": 0.0}, "rate must be at least 0.001, got 0"),
        ({"lockstep": True, "answers": [""]}, "answers"),
        ({"depth_topic": "/nope"}, "no depth topic /nope"),
    ],
)
def test_bad_input_is_one_line(spawn, bag, parameters, text):
    player = spawn(PLAYER, *ros(**{"bag": str(bag), **parameters}))
    assert player.wait() == 2
    assert text in player.output and "Traceback" not in player.output


def test_frames_without_an_answer_are_counted(play, ros_context, bag):
    answerer = Answerer("skips", context=ros_context)
    player, status = play(bag, answerer, lockstep=True, answer_timeout=0.1)
    assert status == 1
    assert player.counts() == {
        "frames": 30,
        "played": 30,
        "answered": 20,
        "unanswered": 10,
        "duplicates": 0,
        "strays": 0,
    }
    assert len(answerer.depths) == 30


def test_second_answers_are_counted(play, ros_context, bag):
    player, status = play(bag, Answerer("twice", context=ros_context), lockstep=True)
    counts = player.counts()
    assert status == 0 and counts["answered"] == 30
    assert (
        counts["duplicates"] + counts["strays"] == 30
    )  # the second one comes before or after the next frame is asked for


def test_several_passes_and_jumping_stamps(play, ros_context, bag):
    answerer = Answerer(context=ros_context)
    player, status = play(bag, answerer, lockstep=True, passes=3)
    assert status == 0 and player.counts()["answered"] == 90
    assert answerer.depths == [frame.stamp_ns for frame, _ in scenes(30)] * 3


def test_a_segmenter_that_leaves_ends_the_play(play, ros_context, bag):
    with pytest.raises(InputError, match="nobody publishes /instseg/masks any more"):
        play(bag, Answerer("leaves", context=ros_context), lockstep=True, answer_timeout=0.3)


def test_nobody_there(play, bag):
    with pytest.raises(InputError, match=r"after 0\.2 s nobody publishes /instseg/masks: start the segmenter"):
        play(bag, lockstep=True, wait_for_subscribers=0.2)


def test_timed_playing_passes_the_bytes_on_and_gives_the_time(play, ros_context, bag):
    listener = rclpy.create_node("listener", context=ros_context)
    heard, clock = {name: [] for name in (names.DEPTH, names.COLOR, names.TRUTH_LAYERS)}, []
    for name in heard:
        listener.create_subscription(Image, name, heard[name].append, 100, raw=True)
    listener.create_subscription(Clock, "/clock", lambda m: clock.append(m.clock.sec * 10**9 + m.clock.nanosec), 1000)
    player, status = play(bag, listener, rate=3.0)
    assert status == 0 and player.counts() == {"frames": 30, "played": 30}
    with Bag(bag) as recorded:
        for name, messages in heard.items():
            assert messages == [message.data for message in recorded.messages([name])]
    assert clock == sorted(clock)
    assert clock[0] >= START_NS and clock[-1] == [frame.stamp_ns for frame, _ in scenes(30)][-1]


def test_compressed_color_is_also_played_raw(play, ros_context, tmp_path):
    listener = rclpy.create_node("listener", context=ros_context)
    raw, compressed, done = [], [], Answerer(context=ros_context)
    listener.create_subscription(Image, names.COLOR, raw.append, 100)
    listener.create_subscription(CompressedImage, f"{names.COLOR}/compressed", compressed.append, 100)
    play(write_bag(tmp_path / "jpeg", 4, jpeg=True), listener, done, lockstep=True)
    expected = [frame.stamp_ns for frame, _ in scenes(4)]
    assert [stamp_ns(m) for m in raw] == [stamp_ns(m) for m in compressed] == expected
    assert raw[0].encoding == "rgb8" and (raw[0].height, raw[0].width) == SHAPE


def test_answers_belong_to_the_frame_that_is_asked_for():
    clock = iter(range(100))
    answers = Answers(["a", "b"], now=lambda: next(clock))
    answers.ask(1)
    answers.answer("a", 1)
    assert not answers.wait(0) and answers.missing() == ["b"]
    answers.answer("a", 1)
    answers.answer("b", 2)
    assert (answers.duplicates, answers.strays) == (1, 1)
    answers.answer("b", 1)
    assert answers.wait(0) and answers.times() == {"a": 0, "b": 3}
    answers.ask(2)
    assert not answers.wait(0) and answers.missing() == ["a", "b"]
