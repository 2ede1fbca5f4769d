"""Warnings that neither flood the log nor fall silent."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.impl.rcutils_logger import RcutilsLogger

REPEAT_AFTER = 10.0
"""Seconds."""


class Complaints:
    """Logs each kind of warning at once, then at most every ``REPEAT_AFTER`` seconds with the number left out.

    rclpy's own throttling goes by the line of code, so that one kind of fault would hide another.
    """

    def __init__(self, logger: RcutilsLogger, now: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._now = now
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def warn(self, kind: str, text: str) -> None:
        """Log ``text`` unless this ``kind`` was logged a short time ago."""
        self._say(kind, text, self._logger.warning)

    def error(self, kind: str, text: str) -> None:
        """The same as an error."""
        self._say(kind, text, self._logger.error)

    def forget(self, kind: str) -> None:
        """The cause is gone: the next one is logged at once."""
        self._last.pop(kind, None)

    def _say(self, kind: str, text: str, log: Callable[[str], object]) -> None:
        now = self._now()
        if now - self._last.get(kind, -float("inf")) < REPEAT_AFTER:
            self._held[kind] = self._held.get(kind, 0) + 1
            return
        held = self._held.pop(kind, 0)
        self._last[kind] = now
        log(f"{text} ({held} more like this since)" if held else text)
