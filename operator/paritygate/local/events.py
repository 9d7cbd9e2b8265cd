"""What a run tells whoever watches it. Only for eyes: nothing is decided by an event.

Events carry no clock readings; a display measures time by its own clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from paritygate.api.artifacts import StageName
from paritygate.api.report import ParityReport, Verdict


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on after it was interrupted."""

    migration: str
    stages: tuple[str, ...]
    """Everything that the run will do, in order: stage names, then 'Serve' where it is asked for."""


@dataclass(frozen=True)
class StageStarted:
    """An attempt of a stage begins."""

    stage: StageName | str
    attempt: int = 1


@dataclass(frozen=True)
class StageProgress:
    """How far the running stage is."""

    stage: StageName | str
    message: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class StageFinished:
    """A stage has its result."""

    stage: StageName | str
    message: str = ""
    """What it found or made, in one line; may be empty."""
    reused: bool = False
    """Whether an earlier run had finished it."""


@dataclass(frozen=True)
class StageFailed:
    """An attempt of a stage ended without a result."""

    stage: StageName | str
    reason: str
    message: str
    will_retry: bool = False


@dataclass(frozen=True)
class Note:
    """A line that a person should see now, such as a finding or what was inferred."""

    text: str
    stage: StageName | str | None = None


@dataclass(frozen=True)
class RunFinished:
    """A run ends."""

    verdict: Verdict
    report: ParityReport | None = None
    """None = Error: there is no evidence."""
    message: str = ""
    """What happened and what to do, where there is no report."""
    report_path: str | None = None
    next_step: str | None = None
    """One line about what to do now; None = the report's own advice."""
    reason: str | None = None
    """The word of docs/reference/reasons.md for it, where there is no report."""


Event = RunStarted | StageStarted | StageProgress | StageFinished | StageFailed | Note | RunFinished
