"""What the node counts: frames by their fate, latencies, rates. Safe to use from several threads.

A frame is *received* when its messages (depth, camera info, and colour where the model uses it) have come and belong together
while the node is active; and once more when ``~/segment`` asks for one that was dealt with already (*requested*). At every moment

    received = answered + replaced_by_newer + skipped + pending

where pending are those in hand: one waiting, one at work. What never became a frame is counted as depth images:

    depth_images = received − requested + depth_refused + depth_unpaired

An unpaired image has found no camera info (or colour) of its time, or not yet.
"""

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
    """The counters.

    Args:
        now: clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._depth_images = self._depth_refused = 0
        self._received = self._requested = self._answered = self._replaced = 0
        self._skipped: Counter[str] = Counter()
        self.last_error = ""
        self.last_fault = -float("inf")
        self.instances = 0
        self._arrivals: deque[float] = deque(maxlen=WINDOW)
        self._answers: deque[float] = deque(maxlen=WINDOW)
        self._latency: deque[float] = deque(maxlen=WINDOW)
        self._segment: deque[float] = deque(maxlen=WINDOW)

    def depth_arrived(self) -> None:
        """A depth image came in, of whatever quality."""
        with self._lock:
            self._depth_images += 1

    def depth_refused(self) -> None:
        """A depth image cannot be put together with anything."""
        with self._lock:
            self._depth_refused += 1

    def frame_received(self) -> None:
        """A synchronised set of messages arrived."""
        with self._lock:
            self._received += 1
            self._arrivals.append(self._now())

    def frame_requested(self) -> None:
        """A frame that was dealt with is to be answered (again)."""
        with self._lock:
            self._received += 1
            self._requested += 1

    def frame_replaced(self) -> None:
        """A newer frame took the place of one that waited."""
        with self._lock:
            self._replaced += 1

    def frame_skipped(self, reason: str, error: str = "") -> None:
        """A frame was not answered; ``error`` says why where something is wrong."""
        with self._lock:
            self._skipped[reason] += 1
            if error:
                self.last_error = error
                self.last_fault = self._now()

    def frame_answered(self, latency: float, segment: float, instances: int) -> None:
        """An answer was published, ``latency`` seconds after the frame arrived, of which ``segment`` in the segmenter."""
        with self._lock:
            self._answered += 1
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
            skipped = sum(self._skipped.values())
            values = {
                "rate_in_hz": f"{self._rate(self._arrivals):.2f}",
                "rate_out_hz": f"{self._rate(self._answers):.2f}",
                "received": str(self._received),
                "answered": str(self._answered),
                "replaced_by_newer": str(self._replaced),
                "skipped": str(skipped),
                "pending": str(self._received - self._answered - self._replaced - skipped),
                **{f"skipped_{reason}": str(count) for reason, count in sorted(self._skipped.items())},
                "requested": str(self._requested),
                "depth_images": str(self._depth_images),
                "depth_refused": str(self._depth_refused),
                "depth_unpaired": str(self._depth_images - self._depth_refused - self._received + self._requested),
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
