"""What a migration still needs: artefacts in its store, and Jobs that have ended. Everything else may be removed."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from typing import Final

from paritygate.api.artifacts import StageName
from paritygate.api.status import ModelMigrationStatus, StageState
from paritygate.core.actions import DiscardAttempt
from paritygate.core.observed import Attempt, Observed

_SPECS: Final = 2
"""How many of the things asked for latest keep their Jobs."""


def artefacts(observed: Observed) -> frozenset[str] | None:
    """Digests of the artefacts that must stay while a Job that is started now is at work. What the Job itself reads and
    makes comes in addition.

    These are: what every revision reads whenever one of its pods starts; what finished stages left, also those of an
    earlier spec whose Jobs are still there, since it may be rolled back to; and what the status refers to, its history
    included. None = a revision does not say what it reads, so that nothing may be removed.
    """
    kept = {*observed.made, *(receipt.output for receipt in observed.receipts)}
    kept |= _referred(observed.status) if observed.status else set()
    for revision in observed.revisions:
        if not revision.verdict or not revision.candidate:
            return None
        kept |= {revision.candidate, revision.verdict}
    return frozenset(kept)


def _referred(status: ModelMigrationStatus) -> set[str]:
    found = {stage.output for stage in status.stages if stage.output is not None}
    found |= {candidate.digest for candidate in status.candidates}
    found |= {revision.digest for revision in status.revisions}
    for promotion in status.history:
        found |= {promotion.digest, *filter(None, (promotion.verdict,))}
    return found


def discards(observed: Observed, current: Container[str]) -> tuple[DiscardAttempt, ...]:
    """Ended attempts that nobody needs any more, for when a run has come to its end.

    Of each Job stay the newest attempt at what is asked for now and at what was asked for before: they hold logs, and a
    spec that is rolled back finds its results at once. Of what is asked for now those that failed in this generation
    stay as well. What succeeded earlier is in the store, where the next Job finds it.

    Args:
        observed: what is there.
        current: digests of the stages of what is asked for now.
    """
    kept = set()
    for attempts in _by_job(observed.attempts):
        digests = list(dict.fromkeys(a.digest for a in sorted(attempts, key=_age, reverse=True)))
        for digest in (*digests[:_SPECS], *(d for d in digests if d in current)):
            kept.add(max((a for a in attempts if a.digest == digest), key=lambda a: a.number))
    return tuple(
        DiscardAttempt(one.stage, one.digest, one.number, one.job)
        for one in observed.attempts
        if one.job is not None
        and one.state is not StageState.RUNNING
        and one not in kept
        and not (one.digest in current and one.state is StageState.FAILED and not one.stale)
    )


def _by_job(attempts: tuple[Attempt, ...]) -> tuple[list[Attempt], list[Attempt]]:
    """Attempts of the Job that converts, and of the one that judges."""
    judging = [a for a in attempts if a.stage is StageName.VALIDATE]
    return [a for a in attempts if a.stage is not StageName.VALIDATE], judging


def _age(attempt: Attempt) -> tuple[datetime, int]:
    return attempt.started_at, attempt.number
