"""What artefacts say of themselves, and the record of a run that people read: `plan.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

from paritygate.api.artifacts import Assessment, CandidateManifest, CaptureManifest, Receipt, StageName
from paritygate.api.base import Model
from paritygate.api.digests import digest_of
from paritygate.api.report import EvidenceSummary, ParityReport
from paritygate.api.status import ModelMigrationStatus
from paritygate.core.evidence import unfaithful
from paritygate.core.observed import Attempt, Inputs
from paritygate.errors import ConfigurationError
from paritygate.storage.store import Store

_HEADS: Final[dict[type[Model], tuple[StageName, str]]] = {
    Assessment: (StageName.ASSESS, "assessment.json"),
    CaptureManifest: (StageName.CAPTURE, "capture.json"),
    CandidateManifest: (StageName.CONVERT, "candidate.json"),
}
_Head = TypeVar("_Head", Assessment, CaptureManifest, CandidateManifest)


def head(store: Store, receipts: Iterable[Receipt], kind: type[_Head]) -> _Head | None:
    """The file that heads a finished stage's artefact; None where there is no receipt, or no such file."""
    stage, name = _HEADS[kind]
    receipt = next((one for one in receipts if one.stage is stage), None)
    if receipt is None:
        return None
    try:
        return kind.model_validate_json((store.path(receipt.output) / name).read_bytes())
    except (OSError, ValueError):
        return None


def described(store: Store, receipt: Receipt) -> str:
    """What a stage made, in a few words; empty where its artefact does not say."""
    one = (receipt,)
    match receipt.stage:
        case StageName.ASSESS if assessed := head(store, one, Assessment):
            return " ".join(filter(None, (assessed.framework, assessed.framework_version)))
        case StageName.CAPTURE if captured := head(store, one, CaptureManifest):
            return f"{captured.rows:,} rows answered by {captured.framework} {captured.framework_version}"
        case StageName.CONVERT if candidate := head(store, one, CandidateManifest):
            return f"{candidate.size:,} bytes, opset {candidate.opset}"
        case StageName.VALIDATE if receipt.summary is not None:
            return receipt.summary.verdict.value
    return ""


def summary(folder: Path) -> EvidenceSummary | None:
    """The summary in a verdict folder, borne out by the report beside it; None where there is none.

    ConfigurationError (EvidenceInvalid): the report is missing, or says otherwise.
    """
    try:
        found = EvidenceSummary.model_validate_json((folder / "summary.json").read_bytes())
    except (OSError, ValueError):
        return None
    try:
        content = (folder / "report.json").read_bytes()
        wrong = unfaithful(found, ParityReport.model_validate_json(content), digest_of(json.loads(content)))
    except (OSError, ValueError) as error:
        wrong = f"report.json cannot be read ({error})"
    if wrong is not None:
        raise ConfigurationError("EvidenceInvalid", f"{wrong}; nothing follows from it. Validate again")
    return found


def bears_out(folder: Path, receipt: Receipt) -> bool:
    """Whether a receipt says of a verdict what its artefact says: receipts are small files that anybody can edit."""
    if receipt.stage is not StageName.VALIDATE:
        return True
    try:
        return summary(folder) == receipt.summary
    except ConfigurationError:
        return False


def plan_record(  # noqa: PLR0913, PLR0917 - one per part of the file
    migration: str,
    manifest: Path,
    inputs: Inputs | None,
    status: ModelMigrationStatus,
    snapshot: tuple[tuple[Receipt, ...], tuple[Attempt, ...]],
    reused: set[StageName],
) -> dict[str, object]:
    """The content of `plan.json`: inputs, stages with their attempts, and the status."""
    receipts, attempts = snapshot
    outputs = {(one.stage, one.digest): one.output for one in receipts}
    return {
        "migration": migration,
        "manifest": str(manifest.absolute()),
        "inputs": vars(inputs) if inputs else None,
        "stages": [
            {
                "name": stage.name.value,
                "digest": stage.digest,
                "state": stage.state.value,
                "output": outputs.get((stage.name, stage.digest)),
                "reused": stage.name in reused,
                "attempts": [_told(a) for a in attempts if (a.stage, a.digest) == (stage.name, stage.digest)],
            }
            for stage in status.stages
        ],
        "status": status.to_dict(),
    }


def _told(attempt: Attempt) -> dict[str, object]:
    ended = attempt.ended_at
    return {
        "number": attempt.number,
        "state": attempt.state.value,
        "startedAt": attempt.started_at.isoformat(timespec="milliseconds"),
        "seconds": round((ended - attempt.started_at).total_seconds(), 3) if ended else None,
        "failure": attempt.failure.to_dict() if attempt.failure else None,
    }
