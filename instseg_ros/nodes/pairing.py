"""Messages of several topics, collected by the stamp of the frame that they belong to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import Any

MAX_OPEN = 50
"""Frames that may wait for their messages; a frame that is older than all of these gets no more."""


@dataclass
class Collected:
    """What has come for one frame: kind → message and kind → monotonic seconds of its arrival."""

    stamp_ns: int
    messages: dict[str, Any] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)


class Pairing:
    """Collects messages until each frame has all kinds that ``expected`` names.

    Args:
        expected: the kinds that a frame needs now; asked at each message, because topics may appear later.
        once: a kind that belongs to a frame once: more of it for a frame that is done counts as a duplicate.
        now: clock in seconds.

    Attributes:
        duplicates: messages that had come already.
    """

    def __init__(
        self, expected: Callable[[], Set[str]], *, once: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._expected, self._once, self._now = expected, once, now
        self._open: dict[int, Collected] = {}
        self._done: deque[int] = deque(maxlen=MAX_OPEN)
        self.duplicates = 0

    def add(self, kind: str, stamp_ns: int, message: Any) -> list[Collected]:
        """One more message. Returns the frames that wait for nothing more: complete ones, and old ones given up."""
        arrived = self._now()
        frame = self._open.get(stamp_ns)
        if frame is None:
            if kind == self._once and stamp_ns in self._done:
                self.duplicates += 1
                return []
            frame = self._open[stamp_ns] = Collected(stamp_ns)
        if kind in frame.messages:
            self.duplicates += 1
            return []
        frame.messages[kind], frame.arrived[kind] = message, arrived
        if self._expected() <= frame.messages.keys():
            del self._open[stamp_ns]
            self._done.append(stamp_ns)
            return [frame]
        return [self._open.pop(next(iter(self._open)))] if len(self._open) > MAX_OPEN else []

    def flush(self) -> list[Collected]:
        """The frames that are still incomplete, oldest first; nothing more is waited for."""
        left = list(self._open.values())
        self._open.clear()
        return left
