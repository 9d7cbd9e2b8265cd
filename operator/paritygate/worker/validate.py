"""Stage Validate: judges a candidate as it is served, over the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from paritygate.agent import exchange
from paritygate.api.artifacts import Assessment, CandidateManifest, CaptureManifest, ValidateRequest
from paritygate.api.digests import digest_of
from paritygate.api.report import Environment, ParityReport, Subject, TensorSignature
from paritygate.api.spec import Datatype
from paritygate.core.evidence import policy_digest
from paritygate.errors import ConfigurationError
from paritygate.worker.answers import ask_all, ask_in_batches, ask_probes, is_large
from paritygate.worker.golden import write_golden
from paritygate.worker.inference import InferenceClient
from paritygate.worker.parity.divergence import Divergence, locate
from paritygate.worker.parity.evidence import Evidence, Offer, Policy
from paritygate.worker.parity.report import Circumstances, report_of
from paritygate.worker.parity.summary import summary_of
from paritygate.worker.ready import wait_ready
from paritygate.worker.stage import progress, read_capture, read_request, write_json
from paritygate.worker.targets import MODEL_FILE
from paritygate.worker.tracing import Graph

REPORT: Final = "report.json"
SUMMARY: Final = "summary.json"
PAGE: Final = "report.html"


def run(request_file: Path, out: Path) -> None:
    """Writes the verdict folder (docs/reference/formats.md), whatever the verdict is.

    Raises:
        ConfigurationError: CaptureUnreadable, CandidateUnreadable, RuntimeDiffers.
        InfrastructureError: CandidateNotReady, CandidateUnreachable, CandidateAnswerInvalid.
    """
    request = read_request(ValidateRequest, request_file)
    request = request.model_copy(update={"url": wait_ready(request.url)})
    out.mkdir(parents=True, exist_ok=True)
    capture = read_capture(Path(request.capture))
    manifest = _read_candidate(Path(request.candidate))
    with InferenceClient(request.url, manifest.model_name) as client:
        progress("waiting for the candidate")
        client.wait_ready()
        identity = client.server().get("identity", {})
        _check_identity(request, identity)
        evidence = gather(request, capture, manifest, client)
        progress("judging")
        report = report_of(
            evidence,
            Circumstances(
                migration=request.migration,
                subject=_subject(request, capture),
                candidate_environment=environment_of(identity),
                reproduce=request.reproduce,
                assessment=_read_assessment(Path(request.assessment)),
                candidate=manifest.name,
                locate=lambda judged: _locate(request, judged),
            ),
        )
        progress("recording golden rows")
        write_golden(out, evidence, client)
    write_json(out / REPORT, report)
    write_json(out / SUMMARY, summary_of(report, request.stage))
    write_page(out / PAGE, report)


def _check_identity(request: ValidateRequest, identity: dict[str, Any]) -> None:
    """ConfigurationError (RuntimeDiffers): the server is not the one that the verdict would name as its runtime."""
    if request.server_identity is None or digest_of(identity) == request.server_identity:
        return
    packages = ", ".join(f"{name} {version}" for name, version in environment_of(identity).packages.items())
    raise ConfigurationError(
        "RuntimeDiffers",
        f"the candidate's server at {request.url} says that it is {digest_of(identity)} ({packages or 'no packages'}), "
        f"and {request.server_identity} was to judge: packages, threads or processor changed after they were read; run "
        "again, and in a cluster correct images.server.identity in the operator's settings, or leave it out",
    )


def gather(
    request: ValidateRequest, capture: CaptureManifest, manifest: CandidateManifest, client: InferenceClient
) -> Evidence:
    """Asks the candidate everything that the checks look at."""
    folder = Path(request.capture)
    inputs = _table(folder / "inputs.npz")
    large = is_large(capture.format, manifest.size)
    answers = ask_all(client, capture.signature, inputs, capture.rows, large=large)
    probes = _table(folder / "probes.npz") if capture.probes else {}
    return Evidence(
        capture=capture,
        policy=Policy(request.equivalence, request.validation),
        inputs=inputs,
        reference=_table(folder / "reference.npz"),
        cast=None if capture.cast_exact else _table(folder / "cast.npz"),
        annotations=_optional_table(folder / "annotations.npz"),
        candidate=answers.table,
        answered=answers.answered,
        refusal=answers.refusal,
        batches=ask_in_batches(client, capture.signature, inputs, capture.rows, large=large),
        probes=probes,
        probes_reference=_table(folder / "probes_reference.npz") if capture.probes else {},
        probe_answers=ask_probes(client, capture.signature, capture.probes, probes),
        offer=_offer(client.model()),
        manifest=manifest,
    )


def _locate(request: ValidateRequest, evidence: Evidence) -> Divergence | None:
    """The first step that differs."""
    progress("looking for the first step that differs")
    steps = _optional_table(Path(request.capture) / "steps.npz")
    return locate(evidence, steps, Graph(Path(request.candidate) / MODEL_FILE))


def environment_of(identity: dict[str, Any]) -> Environment:
    """Where the candidate ran, from what its server says of itself."""
    options = {str(key): str(value) for key, value in identity.get("options", {}).items()}
    cpu = identity.get("cpu")
    if isinstance(cpu, dict):
        options["cpu"] = " ".join([str(cpu.get("architecture", "")), *map(str, cpu.get("features", []))]).strip()
    packages = {str(key): str(value) for key, value in identity.get("packages", {}).items()}
    if "version" in identity:
        packages["paritygate"] = str(identity["version"])
    return Environment(
        python=str(identity.get("python", "unknown")),
        platform=str(identity.get("platform", "unknown")),
        packages=packages,
        options=options,
    )


def write_page(path: Path, report: ParityReport) -> None:
    """Writes the report for people. ConfigurationError (MissingExtra): jinja2 is not installed."""
    try:
        from paritygate.report.html import render  # noqa: PLC0415 - needs the extra `report`
    except ImportError as error:
        raise ConfigurationError(
            "MissingExtra", f"report.html needs {error.name}; install ParityGate with pip install 'paritygate[report]'"
        ) from error
    path.write_text(render(report), encoding="utf-8")


def _subject(request: ValidateRequest, capture: CaptureManifest) -> Subject:
    return Subject(
        source=capture.source,
        dataset=capture.dataset,
        capture=request.capture_digest,
        candidate=request.candidate_digest,
        runtime=request.runtime_digest,
        policy=policy_digest(request.equivalence, request.validation),
    )


def _offer(metadata: dict[str, Any]) -> Offer:
    def tensors(kind: str) -> tuple[TensorSignature, ...]:
        return tuple(
            TensorSignature(name=t["name"], datatype=Datatype(t["datatype"]), shape=tuple(t.get("shape", ())))
            for t in metadata.get(kind, ())
        )

    return Offer(tensors("inputs"), tensors("outputs"))


def _table(path: Path) -> dict[str, Any]:
    try:
        return dict(exchange.load(str(path)))
    except Exception as error:
        raise ConfigurationError(
            "CaptureUnreadable", f"{path} is missing or damaged ({error}); record it with `paritygate capture`"
        ) from error


def _optional_table(path: Path) -> dict[str, Any]:
    return _table(path) if path.exists() else {}


def _read_candidate(folder: Path) -> CandidateManifest:
    try:
        return CandidateManifest.model_validate_json((folder / "candidate.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            "CandidateUnreadable", f"{folder / 'candidate.json'} is missing or no candidate ({error}); convert it again"
        ) from error


def _read_assessment(folder: Path) -> Assessment | None:
    """None where the source was not here to be assessed."""
    try:
        return Assessment.model_validate_json((folder / "assessment.json").read_bytes())
    except (OSError, ValidationError):
        return None
