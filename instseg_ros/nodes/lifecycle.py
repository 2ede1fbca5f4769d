"""What the lifecycle nodes of this package have in common: they start themselves, and say why a transition failed."""

from __future__ import annotations

from typing import Any, Protocol

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from ..errors import explain


class RemembersErrors(Protocol):
    """The node's counters."""

    def error(self, text: str) -> None:
        """Remember an error."""


class SelfStartingNode(LifecycleNode):
    """A lifecycle node that takes the steps to active itself, unless the parameter ``autostart`` leaves that to a manager.

    Subclasses have ``close`` (``runner.Runnable``), and give ``_state`` its value in their transitions.

    Args:
        name: of the node.
        statistics: counters, for the diagnostics.
        options: passed on to ``LifecycleNode``.
    """

    def __init__(self, name: str, statistics: RemembersErrors, **options: Any) -> None:
        super().__init__(name, **options)
        self._statistics = statistics
        self._state = "unconfigured"
        self.declare_parameter(
            "autostart", True, ParameterDescriptor(description="Configure and activate at the start.", read_only=True)
        )

    def start(self) -> bool:
        """Configure and activate, if ``autostart`` says so. False where that fails; the log says why."""
        if not self.get_parameter("autostart").value:
            return True
        steps = (self.trigger_configure, self.trigger_activate)
        return all(step() == TransitionCallbackReturn.SUCCESS for step in steps)

    def close(self) -> None:
        """Stop working; the node is destroyed next. May be repeated, also where making the node has failed."""
        raise NotImplementedError

    def destroy_node(self) -> None:
        """As of every node; what is still at work ends first."""
        self.close()
        super().destroy_node()

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As cleaning up, for good."""
        self.on_cleanup(state)
        self._state = "finalized"
        return super().on_shutdown(state)

    def _fail(self, what: str, error: Exception) -> TransitionCallbackReturn:
        """A transition that failed; rclpy would swallow the exception without a word."""
        why = f"{what}: {explain(error)}" if what else explain(error)
        self._statistics.error(why)
        self.get_logger().fatal(why)
        return TransitionCallbackReturn.FAILURE
