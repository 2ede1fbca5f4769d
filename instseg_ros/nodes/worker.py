"""One thread that works on the newest item: intake never waits for it, and nothing queues up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class NewestFirst(Generic[Item, Result]):
    """A slot for one item and a thread that empties it.

    Args:
        work: called in the thread with one item at a time; it must not raise.
        name: of the thread.
    """

    def __init__(self, work: Callable[[Item], Result], name: str) -> None:
        self._work = work
        self._period = 0.0
        self._changed = threading.Condition()
        self._slot: list[Item] = []
        self._waiting: list[Future[Result]] = []
        self._stopping = False
        self._begin: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, item: Item) -> Item | None:
        """Put ``item`` in the slot. Returns the one that will never be worked on: that which it replaced, or after ``stop`` itself."""
        with self._changed:
            if self._stopping:
                return item
            replaced = self._slot[0] if self._slot else None
            self._slot[:] = [item]
            self._changed.notify_all()
        return replaced

    def demand(self, item: Item, on_taken: Callable[[], None] = lambda: None) -> Future[Result]:
        """Have ``item``, or what waits in the slot already, done next and without regard to the rate.

        Args:
            item: to be worked on.
            on_taken: called if ``item`` goes into the slot, before anybody works on it.

        Returns:
            the future result; it is cancelled by ``stop``.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._stopping:
                future.cancel()
                return future
            if not self._slot:
                on_taken()
                self._slot[:] = [item]
            self._waiting.append(future)
            self._changed.notify_all()
        return future

    def seconds_at_work(self) -> float:
        """For how long the thread has been at the item in hand; 0 when it has none."""
        begin = self._begin
        return 0.0 if begin is None else time.monotonic() - begin

    def limit(self, max_rate: float) -> None:
        """Start at most ``max_rate`` items a second; 0 = no limit."""
        with self._changed:
            self._period = 1.0 / max_rate if max_rate > 0 else 0.0
            self._changed.notify_all()

    def stop(self) -> Item | None:
        """End the thread after the item in hand. Returns the item left in the slot."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        for future in self._waiting:
            future.cancel()
        return self._slot[0] if self._slot else None

    def _run(self) -> None:
        last_start = -float("inf")
        while True:
            with self._changed:
                while not self._stopping:
                    wait = last_start + self._period - time.monotonic()
                    if self._slot and (wait <= 0 or self._waiting):
                        break
                    self._changed.wait(wait if self._slot else None)
                if self._stopping:
                    return
                item = self._slot.pop()
                demanded, self._waiting = self._waiting, []
            self._begin = last_start = time.monotonic()
            result = self._work(item)
            self._begin = None
            for future in demanded:
                future.set_result(result)
