"""The node's subscriptions: depth, camera info and, where the model wants it, colour, put together by their stamps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import message_filters
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .messages import stamp_ns

QUEUE_SIZE = 10
"""Messages a topic may be ahead of the others."""


def _best_effort(depth: int) -> QoSProfile:
    return QoSProfile(
        reliability=ReliabilityPolicy.BEST_EFFORT,  # matches every publisher
        durability=DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
    )


IMAGE_QOS = _best_effort(1)
"""Only the newest image is worth having."""
INFO_QOS = _best_effort(QUEUE_SIZE)
"""Small, and an image without its camera info is lost."""


@dataclass
class Topic:
    """One subscription and what came through it.

    Attributes:
        role: depth, camera_info or color.
        name: resolved topic name.
        type: message class.
        qos: of the subscription.
        count: messages so far.
        arrived: monotonic seconds of the last one, or of the subscription.
        stamp: its header stamp in nanoseconds.
    """

    role: str
    name: str
    type: type
    qos: QoSProfile
    count: int = 0
    arrived: float = field(default_factory=time.monotonic)
    stamp: int | None = None


@dataclass(frozen=True)
class Arrival:
    """Messages that belong together.

    Attributes:
        depth, info, color: the messages; color is None where the model does not use it.
        received: monotonic seconds when the last of them arrived.
    """

    depth: Image | CompressedImage
    info: CameraInfo
    color: Image | CompressedImage | None
    received: float


class Intake:
    """Subscribes on construction, until ``close``.

    Args:
        names: the node whose remappings name the topics.
        node: on which to subscribe.
        color: whether to subscribe to colour.
        depth_transport, color_transport: ``raw``, or the suffix of image_transport's topic.
        slop: seconds by which stamps may differ.
        on_frame: called with every set of messages, in the thread of ``node``; must return at once.
        on_jump: called with the seconds of each jump backwards in time.
        on_refusal: called with the reason why a message was left out.
    """

    def __init__(
        self,
        names: Node,
        node: Node,
        *,
        color: bool,
        depth_transport: str,
        color_transport: str,
        slop: float,
        on_frame: Callable[[Arrival], None],
        on_jump: Callable[[float], None],
        on_refusal: Callable[[str], None],
    ) -> None:
        self._node, self._slop = node, slop
        self._on_frame, self._on_jump, self._on_refusal = on_frame, on_jump, on_refusal
        self.sets = 0
        self.last_set = time.monotonic()
        self.topics = [
            _image_topic(names, "depth", "depth/image", depth_transport),
            Topic("camera_info", names.resolve_topic_name("depth/camera_info"), CameraInfo, INFO_QOS),
        ]
        if color:
            self.topics.append(_image_topic(names, "color", "color/image", color_transport))
        self._restart()
        self._subscribers = []
        for index, topic in enumerate(self.topics):
            subscriber = message_filters.Subscriber(node, topic.type, topic.name, qos_profile=topic.qos)
            subscriber.registerCallback(self._on_message, index)
            self._subscribers.append(subscriber)

    def close(self) -> None:
        """Unsubscribe."""
        for subscriber in self._subscribers:
            self._node.destroy_subscription(subscriber.sub)
        self._subscribers.clear()

    def stamp_spread(self) -> float | None:
        """Seconds between the newest stamps of the topics, None while one of them has none."""
        stamps = [topic.stamp for topic in self.topics]
        return None if None in stamps else (max(stamps) - min(stamps)) * 1e-9  # type: ignore[type-var, operator]

    def _restart(self) -> None:
        """A new synchroniser: the old one would keep its late stamps for ever and drop the early ones of a looped bag."""
        self._inputs = [message_filters.SimpleFilter() for _ in self.topics]
        self._synchronizer = message_filters.ApproximateTimeSynchronizer(
            self._inputs, queue_size=QUEUE_SIZE, slop=self._slop
        )
        self._synchronizer.registerCallback(self._on_set)

    def _on_message(self, message: Any, index: int) -> None:
        topic = self.topics[index]
        stamp = stamp_ns(message.header)
        if stamp < 0:  # rclpy's Time would raise
            self._on_refusal(f"{topic.role} has a negative stamp ({message.header.stamp.sec} s) on {topic.name}: mend its publisher")
            return
        if topic.stamp is not None and stamp < topic.stamp:
            self._on_jump((topic.stamp - stamp) * 1e-9)
            for other in self.topics:
                other.stamp = None  # the others jump too: one restart is enough
            self._restart()
        topic.count, topic.arrived, topic.stamp = topic.count + 1, time.monotonic(), stamp
        self._inputs[index].signalMessage(message)

    def _on_set(self, depth: Any, info: CameraInfo, color: Any = None) -> None:
        # Called while the synchroniser holds its lock: a handler that raised would leave upstream's locked for ever.
        self.sets += 1
        self.last_set = time.monotonic()
        self._on_frame(Arrival(depth, info, color, self.last_set))


def _image_topic(names: Node, role: str, name: str, transport: str) -> Topic:
    resolved = names.resolve_topic_name(name)  # first, so that a remapping of the image topic counts for all transports
    if transport == "raw":
        return Topic(role, resolved, Image, IMAGE_QOS)
    return Topic(role, names.resolve_topic_name(f"{resolved}/{transport}"), CompressedImage, IMAGE_QOS)
