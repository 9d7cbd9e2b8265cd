"""What Prometheus is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from paritygate.api.status import StageState
from paritygate.cluster.keys import Key
from paritygate.core.actions import StartStage
from paritygate.core.observed import Observed
from paritygate.core.plan import Plan
from paritygate.handlers.logs import keys

_logger = logging.getLogger(__name__)
_SHORT: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_LONG: Final = (5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


class Metrics:
    """Counts and tells; it is the hooks of the queue, the watcher of the client and the listener of the reconciler."""

    def __init__(self, active_runs: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
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
        active = Gauge("active_runs", "Migrations with work at hand.", **of)
        active.set_function(active_runs)
        self._told: dict[Key, tuple[object, frozenset[object]]] = {}

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
        before_verdict, before_ended = self._told.get(key, (None, frozenset()))
        stored = observed.status.verdict if observed.status else None
        verdict = made.status.verdict
        if verdict is not None and verdict.report_digest not in {before_verdict, stored and stored.report_digest}:
            self._verdicts.labels(verdict.result.value).inc()
        finished = [a for a in observed.attempts if a.ended_at is not None and a.state is not StageState.RUNNING]
        for one in finished:
            if (one.stage, one.digest, one.number) not in before_ended and one.ended_at is not None:
                seconds = (one.ended_at - one.started_at).total_seconds()
                self._stages.labels(one.stage.value, one.state.value).observe(seconds)
        self._told[key] = (
            verdict.report_digest if verdict else None,
            frozenset((a.stage, a.digest, a.number) for a in finished),
        )
        for action in made.actions:
            said = keys(namespace=key.namespace, name=key.name, uid=observed.uid, generation=observed.generation)
            if isinstance(action, StartStage):
                self._starts.labels(action.stage.value).inc()
                said |= keys(stage=action.stage.value, attempt=action.attempt)
            _logger.info("%s", type(action).__name__, extra=said)

    def missed(self, key: Key, error: Exception) -> None:
        """An event could not be told."""
        _logger.warning("an event was not told: %s", error, extra=keys(namespace=key.namespace, name=key.name))

    def failed(self, key: Key, error: Exception, seconds: float) -> None:
        """A reconcile failed."""
        _logger.warning(
            "reconcile failed and is tried again in %.1f s: %s: %s", seconds, type(error).__name__, error,
            extra=keys(namespace=key.namespace, name=key.name),
        )  # fmt: skip

    def left(self, key: Key) -> None:
        """A migration is gone, and with it what was remembered of it."""
        self._told.pop(key, None)

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self.registry)
