"""A second node with a thread of its own, for callbacks that nothing may hold up: intake, and the look at the state."""

from __future__ import annotations

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from .complaints import Complaints
from .runner import Spinner


class Lane:
    """Spins from construction to ``close``, whatever executor the main node is in and whatever that one is busy with.

    rclpy knows no executor for a part of a node; its MultiThreadedExecutor would do, but polls while a callback waits for its
    thread, which took the segmenter's worker 70–240 ms a frame on two cores (``instseg bench ros``). A node of its own also
    keeps the wait set of the images small.

    Args:
        main: the node that this one works for; name and namespace follow it.
        complaints: gets the traceback of a callback that raises, which ends nothing.

    Attributes:
        node: where subscriptions and timers go. Topic names must be resolved by ``main``: this node knows no remappings.
    """

    def __init__(self, main: Node, complaints: Complaints) -> None:
        self.node = Node(
            f"{main.get_name()}_intake",
            namespace=main.get_namespace(),
            context=main.context,
            use_global_arguments=False,
            start_parameter_services=False,
        )
        executor = SingleThreadedExecutor(context=main.context)
        executor.add_node(self.node)
        self._spinner = Spinner(executor, on_error=lambda text: complaints.error("callback", text))
        self._spinner.start()

    def close(self) -> None:
        """End after the callback in hand. May be repeated."""
        self._spinner.stop()
        self.node.destroy_node()
