"""From a candidate that passed to the revision that serves, and the upkeep of what serves: DESIGN.md §6 in code."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from paritygate.api.digests import digest_of
from paritygate.api.report import Verdict
from paritygate.api.spec import Serving
from paritygate.core.actions import Action, AdjustRevision, ApplyRevision, Grounds, RetireRevision, SetTraffic
from paritygate.core.observed import Observed, Revision
from paritygate.core.standing import Outlook, Step

DEFAULT_REPLICAS: Final = 2
READY_HOLD: Final = timedelta(seconds=3)
"""From readiness to traffic: measured, data planes lag up to 0.92 s behind endpoints. Kubernetes stamps whole seconds,
so that up to one of these may have passed already."""
FLIP_HOLD: Final = timedelta(seconds=2)
"""From traffic to `Ready`: who waited for that is then answered, and by this revision; stamped in whole seconds too."""
DRAIN_HOLD: Final = timedelta(seconds=5)
"""From traffic to taking down the revision before: what was on its way still arrives there."""
UNAVAILABLE_LIMIT: Final = timedelta(minutes=10)
"""How long what served may answer nothing before somebody is called; as long as a Deployment may take to come up."""


@dataclass(frozen=True)
class Turn:
    """What the rollout comes to."""

    outlook: Outlook
    actions: tuple[Action, ...] = ()
    requeue_at: datetime | None = None
    tells: bool = True
    """Whether how it stands is worth a write, where one tells already that this is under way."""


def revision_name(name: str, candidate: str, runtime: str) -> str:
    """Names a revision by what it is, so that equal revisions are one and no revision is ever rewritten."""
    return f"{name}-{digest_of([candidate, runtime]).removeprefix('sha256:')[:8]}"


def replicas_of(serving: Serving, stable: Revision | None) -> int:
    """Replicas to bring a revision up with: as stated, else as many as carry the traffic that it will take over."""
    if serving.replicas is not None:
        return serving.replicas
    present = stable.replicas if stable is not None and stable.replicas is not None else 0
    if serving.autoscaling is None:
        return max(DEFAULT_REPLICAS, present)
    asked = serving.autoscaling
    return min(max(asked.min_replicas, present), asked.max_replicas)


def serve(observed: Observed, grounds: Grounds, verdict: str, decided: str) -> Turn:
    """The way of a candidate that passed to all the traffic.

    Args:
        observed: what is there.
        grounds: why it may serve.
        verdict: artefact with the golden rows that it must answer.
        decided: the verdict in a sentence.
    """
    name = revision_name(observed.name, grounds.candidate, grounds.runtime)
    revision = _named(observed, name)
    if revision is None:
        replicas = replicas_of(observed.spec.serving, _named(observed, observed.traffic))
        apply = ApplyRevision(name, grounds, verdict, replicas)
        return Turn(_coming(name), (apply,))
    if revision.told and (revision.candidate, revision.runtime) != (grounds.candidate, grounds.runtime):
        message = f"revision {name} holds other bytes or another runtime than those that passed; remove it"
        return Turn(_stalled("RevisionMismatch", message))
    if revision.altered or not revision.told:
        restore = ApplyRevision(name, grounds, verdict, revision.replicas or DEFAULT_REPLICAS)
        return Turn(_working("RevisionAltered", f"revision {name} is brought back to what passed"), (restore,))
    if observed.traffic == name and not revision.serves:
        return _unavailable(observed, revision)
    if observed.traffic == name and observed.pointed:
        until = _passes(observed, observed.traffic_since, FLIP_HOLD)
        if until is not None:
            return Turn(_coming(name), (), until, tells=False)
        return Turn(Outlook(Step.DONE, "Promoted", f"revision {name} serves; {decided}", judged=True))
    move = _take_over(observed, grounds, name)
    return move if observed.traffic == name else _not_yet(observed, revision) or move


def upkeep(observed: Observed, wanted: str | None) -> tuple[tuple[Action, ...], datetime | None]:
    """What is due for revisions whatever the stages are at; and when to look again.

    Args:
        observed: what is there.
        wanted: name of the revision of the candidate that passed; None = none has for what is asked.
    """
    if not observed.serving or observed.unresolved is not None:
        return (), None
    stable = _named(observed, observed.traffic)
    actions: tuple[Action, ...] = (AdjustRevision(stable.name),) if stable is not None and not stable.in_line else ()
    left = leftovers(observed, wanted)
    until = _passes(observed, observed.traffic_since, DRAIN_HOLD) if left and observed.traffic is not None else None
    if until is None:
        actions += tuple(map(RetireRevision, left))
    return actions, until


def leftovers(observed: Observed, wanted: str | None) -> tuple[str, ...]:
    """Revisions that nothing leads to and that nobody waits for.

    Where nothing owns the traffic, the pointer may have been lost: only what was never promoted is left over then.
    """
    before = observed.status.revisions if observed.status else ()
    tried = {one.name for one in before if one.role == "Candidate"}
    kept = {observed.traffic, wanted, *observed.lagging}
    return tuple(
        one.name
        for one in observed.revisions
        if one.name not in kept and (observed.traffic is not None or one.name in tried)
    )


def _not_yet(observed: Observed, revision: Revision) -> Turn | None:
    """Why it cannot have the traffic; None = it can."""
    if revision.failure is not None:
        return Turn(_stalled("RevisionFailed", revision.failure.message))
    if not revision.ready:
        return Turn(_coming(revision.name))
    until = _passes(observed, revision.ready_since, READY_HOLD)
    return None if until is None else Turn(_coming(revision.name), (), until)


def _take_over(observed: Observed, grounds: Grounds, name: str) -> Turn:
    """Traffic moves on a verdict that stands in the status, where everybody can read why; else it is written first."""
    verdict = observed.status.verdict if observed.status else None
    if verdict is None or (verdict.result, verdict.report_digest) != (Verdict.PASSED, grounds.report):
        return Turn(_coming(name), (), observed.now)
    return Turn(_coming(name), (SetTraffic(name, grounds),))


def _coming(name: str) -> Outlook:
    """From its making until it serves: that it is ready and held a moment is not worth a write."""
    return _working("RollingOut", f"revision {name} is coming up")


def _unavailable(observed: Observed, revision: Revision) -> Turn:
    message = f"revision {revision.name} owns the traffic and answers nothing"
    if revision.failure is not None:
        message += f": {revision.failure.message}"
    until = _passes(observed, revision.unavailable_since, UNAVAILABLE_LIMIT)
    since = revision.unavailable_since
    if until is None and since is not None and since <= observed.now:
        return Turn(_stalled("ServingUnavailable", message))
    return Turn(_working("ServingUnavailable", message), (), until)


def _passes(observed: Observed, since: datetime | None, hold: timedelta) -> datetime | None:
    """When `hold` has passed since then; None = it has, or nothing is known and nothing waited for.

    What lies further ahead than `hold` was stamped by another clock, or ours was set back: it is taken for unknown, or
    traffic would wait for as long as the clocks differ.
    """
    return None if since is None or abs(observed.now - since) >= hold else since + hold


def _named(observed: Observed, name: str | None) -> Revision | None:
    return next((one for one in observed.revisions if one.name == name), None)


def _working(reason: str, message: str) -> Outlook:
    return Outlook(Step.WORKING, reason, message, judged=True)


def _stalled(reason: str, message: str) -> Outlook:
    return Outlook(Step.STALLED, reason, message, judged=True)
