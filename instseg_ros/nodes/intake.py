"""The node's subscriptions: depth, camera info and, where the model wants it, colour, put together by their stamps."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import message_filters
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from .host import Host
from .messages import stamp_ns
from .parameters import Parameters
from .sets import QUEUE_SIZE, Arrival, Sets


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


class Intake:
    """Subscribes on construction, until ``close``.

    What belongs to a set may change while messages come (a model that wants colour follows one that does not): the other sets
    are prepared beside the present ones, which go on coming, and adopted between two frames.

    Args:
        host: its ``node`` knows the remappings, on its ``intake`` is subscribed.
        wanted: how images arrive, and the slop.
        color: whether sets have colour.
        on_frame: called with every set, in the thread of ``host.intake``; must return at once.
        on_jump: called with the seconds of each jump backwards in time.

    Attributes:
        sets: sets so far.
        last_set: monotonic seconds of the last one, or of the subscription.
    """

    def __init__(
        self,
        host: Host,
        wanted: Parameters,
        *,
        color: bool,
        on_frame: Callable[[Arrival], None],
        on_jump: Callable[[float], None],
    ) -> None:
        self._host, self._wanted = host, wanted
        self._on_frame, self._on_jump = on_frame, on_jump
        self.sets = 0
        self.last_set = time.monotonic()
        # Held for microseconds; notified when the prepared sets have one, and at the end.
        self._lock = threading.Condition()
        self._closed = False
        self._topics: dict[str, Topic] = {}
        self._subscribers: dict[str, message_filters.Subscriber] = {}
        self._next: Sets | None = None
        self._delivered: deque[Any] = deque(maxlen=QUEUE_SIZE + 1)
        self._present = Sets(_roles(color), wanted.sync_slop, self._on_set)
        self._subscribe(self._present)

    @property
    def topics(self) -> list[Topic]:
        """The subscriptions that make a set."""
        return [self._topics[role] for role in self._present.roles]

    def close(self) -> None:
        """Unsubscribe, and wait no longer. May be repeated."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        self._unsubscribe(list(self._subscribers))

    def stamp_spread(self) -> float | None:
        """Seconds between the newest stamps of the topics, None while one of them has none."""
        stamps = [topic.stamp for topic in self.topics]
        return None if None in stamps else (max(stamps) - min(stamps)) * 1e-9  # type: ignore[type-var, operator]

    # ---- other sets, between two frames

    def prepare(self, *, color: bool, slop: float) -> None:
        """Begin to put together other sets, too."""
        with self._lock:
            self._next = Sets(_roles(color), slop, self._on_set)
        self._subscribe(self._next)

    def wait_for_prepared(self, timeout: float) -> Arrival | None:
        """The newest of the prepared sets, waiting for the first; None after ``timeout`` seconds, and when closed."""
        with self._lock:
            self._lock.wait_for(lambda: self._closed or self._next.newest is not None, timeout)  # type: ignore[union-attr]
            return self._next.newest  # type: ignore[union-attr]

    def adopt(self, then: Callable[[], None]) -> None:
        """Deliver the prepared sets from now on; ``then`` is called between the last of the old and the first of the new."""
        with self._lock:
            assert self._next is not None
            self._present, self._next = self._next, None
            then()
            if self._present.newest is not None:
                self._deliver(self._present.newest)  # unless the old sets had that frame
        self._unsubscribe(set(self._subscribers) - set(self._present.roles))

    def drop_prepared(self) -> None:
        """Stay with the present sets."""
        with self._lock:
            self._next = None
            self._delivered.clear()
        self._unsubscribe(set(self._subscribers) - set(self._present.roles))

    # ---- messages

    def _subscribe(self, sets: Sets) -> None:
        """To what ``sets`` needs and is not there yet."""
        for role in sets.roles:
            if role not in self._subscribers:
                topic = _topic(self._host.node, role, self._wanted)
                with self._lock:
                    self._topics[role] = topic
                made = message_filters.Subscriber(self._host.intake, topic.type, topic.name, qos_profile=topic.qos)
                made.registerCallback(self._on_message, topic)
                self._subscribers[role] = made

    def _unsubscribe(self, roles: Iterable[str]) -> None:
        for role in roles:
            if (subscriber := self._subscribers.pop(role, None)) is not None:
                self._host.intake.destroy_subscription(subscriber.sub)

    def _on_message(self, message: Any, topic: Topic) -> None:
        with self._lock:
            if topic.role == "depth":
                self._host.statistics.depth_arrived()
            stamp = stamp_ns(message.header)
            if stamp < 0:  # rclpy's Time would raise
                self._refuse(topic, f"a negative stamp ({message.header.stamp.sec} s)")
                return
            if topic.stamp is not None and stamp < topic.stamp:
                self._jump((topic.stamp - stamp) * 1e-9)
            topic.count, topic.arrived, topic.stamp = topic.count + 1, time.monotonic(), stamp
            # The present ones first: a frame that both have is delivered before the others can be adopted.
            for sets in (self._present, self._next):
                if sets is not None:
                    sets.add(topic.role, message)

    def _jump(self, seconds: float) -> None:
        self._on_jump(seconds)
        for topic in self._topics.values():
            topic.stamp = None  # the others jump too: one restart is enough
        self._delivered.clear()
        for sets in (self._present, self._next):
            if sets is not None:
                sets.restart()

    def _refuse(self, topic: Topic, fault: str) -> None:
        why = f"{topic.role} has {fault} on {topic.name}: mend its publisher"
        if topic.role == "depth":
            self._host.statistics.depth_refused()
        self._host.statistics.error(why)
        self._host.complaints.warn("refusal", why)

    def _on_set(self, sets: Sets, arrival: Arrival) -> None:
        if sets is self._present:
            self._deliver(arrival)
        else:
            self._lock.notify_all()

    def _deliver(self, arrival: Arrival) -> None:
        if any(arrival.depth is depth for depth in self._delivered):
            return  # as one of the old sets
        if self._next is not None:
            self._delivered.append(arrival.depth)
        else:
            self._delivered.clear()
        self.sets += 1
        self.last_set = arrival.received
        self._on_frame(arrival)


def _roles(color: bool) -> tuple[str, ...]:
    return ("depth", "camera_info", "color") if color else ("depth", "camera_info")


def _topic(names: Node, role: str, wanted: Parameters) -> Topic:
    if role == "camera_info":
        return Topic(role, names.resolve_topic_name("depth/camera_info"), CameraInfo, INFO_QOS)
    transport = wanted.depth_transport if role == "depth" else wanted.color_transport
    resolved = names.resolve_topic_name(f"{role}/image")  # first, so that a remapping of the image topic counts for all transports
    if transport == "raw":
        return Topic(role, resolved, Image, IMAGE_QOS)
    return Topic(role, names.resolve_topic_name(f"{resolved}/{transport}"), CompressedImage, IMAGE_QOS)
