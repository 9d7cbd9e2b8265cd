"""Carries out one attempt of a stage with processes, and gives the artefact folder that it made."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paritygate.api.artifacts import (
    AssessRequest,
    CaptureRequest,
    ConvertRequest,
    FailureClass,
    StageFailure,
    StageName,
    ValidateRequest,
)
from paritygate.api.base import Model
from paritygate.api.migration import ModelMigration
from paritygate.core.actions import StartStage
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.local.ahead import SERVER, Ahead
from paritygate.local.commands import Commands
from paritygate.local.environments import Environments
from paritygate.local.inputs import Places
from paritygate.local.processes import Process, death_of
from paritygate.local.serving import READY_SECONDS, CandidateServer
from paritygate.local.workdir import WorkFolder
from paritygate.storage.store import disk_full_explained

_FAILED: Final = 3
_PROGRESS: Final = "PARITYGATE_PROGRESS"
Tell = Callable[[str, int, int], None]
"""Told of progress: message, done, total."""


@dataclass(frozen=True)
class Attempt:
    """What one attempt has to go by."""

    action: StartStage
    migration: ModelMigration
    places: Places
    work: WorkFolder
    commands: Commands
    cancelled: threading.Event
    tell: Tell
    ahead: Ahead | None = None

    @property
    def label(self) -> str:
        """Such as 'convert-1', for file names."""
        return f"{self.action.stage.value.lower()}-{self.action.attempt}"

    @property
    def log(self) -> Path:
        """Of this attempt."""
        return self.work.logs / f"{self.label}.log"

    @property
    def scratch(self) -> Path:
        """A folder for this attempt only."""
        return self.work.scratch / self.label

    def read(self, stage: StageName) -> str:
        """Where the artefact of an earlier stage lies; a folder that does not exist where there is none."""
        digest = dict(self.action.inputs).get(stage)
        return str(self.work.store.path(digest) if digest else self.scratch / "absent")


def carry_out(attempt: Attempt) -> Path:
    """The complete artefact folder, in the attempt's scratch folder. StageError or Cancelled: there is none."""
    with disk_full_explained(attempt.scratch):
        shutil.rmtree(attempt.scratch, ignore_errors=True)
        attempt.scratch.mkdir(parents=True)
        attempt.log.unlink(missing_ok=True)
        if attempt.ahead is not None:
            attempt.ahead.begin(attempt.action.stage, attempt.places)
        return {
            StageName.ASSESS: _assess,
            StageName.CAPTURE: _capture,
            StageName.CONVERT: _convert,
            StageName.VALIDATE: _validate,
        }[attempt.action.stage](attempt)


def _assess(attempt: Attempt) -> Path:
    request = AssessRequest(source=attempt.migration.spec.source, model=str(attempt.places.source))
    return _work(attempt, "assess", request)


def _capture(attempt: Attempt) -> Path:
    places, spec = attempt.places, attempt.migration.spec
    if places.capture is not None:
        return Path(shutil.copytree(places.capture, attempt.scratch / "out"))
    assert places.inputs.source is not None  # noqa: S101 - only a model whose answers were recorded may be away
    attempt.tell("reading the dataset", 0, 0)
    rows = _rows(attempt)
    dataset = spec.validation.dataset
    request = CaptureRequest(
        format=spec.source.format,
        model=str(places.source),
        source_digest=places.inputs.source,
        rows=str(rows / "rows.npz"),
        dataset_digest=places.inputs.dataset,
        label=dataset.label,
        group=dataset.group,
        slices=tuple(one.column for one in dataset.slices),
        group_by=spec.validation.decisions.group_by,
        task=spec.validation.task,
        loader=spec.source.loader,
        call=spec.source.call,
        inputs=spec.source.inputs,
        outputs=spec.source.outputs,
        environment_digest=places.inputs.environment if places.lock else None,
    )
    arguments = ["capture", "--request", str(_written(attempt, request))]
    out = attempt.scratch / "out"
    return _follow(attempt, _process(attempt, lambda: _agent(attempt), arguments, out), out)


def _rows(attempt: Attempt) -> Path:
    """The folder with the dataset's rows."""
    begun = attempt.ahead.rows() if attempt.ahead is not None else None
    if begun is not None:
        return _follow(attempt, *begun)
    out = attempt.scratch / "rows"
    command = [*attempt.commands.worker, "dataset", "--uri", str(attempt.places.dataset), "--out", str(out)]
    return _follow(attempt, Process(command, attempt.log, extra={_PROGRESS: _progress(out)}), out)


def _agent(attempt: Attempt) -> tuple[str, ...]:
    """The command of the agent in the source's own environment, which is built if need be."""
    if attempt.commands.agent is not None:
        return attempt.commands.agent
    interpreter = sys.executable
    lock, environment = attempt.places.lock, attempt.migration.spec.source.environment
    if lock is not None and environment is not None and environment.virtualenv is not None:
        attempt.tell("building the source's environment", 0, 0)
        environments = Environments(attempt.work.environments)
        interpreter = str(environments.build(lock, environment.virtualenv, attempt.cancelled))
    return attempt.commands.agent_in(interpreter, attempt.scratch)


def _convert(attempt: Attempt) -> Path:
    spec, places = attempt.migration.spec, attempt.places
    request = ConvertRequest(
        source=spec.source,
        target=spec.target,
        model_name=attempt.migration.metadata.name,
        model=str(places.source) if places.source else None,
        brought=str(places.candidate) if places.candidate else None,
        capture=attempt.read(StageName.CAPTURE),
    )
    return _work(attempt, "convert", request)


def _validate(attempt: Attempt) -> Path:
    spec, inputs = attempt.migration.spec, dict(attempt.action.inputs)
    candidate = attempt.read(StageName.CONVERT)
    server = _server(attempt, candidate)
    try:
        attempt.tell("starting the candidate", 0, 0)
        request = ValidateRequest(
            stage=attempt.action.digest,
            migration=attempt.migration.metadata.name,
            url=f"file:{server.out}",
            equivalence=spec.equivalence,
            validation=spec.validation,
            assessment=attempt.read(StageName.ASSESS),
            capture=attempt.read(StageName.CAPTURE),
            capture_digest=inputs[StageName.CAPTURE],
            candidate=candidate,
            candidate_digest=inputs[StageName.CONVERT],
            runtime_digest=attempt.places.inputs.runtime,
            server_identity=attempt.places.inputs.runtime,
            reproduce=f"paritygate validate {attempt.migration.metadata.name}",
        )
        verdict = _work(attempt, "validate", request, beside=server)
    finally:
        server.process.kill()
    for stage in (StageName.CAPTURE, StageName.CONVERT):
        # What was judged must be what the digests say, or the verdict speaks of other bytes than those that will serve.
        if attempt.work.store.get(inputs[stage]) is None:
            lost = attempt.work.store.path(inputs[stage])
            raise InfrastructureError("ArtefactLost", f"{lost} changed while it was judged; run again")
    return verdict


def _server(attempt: Attempt, candidate: str) -> CandidateServer:
    """The candidate's server, by a process that stood by or a new one."""
    arguments = ["--model", candidate, "--drain-seconds", "0"]
    folder, name = attempt.work.logs, f"{attempt.label}-candidate"
    begun = None
    if attempt.ahead is not None:
        begun = attempt.ahead.process(SERVER, arguments, folder / f"{name}.log", output=folder / f"{name}.out")
    return CandidateServer([*attempt.commands.server, *arguments], folder, name, begun)


def _work(attempt: Attempt, command: str, request: Model, beside: CandidateServer | None = None) -> Path:
    """What a stage of the worker makes, by one that stands by or a new one. `beside` must outlive it."""
    out = attempt.scratch / "out"
    arguments = [command, "--request", str(_written(attempt, request))]
    extra = {} if beside is None else {"PARITYGATE_WAIT_READY": str(READY_SECONDS)}
    return _follow(attempt, _process(attempt, lambda: attempt.commands.worker, arguments, out, extra), out, beside)


def _written(attempt: Attempt, request: Model) -> Path:
    file = attempt.scratch / "request.json"
    file.write_text(request.model_dump_json(by_alias=True, exclude_none=True), encoding="utf-8")
    return file


def _process(
    attempt: Attempt,
    command: Callable[[], Sequence[str]],
    arguments: Sequence[str],
    out: Path,
    extra: Mapping[str, str] | None = None,
) -> Process:
    """What makes `out`: the process that stood by for the attempt's stage, or a new one of `command()`."""
    told = [*arguments, "--out", str(out)]
    variables = {_PROGRESS: _progress(out), **(extra or {})}
    begun = None
    if attempt.ahead is not None:
        begun = attempt.ahead.process(attempt.action.stage, told, attempt.log, extra=variables)
    return begun or Process([*command(), *told], attempt.log, extra=variables)


def _progress(out: Path) -> str:
    """Where the process that makes `out` says how far it is."""
    return f"{out}.progress"


def _follow(attempt: Attempt, process: Process, out: Path, beside: CandidateServer | None = None) -> Path:
    """Waits until a process has made `out`. `beside` must outlive it."""
    progress = Path(_progress(out))
    told = 0
    try:
        if beside is not None:
            # Both start at once; what the server refuses, it says here and not to the stage.
            beside.wait_ready(attempt.cancelled)
        while process.poll() is None and (beside is None or beside.process.poll() is None):
            told = _tell(attempt, progress, told)
            process.pause(attempt.cancelled)
        _tell(attempt, progress, told)
    finally:
        process.kill()
    if beside is not None and beside.process.poll() is not None:
        raise beside.death()
    code = process.poll()
    if code == 0 and out.is_dir():
        return out
    failure = out / "failure.json"
    if code == _FAILED and failure.exists():
        found = StageFailure.model_validate_json(failure.read_bytes())
        kind = InfrastructureError if found.failure is FailureClass.INFRASTRUCTURE else ConfigurationError
        raise kind(found.reason, found.message)
    raise death_of(process, f"{attempt.action.stage} (attempt {attempt.action.attempt})")


def _tell(attempt: Attempt, file: Path, offset: int) -> int:
    """Passes on progress lines that are whole and new; where to go on."""
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            lines = stream.read()
    except OSError:
        return offset
    whole = lines[: lines.rfind(b"\n") + 1]
    for line in whole.splitlines():
        try:
            entry = json.loads(line)
            attempt.tell(str(entry["message"]), int(entry.get("done", 0)), int(entry.get("total", 0)))
        except (ValueError, KeyError, TypeError):
            continue
    return offset + len(whole)
