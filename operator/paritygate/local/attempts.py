"""Attempts at stages, each in a thread that watches its processes, and the receipts of those that succeeded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from paritygate import clock
from paritygate.api.artifacts import FailureClass, Receipt, StageFailure, StageName
from paritygate.api.migration import ModelMigration
from paritygate.api.status import StageState
from paritygate.core.actions import CancelStage, StartStage
from paritygate.core.observed import Attempt as Observation
from paritygate.errors import ConfigurationError, StageError
from paritygate.local import carrying, records
from paritygate.local.ahead import Ahead
from paritygate.local.commands import Commands
from paritygate.local.events import Event, StageFailed, StageFinished, StageProgress, StageStarted
from paritygate.local.inputs import Places
from paritygate.local.processes import Cancelled
from paritygate.local.workdir import WorkFolder

_WAKE_SECONDS: Final = 1.0
_Key = tuple[StageName, str, int]


class Attempts:
    """All attempts of one run."""

    def __init__(  # noqa: PLR0913, PLR0917 - what all attempts share
        self,
        migration: ModelMigration,
        work: WorkFolder,
        commands: Commands,
        stop: threading.Event,
        emit: Callable[[Event], None],
        until: StageName = StageName.VALIDATE,
    ) -> None:
        """`until`: the last stage that will be started."""
        self._migration, self._work, self._commands, self._stop, self._emit = migration, work, commands, stop, emit
        self._ahead = Ahead(work, commands, migration.spec.source.format, until) if commands.ahead else None
        self._changed = threading.Condition()
        self._receipts: dict[tuple[StageName, str], Receipt] = {}
        self._observed: dict[_Key, Observation] = {}
        self._cancels: dict[_Key, threading.Event] = {}
        self._reasons: dict[_Key, CancelStage] = {}
        self._threads: list[threading.Thread] = []
        self.reused: set[StageName] = set()
        """Stages that an earlier run had finished."""

    def snapshot(self) -> tuple[tuple[Receipt, ...], tuple[Observation, ...]]:
        """Receipts and attempts, as of one moment."""
        with self._changed:
            return tuple(self._receipts.values()), tuple(self._observed.values())

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """Of a finished stage."""
        return self._receipts.get((stage, digest))

    def adopt(self, action: StartStage) -> bool:
        """Whether an earlier run finished the stage that is about to be started; its receipt is then observed."""
        if action.attempt > 1 or any(key[:2] == (action.stage, action.digest) for key in self._observed):
            return False
        receipt = self._work.store.receipt(action.stage, action.digest)
        if receipt is None or not records.bears_out(self._work.store.path(receipt.output), receipt):
            return False
        self._receipts[action.stage, action.digest] = receipt
        self.reused.add(action.stage)
        self._emit(StageFinished(action.stage, records.described(self._work.store, receipt), reused=True))
        return True

    def start(self, action: StartStage, places: Places) -> None:
        """Begins an attempt in a thread of its own."""
        key = (action.stage, action.digest, action.attempt)
        self._emit(StageStarted(action.stage, action.attempt))
        self._cancels[key] = threading.Event()
        attempt = carrying.Attempt(
            action, self._migration, places, self._work, self._commands, self._cancels[key],
            lambda message, done, total: self._emit(
                StageProgress(action.stage, message, done if total else None, total or None)
            ),
            self._ahead,
        )  # fmt: skip
        with self._changed:
            self._observed[key] = Observation(*key, StageState.RUNNING, clock.now())
        thread = threading.Thread(target=self._carry_out, args=(key, attempt), name=attempt.label, daemon=True)
        self._threads.append(thread)
        thread.start()

    def cancel(self, action: CancelStage) -> None:
        """Stops an attempt and waits for a moment, in which it usually ends."""
        key = (action.stage, action.digest, action.attempt)
        self._reasons[key] = action
        self._cancels[key].set()
        self.wait(None)

    def wait(self, until: datetime | None, seen: Iterable[Observation] | None = None) -> None:
        """Until an attempt ends, the time comes, the run is stopped, or a moment has passed.

        `seen`: the attempts that what is waited for followed from; one that has ended since is not waited for.
        """
        seconds = _WAKE_SECONDS if until is None else (until - clock.now()) / timedelta(seconds=1)
        ends = clock.monotonic() + max(0.0, seconds)
        with self._changed:
            before = self._states(self._observed.values() if seen is None else seen)
            while clock.monotonic() < ends and not self._stop.is_set():
                if before != self._states(self._observed.values()):
                    return
                # Short, as a signal handler can only set an event.
                self._changed.wait(min(0.1, max(0.0, ends - clock.monotonic())))

    @staticmethod
    def _states(attempts: Iterable[Observation]) -> dict[_Key, StageState]:
        return {(one.stage, one.digest, one.number): one.state for one in attempts}

    def close(self) -> None:
        """Ends all attempts, with their processes."""
        for cancelled in self._cancels.values():
            cancelled.set()
        for thread in self._threads:
            thread.join()
        if self._ahead is not None:
            self._ahead.close()

    def _carry_out(self, key: _Key, attempt: carrying.Attempt) -> None:
        """From start to receipt or failure."""
        failure: StageFailure | None = None
        receipt: Receipt | None = None
        try:
            receipt = self._stored(attempt)
        except StageError as error:
            failure = failure_of(error)
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
        with self._changed:
            if receipt is not None:
                self._receipts[key[:2]] = receipt
            state = StageState.FAILED if failure else StageState.SUCCEEDED
            self._observed[key] = replace(self._observed[key], state=state, ended_at=clock.now(), failure=failure)
            self._changed.notify_all()
        if receipt is not None:
            self._emit(StageFinished(key[0], records.described(self._work.store, receipt)))
        elif failure is not None and not self._stop.is_set():
            again = failure.failure is FailureClass.INFRASTRUCTURE and key[2] <= self._migration.spec.jobs.retries
            self._emit(StageFailed(key[0], failure.reason, failure.message, will_retry=again))

    def _stored(self, attempt: carrying.Attempt) -> Receipt:
        """Carries the attempt out, and keeps what it made: the artefact first, then the receipt that names it.

        ConfigurationError (EvidenceInvalid): a summary that its own report contradicts.
        """
        action, folder = attempt.action, carrying.carry_out(attempt)
        summary = records.summary(folder) if action.stage is StageName.VALIDATE else None
        output = self._work.store.put(folder)
        receipt = Receipt(stage=action.stage, digest=action.digest, output=output, summary=summary)
        self._work.store.record(receipt)
        return receipt


def failure_of(error: StageError) -> StageFailure:
    """An error as attempts and status record it."""
    configuration = isinstance(error, ConfigurationError)
    kind = FailureClass.CONFIGURATION if configuration else FailureClass.INFRASTRUCTURE
    return StageFailure(failure=kind, reason=error.reason, message=error.message)
