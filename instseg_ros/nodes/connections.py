"""Before a bag is played: waiting until those who should hear the first frame, and answer it, are connected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy

from ..errors import InputError
from .bag_output import LATCHED, RELIABLE, BagOutput, message_type

SETTLE = 1.0
"""Seconds: discovery tells the two sides of a connection about each other at slightly different times, and neither can
see whether the other knows."""
PERIOD = 0.05
"""Seconds between two looks."""


class Connections:
    """Subscribes to the answers, and waits.

    Args:
        node: the player.
        output: its publishers.
        answers: topics that answer; empty in timed playing.
        on_answer: called with topic and CDR bytes of each answer.
        subscribers: of the depth images that must be connected.
        patience: seconds to wait, 0 = do not.
    """

    def __init__(
        self,
        node: Node,
        output: BagOutput,
        *,
        answers: Sequence[str],
        on_answer: Callable[[str, bytes], None],
        subscribers: int,
        patience: float,
    ) -> None:
        self._node, self._output, self._answers, self._on_answer = node, output, answers, on_answer
        self._subscribers, self._patience = subscribers, patience
        self._unheard = list(answers)

    def wait(self, stop: threading.Event) -> bool:
        """Wait until all are connected; False when the process is told to end before.

        Raises:
            InputError: somebody whose answers are needed is missing when patience ends (timed playing begins then).
        """
        limit = time.monotonic() + self._patience
        since: float | None = None
        while not stop.is_set():
            self._subscribe()
            needed = self._needed()
            missing, now = needed or self._output.unconnected(), time.monotonic()
            if not missing or (self._patience == 0 and not self._unheard):
                since = since or now
                if self._patience == 0 or now - since >= SETTLE:
                    return True
            else:
                since = None
                if now > limit:
                    self._lose_patience(missing, fatal=bool(needed and self._answers))
                    return True
            stop.wait(PERIOD)
        return False

    def _subscribe(self) -> None:
        """Subscribe to the answers, whose types are known once somebody offers them."""
        types = dict(self._node.get_topic_names_and_types()) if self._unheard else {}
        for topic in [topic for topic in self._unheard if topic in types]:
            kind = message_type(types[topic][0])
            if kind is None:
                raise InputError(f"answers: {topic} is a {types[topic][0]}, which is not installed")
            # Latched answers are taken as such: the first one may come before the connection is complete.
            offered = {info.qos_profile.durability for info in self._node.get_publishers_info_by_topic(topic)}
            qos = LATCHED if offered == {DurabilityPolicy.TRANSIENT_LOCAL} else RELIABLE
            self._node.create_subscription(kind, topic, partial(self._on_answer, topic), qos, raw=True)
            self._unheard.remove(topic)

    def _needed(self) -> str:
        """What must be there and is not, in words; empty when all are."""
        silent = [topic for topic in self._answers if not self._node.count_publishers(topic)]
        if silent or self._unheard:
            return f"nobody publishes {', '.join(silent or self._unheard)}"
        heard = self._output.depth_listeners()
        if heard < self._subscribers:
            return f"{self._output.depth} has {heard} of {self._subscribers} subscribers"
        return ""

    def _lose_patience(self, missing: str, *, fatal: bool) -> None:
        text = f"after {self._patience:g} s {missing}"
        if fatal:
            raise InputError(f"{text}: start the segmenter, or raise wait_for_subscribers")
        self._node.get_logger().warning(f"{text}: playing all the same")
