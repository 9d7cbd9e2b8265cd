"""What Prometheus is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from paritygate import __version__
from paritygate.api.artifacts import StageName
from paritygate.api.status import StageState
from paritygate.cluster.keys import Key
from paritygate.core.actions import (
    Action,
    AdjustRevision,
    ApplyRevision,
    CancelStage,
    DiscardAttempt,
    RetireRevision,
    SetTraffic,
    StartStage,
)
from paritygate.core.observed import Attempt, Observed
from paritygate.core.plan import Plan
from paritygate.errors import Conflict, ParityGateError
from paritygate.handlers.logs import keys
from paritygate.handlers.standings import Standings

_logger = logging.getLogger(__name__)
_SHORT: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_LONG: Final = (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class Metrics:
    """Counts and tells; it is the hooks of the queue, the watcher of the client and the listener of the reconciler.

    Args:
        active_runs: how many migrations have work at hand.
        oldest: seconds since when the oldest key waits or is worked on.
        leading: whether this replica leads.
        migrations: all that are known, as Kubernetes objects.
    """

    def __init__(
        self,
        active_runs: Callable[[], float] = lambda: 0,
        oldest: Callable[[], float] = lambda: 0,
        leading: Callable[[], float] = lambda: 0,
        migrations: Callable[[], Iterable[Mapping[str, Any]]] = tuple,
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(Standings(migrations))
        of: dict[str, Any] = {"registry": self.registry, "namespace": "paritygate"}
        self._depth = Gauge("queue_depth", "Migrations that wait for a worker.", **of)
        self._wait = Histogram("queue_wait_seconds", "How long a migration waited for a worker.", buckets=_SHORT, **of)
        self._work = Histogram("reconcile_seconds", "How long a reconcile took.", ["result"], buckets=_SHORT, **of)
        self._retries = Counter("queue_retries", "Reconciles that failed and are tried again.", **of)
        self._requests = Counter("api_requests", "Requests to the API server.", ["verb", "resource", "status"], **of)
        self._stages = Histogram(
            "stage_seconds", "How long an attempt of a stage took.", ["stage", "state"], buckets=_LONG, **of
        )
        self._verdicts = Counter("verdicts", "Verdicts that were reached.", ["result"], **of)
        self._starts = Counter("stage_starts", "Attempts of stages that were started.", ["stage"], **of)
        self._repairs = Counter("listing_repairs", "Migrations of which a listing knew more than the events.", **of)
        self._listed = Gauge("last_listing_timestamp_seconds", "When everything was last listed.", **of)
        Gauge("build_info", "The version that runs; always 1.", ["version"], **of).labels(__version__).set(1)
        for name, what, value in (
            ("active_runs", "Migrations with work at hand.", active_runs),
            ("queue_oldest_seconds", "Since when the oldest migration waits or is worked on.", oldest),
            ("leading", "Whether this replica leads: 1 or 0.", leading),
        ):
            Gauge(name, what, **of).set_function(value)
        self._told: dict[Key, tuple[object, frozenset[object]]] = {}
        self._began: datetime | None = None

    def leads(self, now: datetime) -> None:
        """This replica leads from now on: what ended before was counted by the one before."""
        self._began = now

    def listed(self, now: datetime, repaired: int) -> None:
        """Everything was listed; `repaired`: how many migrations that changed without an event."""
        self._listed.set(now.timestamp())
        self._repairs.inc(repaired)

    def depth(self, waiting: int) -> None:
        """How many keys wait."""
        self._depth.set(waiting)

    def waited(self, seconds: float) -> None:
        """How long a key waited."""
        self._wait.observe(seconds)

    def worked(self, seconds: float, *, failed: bool) -> None:
        """How long a reconcile took."""
        self._work.labels("error" if failed else "success").observe(seconds)

    def retried(self) -> None:
        """A key failed."""
        self._retries.inc()

    def asked(self, verb: str, resource: str, status: int) -> None:
        """A request ended."""
        self._requests.labels(verb, resource, str(status)).inc()

    def planned(self, key: Key, observed: Observed, made: Plan) -> None:
        """Counts what is new in a plan: a verdict, ended attempts, starts."""
        of = {"namespace": key.namespace, "name": key.name, "uid": observed.uid, "generation": observed.generation}
        before_verdict, before_ended = self._told.get(key, (None, frozenset()))
        stored = observed.status.verdict if observed.status else None
        verdict = made.status.verdict
        if verdict is not None and verdict.report_digest not in {before_verdict, stored and stored.report_digest}:
            self._verdicts.labels(verdict.result.value).inc()
            _logger.info("Verdict", extra=keys(**of, stage=StageName.VALIDATE.value, reason=verdict.result.value))
        ended = {a.job or (a.digest, a.number): a for a in observed.attempts if a.state is not StageState.RUNNING}
        for one in (ended[name] for name in ended.keys() - before_ended):
            self._ended(one, of)
        self._told[key] = (verdict.report_digest if verdict else None, frozenset(ended))
        for action in made.actions:
            if isinstance(action, StartStage):
                self._starts.labels(action.stage.value).inc()
            _logger.info("%s", type(action).__name__, extra=keys(**of, **_about(action)))

    def _ended(self, one: Attempt, of: dict[str, object]) -> None:
        if one.ended_at is None or (self._began is not None and one.ended_at < self._began):
            return
        stage = (one.at or one.stage).value
        self._stages.labels(stage, one.state.value).observe((one.ended_at - one.started_at).total_seconds())
        why = {"reason": one.failure.reason} if one.failure else {}
        _logger.info("Ended: %s", one.state.value, extra=keys(**of, stage=stage, attempt=one.number, **why))

    def missed(self, key: Key, error: Exception) -> None:
        """An event could not be told this time."""
        said = keys(namespace=key.namespace, name=key.name, reason=type(error).__name__)
        _logger.warning("an event could not be told: %s", error, extra=said)

    def failed(self, key: Key, error: Exception, seconds: float) -> None:
        """A reconcile failed. What ParityGate did not raise on purpose is a defect, and is told with where it arose."""
        meant = isinstance(error, ParityGateError)
        # That something changed meanwhile is how writes are kept in order, and no news.
        level = logging.INFO if isinstance(error, Conflict) else logging.WARNING if meant else logging.ERROR
        _logger.log(
            level, "reconcile failed and is tried again in %.1f s: %s", seconds, error,
            extra=keys(namespace=key.namespace, name=key.name, reason=type(error).__name__),
            exc_info=None if meant else error,
        )  # fmt: skip

    def left(self, key: Key) -> None:
        """A migration is gone, and with it what was remembered of it."""
        self._told.pop(key, None)

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self.registry)


def _about(action: Action) -> dict[str, object]:
    """Keys of a log line about an action."""
    match action:
        case StartStage() | DiscardAttempt():
            return {"stage": action.stage.value, "attempt": action.attempt}
        case CancelStage():
            return {"stage": action.stage.value, "attempt": action.attempt, "reason": action.reason}
        case SetTraffic():
            return {"revision": action.revision}
        case ApplyRevision() | AdjustRevision() | RetireRevision():
            return {"revision": action.name}
