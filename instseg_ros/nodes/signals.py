"""SIGINT and SIGTERM, however often and close together they come and whatever the main thread is busy with."""

from __future__ import annotations

import os
import signal
import threading

PATIENCE = 4
"""A process that does not end in time is ended by this signal."""
NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Sets ``stop`` when a signal comes. Repeating it does not disturb the clean-up, unless that hangs.

    Python runs handlers in the main thread between two of its instructions: one that set an event could find the event's lock
    taken by the very code that it interrupts, or by a handler before it, and a main thread that waits need not wake. So the
    handlers do nothing; the interpreter writes each signal's number into a pipe, which a thread reads.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        for number in NUMBERS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    @staticmethod
    def ignore() -> None:
        """From now on signals have no effect at all."""
        for number in NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    def _listen(self) -> None:
        count = 0
        while True:
            for number in os.read(self._read, 64):
                if number in NUMBERS:
                    count += 1
                    self._stop.set()
                    if count >= PATIENCE:
                        os._exit(128 + number)
