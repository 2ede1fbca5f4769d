"""Messages of several topics that belong together by their stamps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import message_filters
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

QUEUE_SIZE = 10
"""Messages a topic may be ahead of the others."""


@dataclass(frozen=True)
class Arrival:
    """Messages that belong together.

    Attributes:
        depth, info, color: the messages; color is None where the model does not use it.
        received: monotonic seconds when the last of them arrived.
    """

    depth: Image | CompressedImage
    info: CameraInfo
    color: Image | CompressedImage | None
    received: float


class Sets:
    """Puts messages together, by message_filters.

    Args:
        roles: depth, camera_info and perhaps color, in this order.
        slop: seconds by which stamps may differ.
        on_set: called with each set, by ``add``; it must not raise: upstream's synchroniser would stay locked for ever.

    Attributes:
        newest: the last set.
    """

    def __init__(self, roles: Sequence[str], slop: float, on_set: Callable[[Sets, Arrival], None]) -> None:
        self.roles = tuple(roles)
        self._slop, self._on_set = slop, on_set
        self.restart()

    def restart(self) -> None:
        """Forget what came: the synchroniser would keep late stamps for ever and drop the early ones of a looped bag."""
        self.newest: Arrival | None = None
        self._inputs = {role: message_filters.SimpleFilter() for role in self.roles}
        self._synchronizer = message_filters.ApproximateTimeSynchronizer(
            list(self._inputs.values()), queue_size=QUEUE_SIZE, slop=self._slop
        )
        self._synchronizer.registerCallback(self._complete)

    def add(self, role: str, message: Any) -> None:
        """One more message; those of other roles are ignored."""
        if role in self._inputs:
            self._inputs[role].signalMessage(message)

    def _complete(self, depth: Any, info: CameraInfo, color: Any = None) -> None:
        self.newest = Arrival(depth, info, color, time.monotonic())
        self._on_set(self, self.newest)
