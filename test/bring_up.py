"""What a lifecycle manager does (nav2_lifecycle_manager, with ``bond_timeout: 0.0``): change the state, then ask for it."""

from __future__ import annotations

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_rig import Client, wait_until

UP = [
    ("configure", Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
    ("activate", Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
]
DOWN = [
    ("deactivate", Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
    ("cleanup", Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
]
SHUTDOWN = [("shutdown", Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, State.PRIMARY_STATE_FINALIZED)]


def bring_up(*clients: Client) -> None:
    """Configure all nodes, then activate all. AssertionError: a transition failed."""
    for step in UP:
        for client in clients:
            _walk(client, [step])


def bring_down(*clients: Client, finally_shutdown: bool = True) -> None:
    """Deactivate all and clean up, in the other order, and shut down for good where wanted."""
    for step in DOWN + (SHUTDOWN if finally_shutdown else []):
        for client in reversed(clients):
            _walk(client, [step])


def _walk(client: Client, steps: list[tuple[str, int, int]]) -> None:
    for name, transition, expected in steps:
        answer = client.request(ChangeState, "change_state", transition=Transition(id=transition))

        def state() -> State:
            return client.look(GetState, "get_state").current_state

        # A new client's first answer may be lost: on a busy machine the node was configured, and nobody heard of it.
        wait_until(lambda: answer.done() or state().id == expected, f"an answer to {name}")
        done, now = not answer.done() or answer.result().success, state()
        assert done and now.id == expected, f"{name}: success = {done}, the node is {now.label}"
