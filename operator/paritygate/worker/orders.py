"""Steps `fetch` and `publish` of a Job: the only ones that reach the store."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from paritygate import clock
from paritygate.agent.archive import build_zipapp
from paritygate.api.artifacts import (
    Assessment,
    AssessRequest,
    CandidateManifest,
    CaptureRequest,
    ConvertRequest,
    Receipt,
    StageName,
    ValidateRequest,
)
from paritygate.api.base import Model
from paritygate.api.orders import MESSAGE_BYTES, Fetched, JobOrder, Published
from paritygate.api.report import EvidenceSummary
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import InputDigests
from paritygate.core import stages
from paritygate.core.observed import Inputs
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.captures import Here, require_capture_of
from paritygate.storage.digests import digest_of_path
from paritygate.storage.inbound import Inbound
from paritygate.storage.remote import Artefacts, open_store

ORDER: Final = "PARITYGATE_ORDER"
AGENT: Final = "paritygate-agent.pyz"
SPARED: Final = timedelta(days=1)
"""What is younger stays in the store: it may belong to a Job that is being stopped, or to one that takes its place."""
_logger = logging.getLogger(__name__)
CANDIDATE_URL: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Volumes:
    """Where a Job's volumes are mounted."""

    root: Path = Path("/")

    def of(self, name: str) -> Path:
        """The folder of a volume."""
        return self.root / name

    @property
    def done(self) -> Path:
        """Holds what is to be published, when nothing is left to do."""
        return self.of("inputs") / "done.json"


def order() -> JobOrder:
    """The order of this Job. ConfigurationError (InvalidRequest): there is none, or it is not readable."""
    text = os.environ.get(ORDER, "")
    try:
        return JobOrder.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError("InvalidRequest", f"{ORDER} holds no JobOrder: {error}") from error


def fetch(asked: JobOrder, volumes: Volumes) -> Model | None:
    """Brings what the Job works on; the message for the operator, None = there is none.

    Raises:
        ConfigurationError: an input is missing or differs from its digest.
        InfrastructureError: an artefact is missing or was changed.
    """
    store = open_store(asked.store)
    if asked.job == "Serve":
        store.fetch(asked.artefacts[StageName.CONVERT], volumes.of("model") / "candidate")
        store.fetch(asked.artefacts[StageName.VALIDATE], volumes.of("model") / "verdict")
        return None
    if asked.job == "Validate":
        _fetch_to_validate(asked, store, volumes)
        return None
    return _fetch_to_convert(asked, store, volumes)


def publish(asked: JobOrder, volumes: Volumes) -> Model:
    """Stores what the Job made; the message for the operator. Receipts are written after what they name."""
    if volumes.done.exists():
        return Published.model_validate_json(volumes.done.read_bytes())
    store = open_store(asked.store)
    if asked.job == "Validate":
        return _publish_verdict(asked, store, volumes)
    inputs = InputDigests.model_validate_json((volumes.of("inputs") / "inputs.json").read_bytes())
    folders = {StageName.ASSESS: volumes.of("inputs") / "assess", StageName.CAPTURE: _captured(volumes),
               StageName.CONVERT: volumes.of("converted") / "out"}  # fmt: skip
    known = Inputs(**vars(inputs))
    outputs: dict[StageName, str] = {}
    receipts = []
    for stage in stages.wanted_stages(known)[:-1]:
        digest = stages.stage_digest(stage, asked.migration, _spec(asked), known, outputs, asked.recipe)
        outputs[stage] = store.put(folders[stage])
        receipt = Receipt(stage=stage, digest=digest, output=outputs[stage])
        store.record(receipt)
        receipts.append(receipt)
    manifest = CandidateManifest.model_validate_json((folders[StageName.CONVERT] / "candidate.json").read_bytes())
    return Published(inputs=inputs, receipts=tuple(receipts), candidate_size=manifest.size)


def _publish_verdict(asked: JobOrder, store: Artefacts, volumes: Volumes) -> Published:
    folder = volumes.of("judged") / "out"
    try:
        summary = EvidenceSummary.model_validate_json((folder / "summary.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise InfrastructureError("EvidenceMissing", f"{folder} holds no readable summary.json ({error})") from error
    receipt = Receipt(stage=StageName.VALIDATE, digest=_stage(asked), output=store.put(folder), summary=summary)
    store.record(receipt)
    _sweep(asked, store, receipt.output)
    return Published(receipts=(receipt,))


def _sweep(asked: JobOrder, store: Artefacts, made: str) -> None:
    """Removes what the migration needs no more. What was judged counts, whether or not this succeeds."""
    if asked.kept is None:
        return
    try:
        store.sweep({*asked.kept, *asked.artefacts.values(), made}, clock.now() - SPARED)
    except Exception:
        _logger.warning("the store could not be swept; the next Job tries again", exc_info=True)


def _fetch_to_validate(asked: JobOrder, store: Artefacts, volumes: Volumes) -> None:
    inputs, artefacts, spec = volumes.of("inputs"), asked.artefacts, _spec(asked)
    candidate = volumes.of("model") / "candidate"
    store.fetch(artefacts[StageName.CONVERT], candidate)
    finished = store.receipt(StageName.VALIDATE, _stage(asked))
    if finished is not None:
        _write(volumes.done, Published(receipts=(finished,)))
        return
    for stage in (StageName.ASSESS, StageName.CAPTURE):
        if stage in artefacts:
            store.fetch(artefacts[stage], inputs / stage.value.lower())
    _write(
        inputs / "validate.json",
        ValidateRequest(
            stage=_stage(asked),
            migration=asked.migration,
            url=CANDIDATE_URL,
            equivalence=spec.equivalence,
            validation=spec.validation,
            assessment=str(inputs / "assess"),
            capture=str(inputs / "capture"),
            capture_digest=artefacts[StageName.CAPTURE],
            candidate=str(candidate),
            candidate_digest=artefacts[StageName.CONVERT],
            runtime_digest=asked.runtime or "",
            server_identity=asked.server_identity,
            reproduce=f"paritygate validate {asked.migration}",
        ),
    )


def _fetch_to_convert(asked: JobOrder, store: Artefacts, volumes: Volumes) -> Fetched:
    from paritygate.worker import assess, datasets  # noqa: PLC0415 - only here are frameworks' readers needed

    folder, spec = volumes.of("inputs"), _spec(asked)
    build_zipapp(str(folder / AGENT))
    absent = spec.source.capture is not None and spec.target.candidate is not None
    bring = Inbound(volumes.of("claims")).bring
    source = bring(spec.source.uri, folder / "source", "spec.source.uri", optional=absent)
    dataset = bring(spec.validation.dataset.uri, folder / "dataset", "spec.validation.dataset.uri")
    brought = spec.target.candidate
    candidate = bring(brought.uri, folder / "brought", "spec.target.candidate.uri") if brought else None
    capture = spec.source.capture
    captured = bring(capture.uri, folder / "captured", "spec.source.capture.uri") if capture else None
    assert dataset is not None  # noqa: S101 - not optional
    inputs = InputDigests(
        source=_digest(source, spec.source.digest, "spec.source"),
        dataset=_digest(dataset, spec.validation.dataset.digest, "spec.validation.dataset") or "",
        environment=asked.environment or "",
        converter=asked.converter or "",
        runtime=asked.runtime or "",
        capture=_digest(captured, capture.digest if capture else None, "spec.source.capture"),
        candidate=_digest(candidate, brought.digest if brought else None, "spec.target.candidate"),
    )
    if captured is not None and capture is not None:
        model = Here(spec.source.uri, inputs.source) if inputs.source else None
        require_capture_of(captured, capture.uri, model, Here(spec.validation.dataset.uri, inputs.dataset))
    _check_pinned(inputs, asked.pinned)
    _write(folder / "inputs.json", inputs)
    finished = _finished(asked, inputs, store)
    if finished is not None:
        _write(volumes.done, Published(inputs=inputs, receipts=finished))
        return Fetched(inputs=inputs)
    assessment = None
    if source is not None:
        _write(folder / "assess.json", AssessRequest(source=spec.source, model=str(source)))
        assess.run(folder / "assess.json", folder / "assess")
        assessment = Assessment.model_validate_json((folder / "assess" / "assessment.json").read_bytes())
    if captured is None:
        (folder / "rows").mkdir()
        datasets.run(dataset, folder / "rows")
        _write(folder / "capture.json", _capture_request(spec, inputs, source, folder / "rows" / "rows.npz"))
    _write(
        folder / "convert.json",
        ConvertRequest(
            source=spec.source,
            target=spec.target,
            model_name=asked.migration,
            model=str(source) if source else None,
            brought=str(candidate) if candidate else None,
            capture=str(captured or volumes.of("captured") / "out"),
        ),
    )
    return _shortened(Fetched(inputs=inputs, assessment=assessment))


def _capture_request(spec: ModelMigrationSpec, inputs: InputDigests, source: Path | None, rows: Path) -> CaptureRequest:
    dataset = spec.validation.dataset
    return CaptureRequest(
        format=spec.source.format,
        model=str(source),
        source_digest=inputs.source or "",
        rows=str(rows),
        dataset_digest=inputs.dataset,
        label=dataset.label,
        group=dataset.group,
        slices=tuple(one.column for one in dataset.slices),
        group_by=spec.validation.decisions.group_by,
        task=spec.validation.task,
        loader=spec.source.loader,
        call=spec.source.call,
        inputs=spec.source.inputs,
        outputs=spec.source.outputs,
        environment_digest=inputs.environment if spec.source.environment else None,
    )


def _finished(asked: JobOrder, inputs: InputDigests, store: Artefacts) -> tuple[Receipt, ...] | None:
    """Receipts of all stages of the Job; None = at least one has not finished yet."""
    known = Inputs(**vars(inputs))
    outputs: dict[StageName, str] = {}
    found = []
    for stage in stages.wanted_stages(known)[:-1]:
        digest = stages.stage_digest(stage, asked.migration, _spec(asked), known, outputs, asked.recipe)
        receipt = store.receipt(stage, digest)
        if receipt is None:
            return None
        outputs[stage] = receipt.output
        found.append(receipt)
    for receipt in found:
        store.record(receipt)  # written anew, so that no sweep takes it for old
    return tuple(found)


def _digest(path: Path | None, stated: str | None, field: str) -> str | None:
    if path is None:
        return None
    found = digest_of_path(path)
    if stated is not None and stated != found:
        raise ConfigurationError(
            "DigestMismatch",
            f"{field}.digest is {stated}, but what is there has {found}; bring what was meant, or correct the digest",
        )
    return found


def _check_pinned(found: InputDigests, pinned: InputDigests | None) -> None:
    for field in ("source", "dataset", "capture", "candidate"):
        before = getattr(pinned, field) if pinned else None
        if before is not None and before != getattr(found, field):
            raise ConfigurationError(
                "DigestMismatch",
                f"{field} changed during the run: {before} was pinned at first sight, and {getattr(found, field)} is "
                "there now; set another spec.runID to run with it",
            )


def _shortened(message: Fetched) -> Fetched:
    """As much of the assessment as a termination message holds."""
    found = message.assessment
    if found is None:
        return message
    found = found.model_copy(
        update={"imports": (), "custom_code": (), "packages": {}, "estimators": (), "signature": None}
    )
    while found.findings and len(_json(message.model_copy(update={"assessment": found}))) > MESSAGE_BYTES:
        found = found.model_copy(update={"findings": found.findings[:-1]})
    return message.model_copy(update={"assessment": found})


def _captured(volumes: Volumes) -> Path:
    inside = volumes.of("inputs") / "captured"
    return next(inside.iterdir()) if inside.is_dir() else volumes.of("captured") / "out"


def _spec(asked: JobOrder) -> ModelMigrationSpec:
    if asked.spec is None:
        raise ConfigurationError("InvalidRequest", f"{ORDER} of job {asked.job} has no spec")
    return asked.spec


def _stage(asked: JobOrder) -> str:
    if asked.stage is None:
        raise ConfigurationError("InvalidRequest", f"{ORDER} of job {asked.job} names no stage")
    return asked.stage


def _json(content: Model) -> bytes:
    return content.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=False).encode()


def _write(path: Path, content: Model) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_json(content))


def clear(volumes: Volumes) -> None:
    """Takes away what an earlier run of this container left: init containers may run again."""
    for name in ("inputs", "model"):
        folder = volumes.of(name)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
