"""Observe, plan, apply, on one machine: the planner's actions carried out by threads that watch processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paritygate import clock
from paritygate.api.artifacts import (
    Assessment,
    CandidateManifest,
    FailureClass,
    Receipt,
    StageFailure,
    StageName,
)
from paritygate.api.digests import digest_of
from paritygate.api.migration import ModelMigration
from paritygate.api.report import ParityReport, Verdict
from paritygate.api.status import Condition, ModelMigrationStatus, StageState
from paritygate.core import stages
from paritygate.core.actions import Action, ApplyRevision, CancelStage, RetireRevision, SetTraffic, StartStage
from paritygate.core.observed import Attempt, Observed
from paritygate.core.plan import Plan, plan
from paritygate.errors import StageError
from paritygate.local import records
from paritygate.local.attempts import Attempts, failure_of
from paritygate.local.commands import Commands
from paritygate.local.environments import Environments
from paritygate.local.events import Event, Note, RunFinished, RunStarted, StageFailed
from paritygate.local.inputs import Places, resolve_inputs
from paritygate.local.processes import Cancelled
from paritygate.local.revisions import SERVE, Address, Revisions
from paritygate.local.workdir import WorkFolder


@dataclass(frozen=True)
class Options:
    """What is asked for beside the manifest."""

    serve: Address | None = None
    """Where to serve what passed; None = do not."""
    until: StageName = StageName.VALIDATE
    """The last stage to carry out."""
    commands: Commands = field(default_factory=Commands)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    verdict: Verdict | None
    """None = not judged: a stage before Validate was the last one asked for, and it is finished."""
    message: str
    report: ParityReport | None
    receipts: dict[StageName, Receipt]
    url: str | None
    reason: str | None = None
    """Why there is no verdict (docs/reference/reasons.md); None = there is one, or none was asked for."""


class Interrupted(Exception):
    """The run was stopped from outside."""


class LocalRun:
    """One migration, carried out here. Every decision is the planner's."""

    def __init__(
        self,
        migration: ModelMigration,
        manifest: Path,
        work: WorkFolder,
        options: Options,
        emit: Callable[[Event], None],
    ) -> None:
        self._migration, self._manifest, self._work, self._options = migration, manifest, work, options
        self._emit = emit
        self._stop = threading.Event()
        self._places: Places | None = None
        self._unresolved: StageFailure | None = None
        self._status: ModelMigrationStatus | None = None
        self._seen: tuple[Attempt, ...] = ()
        self._attempts = Attempts(migration, work, options.commands, self._stop, emit, options.until)
        address = options.serve or Address()
        self._revisions = Revisions(work, options.commands.server, address, self._stop, emit)

    def interrupt(self) -> None:
        """Ends the run as soon as possible; safe in a signal handler."""
        self._stop.set()

    def run(self) -> Outcome:
        """Carries out the migration until nothing is left to do. Interrupted: `interrupt` was called."""
        names = [s.value for s in stages.ORDER[: stages.ORDER.index(self._options.until) + 1]]
        self._emit(RunStarted(self._migration.metadata.name, (*names, *([SERVE] if self._options.serve else []))))
        try:
            self._resolve()
            while (planned := self._planned()) is not None:
                actions = [action for action in planned.actions if self._is_wanted(action)]
                for action in actions:
                    self._apply(action)
                if not actions:
                    self._attempts.wait(planned.requeue_at, self._seen)
            return self._finish()
        except Cancelled as cancelled:
            self.close()
            raise Interrupted from cancelled
        except BaseException:
            self.close()
            raise

    def serve(self) -> None:
        """Keeps serving until interrupted, or until the server ends. InfrastructureError (CandidateDied)."""
        self._revisions.serve()

    def close(self) -> None:
        """Ends everything that was started."""
        self._stop.set()
        self._attempts.close()
        self._revisions.close()

    def _resolve(self) -> None:
        self._emit(Note("looking at the source, the dataset and the environment"))
        spec, environments = self._migration.spec, Environments(self._work.environments)
        try:
            places = resolve_inputs(
                spec, self._manifest.parent, environments, self._options.commands.server, self._stop
            )
        except StageError as error:
            self._unresolved = failure_of(error)
            return
        if self._options.until in stages.wanted_stages(places.inputs):
            self._places = places
            return
        self._unresolved = StageFailure(
            failure=FailureClass.CONFIGURATION,
            reason="NotFound",
            message=f"spec.source.uri: {spec.source.uri} is not here, so there is nothing to assess; bring the model",
        )

    def _planned(self) -> Plan | None:
        """The next plan; None = nothing is left to do, or the last stage asked for is finished. Cancelled: stopped."""
        while True:
            if self._stop.is_set():
                raise Cancelled
            planned = plan(self._observed())
            reached = self._options.until is not StageName.VALIDATE and self._is_finished(planned.status)
            if reached or not self._adopt(planned):
                break
        if planned.status != self._status:
            self._status = planned.status
            self._write_plan()
        ended = not planned.actions and not any(c.type == "Reconciling" for c in planned.status.conditions)
        return None if reached or ended else planned

    def _is_finished(self, status: ModelMigrationStatus) -> bool:
        return any(s.name is self._options.until and s.state is StageState.SUCCEEDED for s in status.stages)

    def _adopt(self, planned: Plan) -> bool:
        """Whether anything that is planned was done by an earlier run, so that the plan is out of date."""
        starts = [a for a in planned.actions if isinstance(a, StartStage) and self._is_wanted(a)]
        return any(self._attempts.adopt(action) for action in starts)

    def _is_wanted(self, action: Action) -> bool:
        """Whether it is not about a stage after the last one asked for."""
        order = stages.ORDER.index
        return not isinstance(action, StartStage) or order(action.stage) <= order(self._options.until)

    def _observed(self) -> Observed:
        receipts, attempts = self._attempts.snapshot()
        self._seen = attempts
        return Observed(
            name=self._migration.metadata.name,
            uid=digest_of(self._migration.metadata.name),
            generation=1,
            spec=self._migration.spec,
            now=clock.now(),
            status=self._status,
            inputs=self._places.inputs if self._places else None,
            unresolved=self._unresolved,
            receipts=receipts,
            attempts=attempts,
            assessment=records.head(self._work.store, receipts, Assessment),
            candidate=records.head(self._work.store, receipts, CandidateManifest),
            serving=self._options.serve is not None,
            revisions=self._revisions.snapshot(),
            traffic=self._revisions.traffic,
            url=self._revisions.url,
        )

    def _apply(self, action: Action) -> None:
        match action:
            case StartStage():
                assert self._places is not None  # noqa: S101 - a stage digest needs the inputs
                self._attempts.start(action, self._places)
            case CancelStage():
                self._attempts.cancel(action)
            case ApplyRevision():
                self._revisions.apply(action)
            case SetTraffic():
                self._revisions.set_traffic(action.revision)
            case RetireRevision():
                self._revisions.retire(action.name)

    def _finish(self) -> Outcome:
        assert self._status is not None  # noqa: S101 - written by the plan that came before
        self._write_plan()
        receipts = {}
        for stage in self._status.stages:
            receipt = self._attempts.receipt(stage.name, stage.digest)
            if receipt is not None and stage.state is StageState.SUCCEEDED:
                receipts[stage.name] = receipt
        if self._options.until is StageName.VALIDATE:
            return self._judged(self._status, receipts)
        if self._options.until in receipts:
            message = (
                f"{self._options.until} is finished: {self._work.store.path(receipts[self._options.until].output)}"
            )
            return Outcome(None, message, None, receipts, None)
        return Outcome(Verdict.ERROR, _standing(self._status), None, receipts, None, _reason(self._status))

    def _judged(self, status: ModelMigrationStatus, receipts: dict[StageName, Receipt]) -> Outcome:
        """Publishes the results of a run that was to end with a verdict, or takes away those of an earlier one."""
        message, store = _standing(status), self._work.store
        stalled = next((c for c in status.conditions if c.type == "Stalled"), None)
        if status.verdict is None or (stalled is not None and not stalled.reason.startswith("Parity")):
            self._work.publish(None, None)
            return Outcome(Verdict.ERROR, message, None, receipts, None, _reason(status))
        verdict = store.path(receipts[StageName.VALIDATE].output)
        report = ParityReport.model_validate_json((verdict / "report.json").read_bytes())
        self._work.publish(verdict, store.path(receipts[StageName.CONVERT].output))
        if self._options.serve and stalled is not None:
            self._emit(StageFailed(SERVE, stalled.reason, f"only what passed is served; {message}"))
        return Outcome(status.verdict.result, message, report, receipts, status.url)

    def finished_event(self, outcome: Outcome) -> Event:
        """What a display is told at the end."""
        if outcome.verdict is None:
            return Note(outcome.message)
        path = str(self._work.results / "report.html") if outcome.report else None
        return RunFinished(outcome.verdict, outcome.report, outcome.message, path, reason=outcome.reason)

    def _write_plan(self) -> None:
        assert self._status is not None  # noqa: S101 - written by the plan that came before
        self._work.write_plan(
            records.plan_record(
                self._migration.metadata.name,
                self._manifest,
                self._places.inputs if self._places else None,
                self._status,
                self._attempts.snapshot(),
                self._attempts.reused,
            )
        )


def _reason(status: ModelMigrationStatus) -> str | None:
    """Why a run that ended without a verdict did so."""
    conditions: dict[str, Condition] = {condition.type: condition for condition in status.conditions}
    found = conditions.get("Stalled") or conditions.get("Ready")
    return found.reason if found else None


def _standing(status: ModelMigrationStatus) -> str:
    return next((c.message for c in status.conditions if c.type == "Ready"), "")
