"""What a lifecycle manager does (nav2_lifecycle_manager, with ``bond_timeout: 0.0``): change the state, then ask for it."""

from __future__ import annotations

import time

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
AGAIN = 5.0
"""Seconds after which a request is taken for lost."""


def bring_up(*clients: Client) -> None:
    """Configure all nodes, then activate all. AssertionError: a transition failed."""
    for step in UP:
        for client in clients:
            _take(client, *step)


def bring_down(*clients: Client, finally_shutdown: bool = True) -> None:
    """Deactivate all and clean up, in the other order, and shut down for good where wanted."""
    for step in DOWN + (SHUTDOWN if finally_shutdown else []):
        for client in reversed(clients):
            _take(client, *step)


def _take(client: Client, name: str, transition: int, expected: int) -> None:
    """One transition. On a busy machine what a new client asks first, or is answered first, may be lost: a node that is still
    where it was gets asked again."""
    before, answers, begin = _state(client), [], time.monotonic()

    def settled() -> bool:
        here = _state(client)
        if here == before and len(answers) * AGAIN <= time.monotonic() - begin:
            answers.append(client.request(ChangeState, "change_state", transition=Transition(id=transition)))
        return here == expected or any(answer.done() for answer in answers)

    wait_until(settled, f"an answer to {name}")
    assert _state(client) == expected, f"{name}: the node is in state {_state(client)}"


def _state(client: Client) -> int:
    return client.look(GetState, "get_state").current_state.id
