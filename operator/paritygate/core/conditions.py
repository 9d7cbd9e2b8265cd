"""Conditions as Kubernetes and kstatus understand them, and the events that their transitions are worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from paritygate.api.status import Condition, ConditionType

_NEWS: Final = (ConditionType.READY, ConditionType.SUSPENDED)
"""Conditions that are worth an event when they come to hold: what it says of Ready holds the verdict. That a step on
the way there is done, conditions say, and when."""
_LASTING: Final = (*_NEWS, ConditionType.STALLED)
"""Conditions that say what a migration came to. They appear, or come to hold, with their news."""
_STEPS: Final = frozenset(
    {"Resolving", "Queued", "JobSuspended", "Assessing", "Capturing", "Converting", "Validating", "RollingOut"}
)
"""Reasons of Reconciling while all goes as it should; any other is worth a look."""


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
    since: str | None = None
    """Since when it holds, where that can be read from the status for as long as it does; None = from now on."""


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
    before = {condition.type: condition for condition in previous}
    found: dict[str, PlannedEvent] = {}
    for condition in current:
        then = before.get(condition.type)
        if then is not None and (then.status, then.reason) == (condition.status, condition.reason):
            continue
        kind = _event_type(then, condition)
        if kind is not None and condition.reason not in found:
            since = condition.last_transition_time if condition.type in _LASTING else None
            found[condition.reason] = PlannedEvent(kind, condition.reason, condition.message, since)
    return tuple(found.values())


def came_to(current: Iterable[Condition], after: str) -> tuple[PlannedEvent, ...]:
    """What conditions that came to hold after a time are worth, where it is not known whether that was told.

    That a step did not go as it should is told of while it happens, and not afterwards.
    """
    lately = (one for one in current if one.type in _LASTING and one.last_transition_time > after)
    return transition_events((), lately)


def _event_type(before: Condition | None, now: Condition) -> Literal["Normal", "Warning"] | None:
    """None = nobody needs to be told."""
    if now.type is ConditionType.STALLED or (now.type is ConditionType.RECONCILING and now.reason not in _STEPS):
        return "Warning"
    if now.type is ConditionType.SERVING_AVAILABLE:
        # That something serves is told by Ready. That nothing does any more is news.
        return "Warning" if before is not None and before.status == "True" and now.status == "False" else None
    return "Normal" if now.type in _NEWS and now.status == "True" else None
