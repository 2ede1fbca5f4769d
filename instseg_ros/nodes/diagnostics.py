"""The node's state as ``diagnostic_msgs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.time import Time

from .statistics import Statistics

RECENT = 10.0
"""Seconds for which a fault keeps the status from being OK."""


def diagnostic_array(
    *, name: str, hardware_id: str, state: str, statistics: Statistics, problems: Sequence[str],
    extra: Mapping[str, str], stamp: Time,
) -> DiagnosticArray:
    """One status.

    Args:
        name: of the node.
        hardware_id: the model.
        state: of the lifecycle.
        statistics: counters.
        problems: what the watchdog found.
        extra: further keys and values.
        stamp: now.
    """
    level, message = _summary(state, statistics, problems)
    values = {"state": state, **extra, **statistics.values(), "problems": "; ".join(problems)}
    status = DiagnosticStatus(
        level=level,
        name=f"{name}: segmentation",
        message=message,
        hardware_id=hardware_id,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    array = DiagnosticArray(status=[status])
    array.header.stamp = stamp.to_msg()
    return array


def _summary(state: str, statistics: Statistics, problems: Sequence[str]) -> tuple[bytes, str]:
    fault = statistics.last_error if statistics.seconds_since_fault() < RECENT else ""
    if state != "active":
        return (DiagnosticStatus.ERROR, f"{state}: {fault}") if fault else (DiagnosticStatus.OK, state)
    if problems:
        return DiagnosticStatus.ERROR, problems[0]
    if fault:
        return DiagnosticStatus.WARN, fault
    return DiagnosticStatus.OK, f"{statistics.instances} parts in the last answer"
