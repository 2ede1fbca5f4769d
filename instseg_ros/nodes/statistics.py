"""What the node counts: frames by their fate, latencies, rates. Safe to use from several threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

WINDOW = 300
"""Frames over which latencies and rates are taken."""
RATE_SPAN = 10.0
"""Seconds over which rates are taken."""


class Statistics:
    """received = answered + replaced + skipped + at most one in hand and one waiting.

    Args:
        now: clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.received = self.answered = self.replaced = 0
        self.skipped: Counter[str] = Counter()
        self.last_error = ""
        self.last_fault = -float("inf")
        self.instances = 0
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._answers: deque[float] = deque(maxlen=WINDOW)
        self._latency: deque[float] = deque(maxlen=WINDOW)
        self._segment: deque[float] = deque(maxlen=WINDOW)

    def frame_received(self) -> None:
        """A synchronised set of messages arrived."""
        with self._lock:
            self.received += 1
            self._arrivals.append(self._now())

    def frame_replaced(self) -> None:
        """A newer frame took the place of one that waited."""
        with self._lock:
            self.replaced += 1

    def frame_skipped(self, reason: str, error: str = "") -> None:
        """A frame was not answered; ``error`` says why where something is wrong."""
        with self._lock:
            self.skipped[reason] += 1
            if error:
                self.last_error = error
                self.last_fault = self._now()

    def frame_answered(self, latency: float, segment: float, instances: int) -> None:
        """An answer was published, ``latency`` seconds after the frame arrived, of which ``segment`` in the segmenter."""
        with self._lock:
            self.answered += 1
            self.instances = instances
            self._answers.append(self._now())
            self._latency.append(latency)
            self._segment.append(segment)

    def error(self, text: str) -> None:
        """Remember an error that concerns no frame."""
        with self._lock:
            self.last_error, self.last_fault = text, self._now()

    def seconds_since_fault(self) -> float:
        """Seconds since the last error, inf if there was none."""
        return self._now() - self.last_fault

    def values(self) -> dict[str, str]:
        """Everything as the key–value pairs of a diagnostic message; times in milliseconds, rates in hertz."""
        with self._lock:
            latency, segment = np.array(self._latency) * 1e3, np.array(self._segment) * 1e3
            values = {
                "rate_in_hz": f"{self._rate(self._arrivals):.2f}",
                "rate_out_hz": f"{self._rate(self._answers):.2f}",
                "received": str(self.received),
                "answered": str(self.answered),
                "replaced_by_newer": str(self.replaced),
                "skipped": str(sum(self.skipped.values())),
                **{f"skipped_{reason}": str(count) for reason, count in sorted(self.skipped.items())},
                "instances": str(self.instances),
                "last_error": self.last_error,
            }
        for name, times in (("latency", latency), ("segment", segment), ("overhead", latency - segment)):
            values[f"{name}_ms_median"] = f"{np.median(times):.2f}" if times.size else "nan"
            values[f"{name}_ms_p99"] = f"{np.percentile(times, 99):.2f}" if times.size else "nan"
        return values

    def _rate(self, times: deque[float]) -> float:
        """Events per second over the last ``RATE_SPAN`` seconds (less, where the window is full earlier)."""
        since = self._now() - RATE_SPAN
        recent = [t for t in times if t >= since]
        if len(recent) < 2:
            return 0.0
        span = self._now() - recent[0]
        return (len(recent) - 1) / span if span > 0 else 0.0
