"""When a frame was captured, by this machine's clock."""

from __future__ import annotations

TRUSTED = 1_000_000_000
"""Nanoseconds that a time stamp said to be of this machine's clock may lie away from it."""
WINDOW = 10_000_000_000
"""Nanoseconds after which an offset between two clocks is forgotten: crystals drift by some ms a minute."""


class HostClock:
    """Puts the frames of one stream on the host's clock.

    Device clocks count from an unknown time. Their offset to the host's clock is the smallest one seen lately: that of the
    frame that was delayed least on its way.
    """

    def __init__(self) -> None:
        self._offset: int | None = None
        self._recent: int | None = None
        self._window_begin = 0
        self._last_time = -(1 << 63)

    def stamp(self, time_ms: float, arrival: int, *, is_host_time: bool) -> int:
        """Time of capture, nanoseconds since 1970.

        Args:
            time_ms: time stamp of the frame.
            arrival: when it came, nanoseconds since 1970.
            is_host_time: ``time_ms`` claims to be of the host's clock (domains system time and global time).
        """
        time = round(time_ms * 1e6)
        if is_host_time and abs(arrival - time) < TRUSTED:
            return min(time, arrival)
        if time < self._last_time:  # the camera was reset, or its clock began anew
            self._offset = None
        self._last_time = time
        return min(time + self._smallest(arrival - time, arrival), arrival)

    def _smallest(self, offset: int, arrival: int) -> int:
        """The smallest offset of this window and the one before."""
        if self._offset is None or offset - self._offset > TRUSTED:
            self._offset = self._recent = offset
            self._window_begin = arrival
        elif not 0 <= arrival - self._window_begin < WINDOW:
            self._offset, self._recent = min(self._recent, offset), offset
            self._window_begin = arrival
        self._recent = min(self._recent, offset)
        self._offset = min(self._offset, offset)
        return self._offset
