"""Sources of messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node


class SimpleFilter:
    """Something that has output; others register to be called with it."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._connections = 0

    def registerCallback(self, callback: Callable[..., None], *args: Any) -> int:  # noqa: N802 (upstream's name)
        """Have ``callback(*messages, *args)`` called with every output; in the order of registration."""
        connection, self._connections = self._connections, self._connections + 1
        self.callbacks[connection] = (callback, args)
        return connection

    def unregisterCallback(self, connection: int) -> None:  # noqa: N802
        """Undo ``registerCallback``, which returned ``connection``."""
        self.callbacks.pop(connection, None)

    def signalMessage(self, *messages: Any) -> None:  # noqa: N802
        """Put ``messages`` out."""
        for callback, args in list(self.callbacks.values()):
            callback(*messages, *args)


class Subscriber(SimpleFilter):
    """A ROS 2 subscription as a filter; the arguments are those of ``node.create_subscription`` without the callback.

    Attributes of the subscription (``topic_name``, …) are reachable through the filter, as upstream.
    """

    def __init__(self, node: Node, msg_type: type, topic: str, **options: Any) -> None:
        super().__init__()
        self.node = node
        self.topic = topic
        options.setdefault("qos_profile", 10)
        self.sub = node.create_subscription(msg_type, topic, self.callback, **options)

    def callback(self, message: Any) -> None:
        """Called by the executor."""
        self.signalMessage(message)

    def getTopic(self) -> str:  # noqa: N802
        """The topic as it was given."""
        return self.topic

    def __getattr__(self, name: str) -> Any:
        if name == "sub":  # not yet there: the subscription could not be created
            raise AttributeError(name)
        return getattr(self.sub, name)
