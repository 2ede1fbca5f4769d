"""What the camera node counts, and how it tells it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.time import Time

from ..diagnostics import RECENT
from ..statistics import RATE_SPAN, WINDOW

SEARCHING, CONNECTED, STREAMING, ENDED, CLOSED = "searching", "connected", "streaming", "ended", "closed"
"""Searching for the camera; opening it, or waiting for its first frame; frames come; the recording is over; not active."""


@dataclass(frozen=True)
class Camera:
    """What the camera says about itself, and what is streamed."""

    name: str = ""
    serial: str = ""
    firmware: str = ""
    usb_type: str = ""
    depth: str = ""
    color: str = ""

    def __str__(self) -> str:
        streams = ", ".join(f"{name} {profile}" for name, profile in (("depth", self.depth), ("color", self.color)) if profile)
        return f"{self.name} {self.serial} (firmware {self.firmware or 'unknown'}, USB {self.usb_type or 'unknown'}): {streams}"


class CameraStatistics:
    """received = published + incomplete + failed. Safe to use from several threads.

    Args:
        now: clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.connection, self.camera, self.missing = CLOSED, Camera(), ""
        self.received = self.published = self.incomplete = self.failed = self.dropped = self.reconnects = 0
        self.last_error, self._last_fault = "", -float("inf")
        self._times: deque[float] = deque(maxlen=WINDOW)

    def connect(self, connection: str, camera: Camera | None = None, *, missing: str = "") -> None:
        """The connection's state has changed; ``missing`` says why there is no camera."""
        with self._lock:
            self.connection, self.missing = connection, missing
            self.camera = camera or self.camera

    def lost(self) -> None:
        """The camera went away, or has to be opened anew."""
        with self._lock:
            self.reconnects += 1

    def frame_received(self, dropped: int) -> None:
        """A set of frames came, ``dropped`` were left out before it."""
        with self._lock:
            self.received += 1
            self.dropped += dropped
            if self.connection == CONNECTED:
                self.connection = STREAMING

    def frame_published(self) -> None:
        """It was published."""
        with self._lock:
            self.published += 1
            self._times.append(self._now())

    def frame_incomplete(self) -> None:
        """It lacked depth or colour of its moment."""
        with self._lock:
            self.incomplete += 1

    def frame_failed(self, error: str) -> None:
        """It could not be processed."""
        with self._lock:
            self.failed += 1
        self.error(error)

    def error(self, text: str) -> None:
        """Remember an error."""
        with self._lock:
            self.last_error, self._last_fault = text, self._now()

    def diagnostics(self, *, name: str, state: str, extra: Mapping[str, str], stamp: Time) -> DiagnosticArray:
        """All of it as one status.

        Args:
            name: of the node.
            state: of its lifecycle.
            extra: further keys and values.
            stamp: now.
        """
        with self._lock:
            rate = self._rate()
            level, message = self._summary(state, rate)
            values = {
                "state": state,
                "connection": self.connection,
                **vars(self.camera),
                **extra,
                "rate_hz": f"{rate:.2f}",
                "frames": str(self.received),
                "published": str(self.published),
                "incomplete": str(self.incomplete),
                "failed": str(self.failed),
                "dropped": str(self.dropped),
                "reconnects": str(self.reconnects),
                "last_error": self.last_error,
            }
            serial = self.camera.serial
        pairs = [KeyValue(key=key, value=value) for key, value in values.items()]
        status = DiagnosticStatus(level=level, name=f"{name}: camera", message=message, hardware_id=serial, values=pairs)
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp.to_msg()
        return array

    def _summary(self, state: str, rate: float) -> tuple[bytes, str]:
        fault = self.last_error if self._now() - self._last_fault < RECENT else ""
        if state != "active":
            return (DiagnosticStatus.ERROR, f"{state}: {fault}") if fault else (DiagnosticStatus.OK, state)
        if self.connection == SEARCHING:
            return DiagnosticStatus.ERROR, self.missing
        if fault:
            return DiagnosticStatus.WARN, fault
        if self.connection == STREAMING:
            return DiagnosticStatus.OK, f"{rate:.1f} frames a second from {self.camera.name} {self.camera.serial}"
        return DiagnosticStatus.OK, self.connection

    def _rate(self) -> float:
        """Published frames per second over the last seconds."""
        now = self._now()
        recent = [t for t in self._times if t >= now - RATE_SPAN]
        return (len(recent) - 1) / (now - recent[0]) if len(recent) > 1 and now > recent[0] else 0.0
