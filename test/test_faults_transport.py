"""Faults of transport: publishers of every QoS, topics that fall silent, and what the watchdog says."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not on the path")

from fault_bench import Bench  # noqa: E402
from node_rig import wait_until  # noqa: E402
from rclpy.duration import Duration  # noqa: E402
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from ros_scenes import KnownAnswer, boxes  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402

from instseg_ros.nodes import intake  # noqa: E402
from instseg_ros.nodes import segmenter as segmenter_module  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def look_often():
    """The watchdog's second would make these tests slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmenter_module, "CHECK_PERIOD", 0.05)
        yield


@pytest.fixture(scope="module")
def bench():
    made = Bench(segmenter=KnownAnswer())
    yield made
    made.end()


QOS = {
    "reliable": QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE),
    "best effort": QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
    "latched": QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    "best effort, latched": QoSProfile(
        depth=1, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.TRANSIENT_LOCAL
    ),
    "that keeps all": QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE),
    "with deadline": QoSProfile(depth=1, deadline=Duration(seconds=1)),
    "with lifespan": QoSProfile(depth=1, lifespan=Duration(seconds=5)),
    "with lease": QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=Duration(seconds=1)),
}


@pytest.mark.parametrize("name", QOS)
def test_a_publisher_of_any_qos_is_heard(bench, name):
    client, node = bench.client, bench.rig.node
    topics = (("depth/image", Image), ("depth/camera_info", CameraInfo))
    before = [node.count_publishers(f"/{topic}") for topic, _ in topics]
    publishers = [client.create_publisher(type_, topic, QOS[name]) for topic, type_ in topics]
    for publisher, (topic, _), count in zip(publishers, topics, before):
        wait_until(lambda: publisher.get_subscription_count() > 0, f"the subscription of {topic}")
        wait_until(lambda: node.count_publishers(f"/{topic}") > count, f"the node to know of {topic}")
    heard = len(client.heard["masks"])

    def answered():
        """Best effort: the node may not know of a publisher when that knows of the node."""
        for publisher, message in zip(reversed(publishers), reversed(bench.scene()[:2])):
            publisher.publish(message)
        return len(client.heard["masks"]) > heard

    wait_until(answered, "an answer")
    for publisher in publishers:
        client.destroy_publisher(publisher)
    bench.check_good_frame()


UNEQUAL = {
    "best effort": ({"reliability": ReliabilityPolicy.RELIABLE}, {"reliability": ReliabilityPolicy.BEST_EFFORT}),
    "volatile": ({"durability": DurabilityPolicy.TRANSIENT_LOCAL}, {}),
    "deadline": ({"deadline": Duration(seconds=1)}, {}),
}


@pytest.mark.parametrize("says", UNEQUAL)
def test_a_qos_that_does_not_match_is_named(says, monkeypatch):
    """Every publisher matches the subscriptions as they are (above): this is for who makes them stricter."""
    wanted, offered = UNEQUAL[says]
    monkeypatch.setattr(intake, "IMAGE_QOS", QoSProfile(depth=1, **wanted))
    made = Bench(segmenter=KnownAnswer(), connect=False, qos=QoSProfile(depth=1, **offered), stale_after=0.3)
    try:
        status = made.client.wait_for_status(lambda s: "QoS" in s["problems"])
        assert "the QoS of its publisher client does not match" in status["problems"]
        assert says in status["problems"].lower() and status["level"] == "2"  # ERROR
    finally:
        made.end()


SILENT = {"depth": (0, "depth is silent"), "camera_info": (1, "camera_info is silent"), "color": (2, "color is silent")}


@pytest.mark.parametrize("role", SILENT)
def test_the_topic_that_falls_silent_is_named_and_the_node_goes_on_when_it_is_back(colorful, role):
    index, says = SILENT[role]
    colorful.check_good_frame()

    def named():
        scene = list(colorful.scene())
        scene[index] = None
        for name, message in zip(colorful._inputs, scene):
            if message is not None:
                colorful.client._inputs[name].publish(message)
        return says in colorful.client.status.get("problems", "")

    wait_until(named, f"the watchdog to say {says!r}")
    problems = colorful.client.status["problems"]
    assert not any(other in problems for _, other in SILENT.values() if other != says)
    assert "stopped sending" in problems
    colorful.client.ask(lambda stamp: boxes(stamp_ns=stamp, color=True)[0])
    colorful.client.wait_for_status(lambda s: says not in s["problems"])


@pytest.fixture(scope="module")
def colorful():
    made = Bench(stale_after=0.5)
    yield made
    made.end()


def test_a_publisher_that_comes_and_goes_is_heard_each_time(bench):
    """As a camera does that is unplugged and plugged in again."""
    client = bench.client
    for _ in range(3):
        publisher = client.create_publisher(Image, "depth/image", 1)
        wait_until(lambda: publisher.get_subscription_count() > 0, "the subscription")
        heard = len(client.heard["masks"])

        def answered():
            depth, info, _ = bench.scene()
            client._inputs["depth/camera_info"].publish(info)
            publisher.publish(depth)
            return len(client.heard["masks"]) > heard

        wait_until(answered, "an answer")
        client.destroy_publisher(publisher)
    bench.check_good_frame()
