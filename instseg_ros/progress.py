"""Progress bars of work that comes in stages."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any


class ProgressBars:
    """One bar a stage; the one before is closed when the next begins, the last by ``with``."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, name: str, images: int) -> Callable[[int], Any]:
        """Begin a stage; the answer is to be called with each number of images done."""
        from tqdm import tqdm

        self._close()
        self._bar = tqdm(total=images, desc=name, unit="image", smoothing=0.05)
        return self._bar.update

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()
