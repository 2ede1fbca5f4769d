"""Waiting for the answers to one frame: what has come, what is missing, what came twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable


class Answers:
    """Answers are known by their topic and by the stamp of the frame that they answer. Safe to use from any thread.

    Args:
        topics: each of them has to answer every frame.
        now: clock in seconds.

    Attributes:
        duplicates: answers that had come already.
        strays: answers to another frame than the one asked for: late ones, or from another source.
    """

    def __init__(self, topics: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self.topics = tuple(topics)
        self.duplicates = self.strays = 0
        self._now = now
        self._changed = threading.Condition()
        self._stamp: int | None = None
        self._came: dict[str, float] = {}

    def ask(self, stamp_ns: int) -> None:
        """From now on answers to this frame are waited for."""
        with self._changed:
            self._stamp = stamp_ns
            self._came = {}

    def answer(self, topic: str, stamp_ns: int) -> None:
        """An answer arrived."""
        now = self._now()
        with self._changed:
            if stamp_ns != self._stamp:
                self.strays += 1
            elif topic in self._came:
                self.duplicates += 1
            else:
                self._came[topic] = now
                self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait for all answers to the frame; False when some are missing after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._came) == len(self.topics), timeout)

    def missing(self) -> list[str]:
        """Topics that have not answered the frame."""
        with self._changed:
            return [topic for topic in self.topics if topic not in self._came]

    def times(self) -> dict[str, float]:
        """When each answer to the frame came."""
        with self._changed:
            return dict(self._came)
