"""Synchronisers: one callback for messages of several filters that belong together.

Attributes that users of the real package reach for are kept: ``queues`` (one dict a filter, stamp in nanoseconds →
message) and ``lock``, which is held while the callback runs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.time import Time

from .filters import SimpleFilter

Queue = dict[int, Any]


class TimeSynchronizer(SimpleFilter):
    """Puts out sets of messages, one from each filter, whose header stamps are equal.

    Args:
        fs: the filters.
        queue_size: messages remembered from each; beyond it those with the oldest stamps go.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:  # noqa: N802 (upstream's name)
        """Listen to the filters ``fs``."""
        self.queues: list[Queue] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, index) for index, (f, queue) in enumerate(zip(fs, self.queues))
        ]

    def add(self, message: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take one message in."""
        with self.lock:
            self._remember(my_queue, Time.from_msg(message.header.stamp).nanoseconds, message)
            common = set(self.queues[0]).intersection(*self.queues[1:])
            for stamp in sorted(common):
                self.signalMessage(*(queue[stamp] for queue in self.queues))
                for queue in self.queues:
                    del queue[stamp]

    def _remember(self, queue: Queue, stamp: int, message: Any) -> None:
        queue[stamp] = message
        while len(queue) > self.queue_size:
            del queue[min(queue)]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Puts out sets of messages whose stamps lie within ``slop`` of each other: those nearest to the newest message first.

    Args:
        fs: the filters.
        queue_size: messages remembered from each.
        slop: seconds; the span of the stamps of a set must be smaller, so 0 never matches anything.
        queue_offset: not supported here.
        allow_headerless: messages without a header count with the ROS time of their arrival instead of being refused.
        sync_arrival_time: all messages count with the ROS time of their arrival.

    The options behind ``slop`` are keyword-only here because their order differs between ROS distributions.
    """

    def __init__(
        self,
        fs: Sequence[SimpleFilter],
        queue_size: int,
        slop: float,
        *,
        queue_offset: bool = False,
        allow_headerless: bool = False,
        sync_arrival_time: bool = False,
    ) -> None:
        if queue_offset:
            raise NotImplementedError("this stand-in of message_filters has no queue_offset")
        super().__init__(fs, queue_size)
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless
        self.sync_arrival_time = sync_arrival_time

    def add(self, message: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take one message in, and put a set out when that completes one."""
        stamp = self._stamp(message)
        if stamp is None:
            return
        slop = self.slop.nanoseconds
        with self.lock:
            self._remember(my_queue, stamp, message)
            candidates = []
            for index, queue in enumerate(self.queues):
                if index == my_queue_index:
                    near = [stamp]
                else:
                    near = sorted((s for s in queue if abs(s - stamp) <= slop), key=lambda s: abs(s - stamp))
                if not near:
                    return
                candidates.append(near)
            for stamps in itertools.product(*candidates):
                present = all(s in queue for s, queue in zip(stamps, self.queues))
                if present and max(stamps) - min(stamps) < slop:
                    self.signalMessage(*(queue[s] for s, queue in zip(stamps, self.queues)))
                    for s, queue in zip(stamps, self.queues):
                        del queue[s]
                    return

    def _stamp(self, message: Any) -> int | None:
        """Nanoseconds that the message counts with; None = refuse it."""
        if self.sync_arrival_time:
            return ROSClock().now().nanoseconds
        stamp = getattr(getattr(message, "header", None), "stamp", None)
        if stamp is None:
            if self.allow_headerless:
                return ROSClock().now().nanoseconds
            get_logger("message_filters_approx").warning(
                "cannot synchronize a message without time stamp unless allow_headerless is set"
            )
            return None
        return stamp.nanoseconds if hasattr(stamp, "nanoseconds") else Time.from_msg(stamp).nanoseconds
