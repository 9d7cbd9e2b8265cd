"""Observe, plan, apply, on one machine: the planner's actions carried out by threads that watch processes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from paritygate import clock
from paritygate.api.artifacts import (
    Assessment,
    CandidateManifest,
    CaptureManifest,
    FailureClass,
    Receipt,
    StageFailure,
    StageName,
)
from paritygate.api.digests import digest_of
from paritygate.api.migration import ModelMigration
from paritygate.api.report import EvidenceSummary, ParityReport, Verdict
from paritygate.api.status import ModelMigrationStatus, StageState
from paritygate.core import stages
from paritygate.core.actions import Action, ApplyRevision, CancelStage, RetireRevision, SetTraffic, StartStage
from paritygate.core.observed import Attempt as Observation
from paritygate.core.observed import Observed, Revision
from paritygate.core.plan import Plan, plan
from paritygate.errors import ConfigurationError, InfrastructureError, StageError
from paritygate.local import carrying
from paritygate.local.environments import Environments
from paritygate.local.events import (
    Event,
    Note,
    RunFinished,
    RunStarted,
    StageFailed,
    StageFinished,
    StageProgress,
    StageStarted,
)
from paritygate.local.inputs import Places, resolve_inputs
from paritygate.local.processes import Cancelled
from paritygate.local.serving import CandidateServer
from paritygate.local.workdir import WorkFolder

_SERVE: Final = "Serve"
_WAKE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Options:
    """What is asked for beside the manifest."""

    serve: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    until: StageName = StageName.VALIDATE
    """The last stage to carry out."""
    commands: carrying.Commands = field(default_factory=carrying.Commands)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    verdict: Verdict
    message: str
    report: ParityReport | None
    receipts: dict[StageName, Receipt]
    url: str | None


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
        self._wake = threading.Condition()
        self._places: Places | None = None
        self._unresolved: StageFailure | None = None
        self._status: ModelMigrationStatus | None = None
        self._receipts: dict[tuple[StageName, str], Receipt] = {}
        self._attempts: dict[tuple[StageName, str, int], Observation] = {}
        self._cancels: dict[tuple[StageName, str, int], threading.Event] = {}
        self._reasons: dict[tuple[StageName, str, int], CancelStage] = {}
        self._threads: list[threading.Thread] = []
        self._servers: dict[str, tuple[CandidateServer, Revision]] = {}
        self._traffic: str | None = None
        self._reused: set[StageName] = set()
        self._started = clock.now()

    def interrupt(self) -> None:
        """Ends the run as soon as possible; safe in a signal handler."""
        self._stop.set()

    def run(self) -> Outcome:
        """Carries out the migration until nothing is left to do. Interrupted: `interrupt` was called."""
        names = [s.value for s in stages.ORDER[: stages.ORDER.index(self._options.until) + 1]]
        self._emit(RunStarted(self._migration.metadata.name, (*names, *([_SERVE] if self._options.serve else []))))
        try:
            self._resolve()
            while True:
                self._heed_interruption()
                planned = self._planned()
                if planned is None:
                    return self._finish()
                for action in planned.actions:
                    self._apply(action)
                if not planned.actions:
                    self._wait(planned.requeue_at)
        except BaseException:
            self.close()
            raise

    def _heed_interruption(self) -> None:
        if self._stop.is_set():
            raise Interrupted

    def serve(self) -> None:
        """Keeps serving until interrupted, or until the server ends. InfrastructureError (CandidateDied)."""
        server = self._servers[self._traffic or ""][0]
        while not self._stop.wait(0.2):
            if server.process.poll() is not None:
                raise server.death()

    def close(self) -> None:
        """Ends everything that was started."""
        self._stop.set()
        for event in self._cancels.values():
            event.set()
        for thread in self._threads:
            thread.join()
        for server, _ in self._servers.values():
            server.process.stop(90.0)
        self._servers.clear()

    def _resolve(self) -> None:
        self._emit(Note("looking at the source, the dataset and the environment"))
        environments = Environments(self._work.environments)
        try:
            self._places = resolve_inputs(
                self._migration.spec, self._manifest.parent, environments, self._options.commands.server, self._stop
            )
        except StageError as error:
            self._unresolved = _failure(error)
        except Cancelled as cancelled:
            raise Interrupted from cancelled

    def _planned(self) -> Plan | None:
        """The next plan; None = nothing is left to do, or the last stage asked for is finished."""
        while True:
            observed = self._observed()
            planned = plan(observed)
            last = next((s for s in planned.status.stages if s.name is self._options.until), None)
            reached = last is not None and last.state is StageState.SUCCEEDED
            until_done = reached and self._options.until is not StageName.VALIDATE
            if until_done or not self._look_up(planned):
                break
        if planned.status != self._status:
            self._status = planned.status
            self._write_plan()
        ended = not any(c.type == "Reconciling" for c in planned.status.conditions)
        return None if until_done or (ended and not planned.actions) else planned

    def _look_up(self, planned: Plan) -> bool:
        """Whether an earlier run finished a stage that is about to be started; its receipt is then observed."""
        found = False
        for action in planned.actions:
            if isinstance(action, StartStage) and action.attempt == 1:
                receipt = self._work.store.receipt(action.stage, action.digest)
                if receipt is not None and not any(k[:2] == (action.stage, action.digest) for k in self._attempts):
                    self._receipts[action.stage, action.digest] = receipt
                    self._reused.add(action.stage)
                    self._emit(StageFinished(action.stage, self._described(receipt), reused=True))
                    found = True
        return found

    def _observed(self) -> Observed:
        with self._wake:
            attempts = tuple(self._attempts.values())
            receipts = tuple(self._receipts.values())
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
            assessment=self._model(receipts, StageName.ASSESS, "assessment.json", Assessment),
            candidate=self._model(receipts, StageName.CONVERT, "candidate.json", CandidateManifest),
            serving=self._options.serve,
            revisions=tuple(revision for _, revision in self._servers.values()),
            traffic=self._traffic,
            url=self._servers[self._traffic][0].url if self._traffic else None,
        )

    def _model(self, receipts: tuple[Receipt, ...], stage: StageName, name: str, model: type[Any]) -> Any:
        receipt = next((r for r in receipts if r.stage is stage), None)
        try:
            return (
                model.model_validate_json((self._work.store.path(receipt.output) / name).read_bytes())
                if receipt
                else None
            )
        except (OSError, ValueError):
            return None

    def _apply(self, action: Action) -> None:
        match action:
            case StartStage():
                self._start(action)
            case CancelStage():
                key = (action.stage, action.digest, action.attempt)
                self._reasons[key] = action
                self._cancels[key].set()
                self._wait(None)
            case ApplyRevision():
                self._apply_revision(action)
            case SetTraffic():
                self._traffic = action.revision
                self._emit(StageFinished(_SERVE, f"serving at {self._servers[action.revision][0].url}"))
            case RetireRevision():
                self._servers.pop(action.name)[0].process.stop(90.0)

    def _start(self, action: StartStage) -> None:
        key = (action.stage, action.digest, action.attempt)
        assert self._places is not None  # noqa: S101 - a stage digest needs the inputs
        self._emit(StageStarted(action.stage, action.attempt))
        self._cancels[key] = threading.Event()
        attempt = carrying.Attempt(
            action, self._migration, self._places, self._work, self._options.commands, self._cancels[key],
            lambda message, done, total: self._emit(
                StageProgress(action.stage, message, done if total else None, total or None)
            ),
        )  # fmt: skip
        with self._wake:
            self._attempts[key] = Observation(
                action.stage, action.digest, action.attempt, StageState.RUNNING, clock.now()
            )
        thread = threading.Thread(target=self._carry_out, args=(key, attempt), name=attempt.label, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _carry_out(self, key: tuple[StageName, str, int], attempt: carrying.Attempt) -> None:
        """In a thread of its own: from start to receipt or failure."""
        failure: StageFailure | None = None
        receipt: Receipt | None = None
        try:
            receipt = self._stored(attempt, carrying.carry_out(attempt))
        except StageError as error:
            failure = _failure(error)
        except Cancelled:
            reason = self._reasons.get(key)
            failure = StageFailure(
                failure=FailureClass.CONFIGURATION,
                reason=reason.reason if reason else "Interrupted",
                message=reason.message if reason else "the run was interrupted",
            )
        except Exception as error:  # noqa: BLE001 - whatever happens, the run must hear of it
            failure = StageFailure(
                failure=FailureClass.INFRASTRUCTURE, reason="ExecutorFailed", message=f"{type(error).__name__}: {error}"
            )
        with self._wake:
            running = self._attempts[key]
            if receipt is not None:
                self._receipts[key[:2]] = receipt
            state = StageState.FAILED if failure else StageState.SUCCEEDED
            self._attempts[key] = replace(running, state=state, ended_at=clock.now(), failure=failure)
            self._wake.notify_all()
        if receipt is not None:
            self._emit(StageFinished(key[0], self._described(receipt)))
        elif failure is not None and not self._stop.is_set():
            retries = self._migration.spec.jobs.retries
            again = failure.failure is FailureClass.INFRASTRUCTURE and key[2] <= retries
            self._emit(StageFailed(key[0], failure.reason, failure.message, will_retry=again))

    def _stored(self, attempt: carrying.Attempt, folder: Path) -> Receipt:
        action, summary = attempt.action, None
        if action.stage is StageName.VALIDATE:
            try:
                summary = EvidenceSummary.model_validate_json((folder / "summary.json").read_bytes())
            except (OSError, ValueError):
                summary = None
        output = self._work.store.put(folder)
        receipt = Receipt(stage=action.stage, digest=action.digest, output=output, summary=summary)
        self._work.store.record(receipt)
        return receipt

    def _apply_revision(self, action: ApplyRevision) -> None:
        self._emit(StageStarted(_SERVE))
        store, grounds = self._work.store, action.grounds
        revision = Revision(action.name, grounds.candidate, grounds.runtime, grounds.report)
        candidate, golden = store.get(grounds.candidate), store.get(action.verdict)
        try:
            if candidate is None or golden is None:
                raise InfrastructureError(
                    "ArtefactLost", f"{store.path(grounds.candidate)} changed after it was judged; run again"
                )
            command = [*self._options.commands.server, "--model", str(candidate), "--golden", str(golden)]
            command += ["--host", self._options.host, "--port", str(self._options.port)]
            server = CandidateServer(command, self._work.logs, action.name)
            self._servers[action.name] = (server, revision)
            server.wait_ready(self._stop)
            self._servers[action.name] = (server, replace(revision, ready=True))
        except StageError as error:
            self._emit(StageFailed(_SERVE, error.reason, error.message))
            if action.name in self._servers:
                self._servers[action.name] = (self._servers[action.name][0], replace(revision, failure=_failure(error)))
            else:
                raise
        except Cancelled as cancelled:
            raise Interrupted from cancelled

    def _wait(self, until: datetime | None) -> None:
        """Until an attempt ends, the time comes, or a moment has passed."""
        seconds = _WAKE_SECONDS if until is None else (until - clock.now()) / timedelta(seconds=1)
        before = {key: a.state for key, a in self._attempts.items()}
        with self._wake:
            ends = clock.monotonic() + max(0.0, seconds)
            while clock.monotonic() < ends and not self._stop.is_set():
                if before != {key: a.state for key, a in self._attempts.items()}:
                    return
                self._wake.wait(min(0.1, max(0.0, ends - clock.monotonic())))

    def _finish(self) -> Outcome:
        assert self._status is not None  # noqa: S101 - written by the plan that came before
        by_stage = {
            s.name: self._receipts[s.name, s.digest] for s in self._status.stages if s.state is StageState.SUCCEEDED
        }
        judged = self._status.verdict
        report = self._report(by_stage) if judged else None
        message = next((c.message for c in self._status.conditions if c.type == "Ready"), "")
        verdict = judged.result if judged else Verdict.ERROR
        if self._options.until is StageName.VALIDATE:
            if judged and not any(
                c.type == "Stalled" and not c.reason.startswith("Parity") for c in self._status.conditions
            ):
                store = self._work.store
                self._work.publish(
                    store.path(by_stage[StageName.VALIDATE].output), store.path(by_stage[StageName.CONVERT].output)
                )
            else:
                verdict, report = Verdict.ERROR, None
                self._work.publish(None, None)
        self._write_plan()
        return Outcome(verdict, message, report, by_stage, self._status.url)

    def finished_event(self, outcome: Outcome) -> RunFinished:
        """What a display is told at the end."""
        path = str(self._work.results / "report.html") if outcome.report else None
        return RunFinished(outcome.verdict, outcome.report, outcome.message, path)

    def _report(self, by_stage: dict[StageName, Receipt]) -> ParityReport:
        folder = self._work.store.path(by_stage[StageName.VALIDATE].output)
        return ParityReport.model_validate_json((folder / "report.json").read_bytes())

    def _described(self, receipt: Receipt) -> str:
        one = (receipt,)
        match receipt.stage:
            case StageName.ASSESS if found := self._model(one, StageName.ASSESS, "assessment.json", Assessment):
                return " ".join(filter(None, (found.framework, found.framework_version)))
            case StageName.CAPTURE if found := self._model(one, StageName.CAPTURE, "capture.json", CaptureManifest):
                return f"{found.rows:,} rows answered by {found.framework} {found.framework_version}"
            case StageName.CONVERT if found := self._model(one, StageName.CONVERT, "candidate.json", CandidateManifest):
                return f"{found.size:,} bytes, opset {found.opset}"
            case StageName.VALIDATE if receipt.summary is not None:
                return receipt.summary.verdict.value
        return ""

    def _write_plan(self) -> None:
        assert self._status is not None  # noqa: S101 - written by the plan that came before
        entries = []
        for stage in self._status.stages:
            tried = sorted((k[2], a) for k, a in list(self._attempts.items()) if k[:2] == (stage.name, stage.digest))
            receipt = self._receipts.get((stage.name, stage.digest))
            entries.append(
                {
                    "name": stage.name.value,
                    "digest": stage.digest,
                    "state": stage.state.value,
                    "output": receipt.output if receipt else None,
                    "reused": stage.name in self._reused,
                    "attempts": [_told(a) for _, a in tried],
                }
            )
        self._work.write_plan(
            {
                "migration": self._migration.metadata.name,
                "manifest": str(self._manifest.absolute()),
                "inputs": vars(self._places.inputs) if self._places else None,
                "stages": entries,
                "status": self._status.to_dict(),
            }
        )


def _told(attempt: Observation) -> dict[str, object]:
    ended = attempt.ended_at
    return {
        "number": attempt.number,
        "state": attempt.state.value,
        "startedAt": attempt.started_at.isoformat(timespec="milliseconds"),
        "seconds": round((ended - attempt.started_at).total_seconds(), 3) if ended else None,
        "failure": attempt.failure.to_dict() if attempt.failure else None,
    }


def _failure(error: StageError) -> StageFailure:
    configuration = isinstance(error, ConfigurationError)
    kind = FailureClass.CONFIGURATION if configuration else FailureClass.INFRASTRUCTURE
    return StageFailure(failure=kind, reason=error.reason, message=error.message)
