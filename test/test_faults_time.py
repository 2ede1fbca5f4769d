"""Faults of time: stamps and clocks that jump, stop or make no sense. The node answers what it can and never stops."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from builtin_interfaces.msg import Time  # noqa: E402
from fault_bench import SPACING, Bench, Fault, shift  # noqa: E402
from node_rig import wait_until  # noqa: E402
from ros_scenes import KnownAnswer, boxes  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402

from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402
from instseg_ros.nodes.messages import stamp_ns  # noqa: E402

SECOND = 10**9
YEAR = 365 * 24 * 3600 * SECOND


@pytest.fixture(scope="module", autouse=True)
def look_often():
    """The counters' second would make these tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.02)
        yield


@pytest.fixture(scope="module")
def bench():
    made = Bench(segmenter=KnownAnswer())
    yield made
    made.end()


@pytest.fixture(scope="module")
def unhurried():
    """A node that answers frames however old they are."""
    made = Bench(segmenter=KnownAnswer(), stale_after=0.0)
    yield made
    made.end()


@pytest.fixture(scope="module")
def simulated():
    """A node on /clock, and what sets that clock and waits until the node has it."""
    made = Bench(segmenter=KnownAnswer(), use_sim_time=True, stale_after=2.0)
    publisher = made.client.create_publisher(Clock, "/clock", 10)
    node = made.rig.node
    wait_until(lambda: publisher.get_subscription_count() > 0 and node.count_publishers("/clock"), "the node to hear /clock")

    def set_clock(seconds: float) -> None:
        message = Clock(clock=Time(sec=int(seconds), nanosec=round(seconds % 1 * SECOND)))

        def told() -> bool:
            publisher.publish(message)
            return node.get_clock().now().to_msg() == message.clock

        wait_until(told, f"the node's clock to be {seconds}")

    yield made, set_clock
    made.end()


# ---- stamps

STAMPS = {
    "a bag that loops": [1000, 1001, 1002, 1000, 1001, 1002, 1000],
    "a bag that loops within a slop": [1000, 1000.01, 1000, 1000.01],
    "time jumps far back": [10**9, 10, 11],
    "time jumps far forward and back": [1000, 2 * 10**9, 1001],
    "time jumps a little forward": [1000, 1090, 1091],
    "stamps of zero": [0, 0, 0],
    "zero between others": [1000, 0, 1001],
    "the same stamp again": [1000, 1000, 1000, 1001],
    "out of order": [1000, 1000.2, 1000.1, 1000.3, 1000.25],
    "the last second that a stamp can hold": [2**31 - 1, 1000],
}


@pytest.mark.parametrize("name", STAMPS)
def test_frames_are_answered_with_their_stamp_however_stamps_go(unhurried, name):
    before = unhurried.counts()
    for second in STAMPS[name]:
        count = len(unhurried.client.heard["masks"]) + 1
        stamp = unhurried.publish(*unhurried.scene(round(second * SECOND)))
        answer = unhurried.client.wait_for("masks", count)
        assert stamp_ns(answer.header) == stamp
    unhurried.check_good_frame()
    assert unhurried.counts()["answered"] == before["answered"] + len(STAMPS[name]) + 1


@pytest.mark.parametrize("seconds", [-5, 5, 3600])
@pytest.mark.parametrize("index", [0, 1], ids=["depth", "info"])
def test_one_message_with_a_wild_stamp_does_not_stop_the_others(unhurried, index, seconds):
    unhurried.publish(*shift(unhurried.scene(), index, seconds * SECOND))
    time.sleep(SPACING)
    # The one that comes next may be lost, where the jump back is seen between its messages.
    unhurried.client.ask(lambda stamp: boxes(stamp_ns=stamp)[0])
    unhurried.check_good_frame()
    unhurried.counts()


@pytest.mark.parametrize(("index", "role"), [(0, "depth"), (1, "camera_info")])
def test_negative_stamps_are_refused_with_the_topics_name(bench, index, role):
    before = bench.counts()
    scene = bench.scene()
    scene[index].header.stamp = Time(sec=-5)
    bench.publish(*scene)
    bench.client.wait_for_status(lambda s: s["last_error"].startswith(f"{role} has a negative stamp (-5 s)"))
    bench.check_good_frame()
    assert bench.counts()["answered"] == before["answered"] + 1


CLOCKS = {
    "a frame delayed by 10 s": Fault(lambda *scene: shift(scene, None, -10 * SECOND), "stale", "10.* s old.*stale_after = 2"),
    "a clock that is a year behind": Fault(lambda *scene: shift(scene, None, -YEAR)),
    "a clock that is 5 s ahead": Fault(lambda *scene: shift(scene, None, 5 * SECOND)),
    "a clock that is a year ahead": Fault(lambda *scene: shift(scene, None, YEAR)),
    "an info that differs by less than sync_slop": Fault(lambda *scene: shift(scene, 1, -SECOND // 100)),
}


@pytest.mark.parametrize("name", CLOCKS)
def test_clocks_that_disagree(bench, name):
    bench.check(CLOCKS[name])


# ---- /clock


def test_frames_are_answered_before_the_first_clock(simulated):
    bench, _ = simulated
    assert bench.rig.node.get_clock().now().nanoseconds == 0
    bench.client.wait_for_stamp(bench.publish(*bench.scene(time.time_ns())))


def test_frames_are_answered_while_the_clock_stands_still(simulated):
    bench, set_clock = simulated
    set_clock(100.0)
    for tenth in range(12):
        bench.client.wait_for_stamp(bench.publish(*bench.scene(100 * SECOND + tenth * SECOND // 10)))
    set_clock(130.0)  # it goes on: only now the frame is old
    bench.publish(*bench.scene(100 * SECOND))
    status = bench.client.wait_for_status(lambda s: s.get("skipped_stale") == "1")
    assert "30.0 s old" in status["last_error"]
    bench.client.wait_for_stamp(bench.publish(*bench.scene(130 * SECOND)))


def test_the_watchdog_speaks_while_the_clock_stands_still(simulated):
    bench, set_clock = simulated
    set_clock(100.0)
    bench.client.wait_for_stamp(bench.publish(*bench.scene(100 * SECOND)))
    status = bench.client.wait_for_status(lambda s: "stopped sending" in s["problems"])
    assert "the bag paused" in status["problems"]
    bench.client.wait_for_stamp(bench.publish(*bench.scene(100 * SECOND)))


def test_frames_are_answered_after_the_clock_jumped(simulated):
    bench, set_clock = simulated
    for second in (500, 3, 4, 10**9, 5):
        set_clock(float(second))
        bench.client.wait_for_stamp(bench.publish(*bench.scene(second * SECOND)))
