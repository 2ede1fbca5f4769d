"""The publishing side of bag_player: one publisher a topic, messages as recorded, and whether everyone is connected."""

from __future__ import annotations

import importlib
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

from ..bags import Bag, Message, Topics
from ..bags.decompress import raw_image, raw_topic
from ..bags.topics import IMAGE, TRUTH_PARTS
from ..errors import InputError

RELIABLE = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
)
LATCHED = QoSProfile(
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
)
LATCHED_TOPICS = {TRUTH_PARTS, "/tf_static", "/robot_description"}


class BagOutput:
    """Publishers of a bag's topics, and of /clock.

    Args:
        node: that publishes.
        bag: what is published; topics whose type is not installed are left out with a warning.
        topics: the camera's; these must be there.
        decompress: publish compressed images also raw, where the bag does not hold them raw.
        clock: publish /clock.

    Attributes:
        depth: the depth topic.

    Raises:
        InputError: the type of a topic of the camera is not installed.
    """

    def __init__(self, node: Node, bag: Bag, topics: Topics, *, decompress: bool, clock: bool) -> None:
        self._node, self._bag, self.depth = node, bag, topics.depth
        self._publishers: dict[str, Publisher] = {}
        self._raw: dict[str, str] = {}
        self._clock = node.create_publisher(Clock, "/clock", RELIABLE) if clock else None
        for topic, type_name in bag.types.items():
            if topic == "/clock":
                continue  # two clocks would fight
            kind = message_type(type_name)
            if kind is None:
                if topic in topics.names():
                    raise InputError(f"{topic} needs the package of {type_name}, which is not installed")
                node.get_logger().warning(f"{topic} is not played: {type_name} is not installed here")
                continue
            self._publishers[topic] = node.create_publisher(
                kind, topic, LATCHED if topic in LATCHED_TOPICS else RELIABLE
            )
            raw = raw_topic(bag, topic) if decompress else None
            if raw is not None:
                self._raw[topic] = raw
                self._publishers[raw] = node.create_publisher(message_type(IMAGE), raw, RELIABLE)

    def prepare(self, message: Message) -> list[tuple[Publisher, bytes]]:
        """What to publish: the message as recorded and, where somebody listens to it, decompressed."""
        publisher = self._publishers.get(message.topic)
        outgoing = [] if publisher is None else [(publisher, message.data)]
        raw = self._raw.get(message.topic)
        if raw is not None and self._publishers[raw].get_subscription_count():
            outgoing.append((self._publishers[raw], raw_image(self._bag, message)))
        return outgoing

    def send(self, message: Message) -> None:
        """Publish a message."""
        for publisher, data in self.prepare(message):
            publisher.publish(data)

    def tell_time(self, now_ns: int) -> None:
        """Publish /clock, where it is wanted."""
        if self._clock is not None:
            seconds, nanoseconds = divmod(max(now_ns, 0), 1_000_000_000)
            self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))

    def depth_listeners(self) -> int:
        """Connected subscribers of the depth images, raw or compressed."""
        topics = {self.depth, self._raw.get(self.depth, self.depth)}
        return sum(self._publishers[topic].get_subscription_count() for topic in topics)

    def unconnected(self) -> str:
        """Subscribers that are known but not connected yet, in words; empty when there are none."""
        for topic, publisher in self._publishers.items():
            if publisher.get_subscription_count() < self._node.count_subscribers(topic):
                return f"{topic} is not connected to all of its subscribers (does their QoS fit reliable, volatile?)"
        return ""


def message_type(name: str) -> Any | None:
    """``package/msg/Name`` → class, None where the package is not installed."""
    try:
        package, kind, message = name.split("/")
        return getattr(importlib.import_module(f"{package}.{kind}"), message, None)
    except (ImportError, ValueError):
        return None
