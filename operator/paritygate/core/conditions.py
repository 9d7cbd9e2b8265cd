"""Conditions as Kubernetes and kstatus understand them, and the events that their transitions are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from paritygate.api.status import Condition, ConditionType

_ABNORMAL = (ConditionType.RECONCILING, ConditionType.STALLED)


@dataclass(frozen=True)
class Standing:
    """What holds about one condition type now."""

    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""


@dataclass(frozen=True)
class PlannedEvent:
    """Something that people should hear of once, after the status is stored."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def timestamp(moment: datetime) -> str:
    """RFC 3339, in seconds, as metav1.Time writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    previous: Iterable[Condition], standings: Mapping[ConditionType, Standing], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions to write, in the order of `ConditionType`; the time of transition stays while the status does."""
    before = {condition.type: condition for condition in previous}
    return tuple(
        Condition(
            type=kind,
            status=standings[kind].status,
            reason=standings[kind].reason,
            message=standings[kind].message,
            observed_generation=generation,
            last_transition_time=before[kind].last_transition_time
            if kind in before and before[kind].status == standings[kind].status
            else timestamp(now),
        )
        for kind in ConditionType
        if kind in standings
    )


def transition_events(previous: Iterable[Condition], current: Iterable[Condition]) -> tuple[PlannedEvent, ...]:
    """One event per condition that came to stand for a new reason; steps that merely go on are not worth one."""
    before = {condition.type: (condition.status, condition.reason) for condition in previous}
    found: dict[str, PlannedEvent] = {}
    for condition in current:
        if before.get(condition.type) == (condition.status, condition.reason) or condition.reason in found:
            continue
        if condition.type in _ABNORMAL:
            notable = condition.type is ConditionType.STALLED or condition.reason == "Retrying"
        else:
            notable = condition.status == "True"
        if notable:
            warns = condition.type in _ABNORMAL
            found[condition.reason] = PlannedEvent(
                "Warning" if warns else "Normal", condition.reason, condition.message
            )
    return tuple(found.values())
