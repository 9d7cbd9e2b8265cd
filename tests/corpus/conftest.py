"""Takes a real source and an artefact through capture and the gate; the artefact runs as it is served."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from paritygate.agent import exchange
from paritygate.agent.capture import capture as record
from paritygate.api.artifacts import CandidateManifest, CaptureManifest
from paritygate.api.report import Environment, ParityReport, Subject
from paritygate.api.spec import Datatype, Equivalence, Source, SourceFormat, Validation
from paritygate.server.identity import session_options
from paritygate.worker.answers import ask_all, ask_in_batches, ask_probes
from paritygate.worker.guards import guards
from paritygate.worker.inference import RequestRefused
from paritygate.worker.parity.divergence import locate
from paritygate.worker.parity.evidence import Evidence, Policy
from paritygate.worker.parity.report import Circumstances, report_of
from paritygate.worker.sources import Conversion, source_module
from paritygate.worker.targets.onnx import finish
from paritygate.worker.tracing import Graph

DIGEST = "sha256:" + "0" * 64


@dataclass
class Case:
    """A source, its held-out rows, and how a candidate is judged."""

    model: Any
    """A scikit-learn, LightGBM or XGBoost estimator, an ONNX ModelProto, or the folder of a PyTorch source."""
    rows: Mapping[str, Any]
    """The dataset by column."""
    format: SourceFormat = SourceFormat.SKLEARN
    label: str | None = None
    equivalence: Equivalence = Equivalence.NUMERIC
    request: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the CaptureRequest, camelCase."""
    validation: Mapping[str, Any] = field(default_factory=dict)


class RuntimeClient:
    """onnxruntime with the server's session options, in place of the server."""

    def __init__(self, path: Path) -> None:
        onnxruntime.set_default_logger_severity(4)
        self._session = onnxruntime.InferenceSession(str(path), session_options(1), ["CPUExecutionProvider"])

    def infer(self, feeds: Mapping[str, Any], inputs: Any) -> dict[str, Any]:
        typed = {
            tensor.name: np.asarray(feeds[tensor.name], dtype=object if tensor.datatype is Datatype.BYTES else None)
            for tensor in inputs
        }
        # As the server does: a recurrent network that gets no rows ends the process.
        empty = not any(len(array) for array in typed.values())
        if empty:
            typed = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in typed.items()}
        try:
            answers = [answer[:0] if empty else answer for answer in self._session.run(None, typed)]
        except Exception as error:
            raise RequestRefused(400, str(error)) from error
        return {output.name: answer for output, answer in zip(self._session.get_outputs(), answers, strict=True)}


class Gate:
    """Judges artefacts, all in one temporary folder. A case is captured once, however often it is judged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._captured: tuple[Case, CaptureManifest] | None = None

    def brought(self, case: Case, artefact: onnx.ModelProto | bytes) -> ParityReport:
        """The verdict on an artefact that was made elsewhere."""
        captured = self._capture(case)
        path = self._folder / "brought.onnx"
        path.write_bytes(artefact if isinstance(artefact, bytes) else artefact.SerializeToString())
        finish(path, captured.signature, brought=True)
        return self._judge(case, captured, path, "brought")

    def converted(self, case: Case) -> ParityReport:
        """The verdict on ParityGate's own conversion."""
        captured = self._capture(case)
        path = self.artefact
        inputs = exchange.load(str(self._folder / "capture" / "inputs.npz"))
        extra = {"loader": case.request["loader"]} if case.format is SourceFormat.PYTORCH else {}
        source_module(case.format).convert(
            Conversion(
                source=Source(format=case.format, uri="model", **extra),
                model=self._model_path(case),
                capture=captured,
                sample={name: np.asarray(column[:8]) for name, column in inputs.items()},
                opset=18,
                opset_stated=False,
                destination=path,
            )
        )
        finish(path, captured.signature)
        return self._judge(case, captured, path, "plain")

    @property
    def artefact(self) -> Path:
        """Where `converted` leaves ParityGate's own conversion."""
        return self._folder / "model.onnx"

    def _model_path(self, case: Case) -> Path:
        if isinstance(case.model, Path):
            return case.model
        if case.format is SourceFormat.ONNX:
            path = self._folder / "source.onnx"
            path.write_bytes(case.model.SerializeToString())
            return path
        import joblib

        path = self._folder / "source.joblib"
        joblib.dump(case.model, path)
        return path

    def _capture(self, case: Case) -> CaptureManifest:
        if self._captured is not None and self._captured[0] is case:
            return self._captured[1]
        out = self._folder / "capture"
        out.mkdir()
        exchange.save(str(self._folder / "rows.npz"), case.rows)
        request = {
            "format": case.format.value,
            "model": str(self._model_path(case)),
            "rows": str(self._folder / "rows.npz"),
            "sourceDigest": DIGEST,
            "datasetDigest": DIGEST,
            "label": case.label,
            **case.request,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            record(request, str(out))
        captured = CaptureManifest.model_validate_json((out / "capture.json").read_bytes())
        self._captured = case, captured
        return captured

    def _judge(self, case: Case, captured: CaptureManifest, path: Path, name: str) -> ParityReport:
        folder = self._folder / "capture"
        table = {file.stem: dict(exchange.load(str(file))) for file in sorted(folder.glob("*.npz"))}
        inputs, probes = table["inputs"], table.get("probes", {})
        guarded = guards(captured, probes, inputs, {})
        client: Any = RuntimeClient(path)
        answers = ask_all(client, captured.signature, inputs, captured.rows)
        dataset = {"uri": "rows.npz", "label": case.label, **case.validation.get("dataset", {})}
        validation = {**case.validation, "dataset": dataset}
        evidence = Evidence(
            capture=captured,
            policy=Policy(case.equivalence, Validation.model_validate(validation)),
            inputs=inputs,
            reference=table["reference"],
            cast=None if captured.cast_exact else table["cast"],
            annotations=table["annotations"],
            candidate=answers.table,
            answered=answers.answered,
            refusal=answers.refusal,
            batches=ask_in_batches(client, captured.signature, inputs, captured.rows),
            probes=probes,
            probes_reference=table.get("probes_reference", {}),
            probe_answers=ask_probes(client, captured.signature, captured.probes, probes),
            manifest=CandidateManifest(
                name=name, model_name="model", signature=captured.signature, opset=18, ir_version=8, size=1,
                guards=guarded,
            ),
        )  # fmt: skip
        return report_of(
            evidence,
            Circumstances(
                migration="corpus",
                subject=Subject(
                    source=DIGEST, dataset=DIGEST, capture=DIGEST, candidate=DIGEST, runtime=DIGEST, policy=DIGEST
                ),
                candidate_environment=Environment(python="3.11.8", platform="Linux x86_64", packages={}),
                reproduce="paritygate validate corpus",
                candidate=name,
                locate=lambda judged: locate(judged, table.get("steps", {}), Graph(path)),
            ),
        )


def classification(rows: int = 1200, columns: int = 8, classes: int = 2, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Training features and labels, held-out features and labels."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        rows + 600, columns, n_informative=columns - 2, n_redundant=0, n_classes=classes, flip_y=0.1, random_state=seed
    )
    return x[:600], y[:600], x[600:], y[600:]


def matrix(x: Any, **more: Any) -> dict[str, Any]:
    """A matrix as dataset columns."""
    return {**{f"c{index}": x[:, index] for index in range(x.shape[1])}, **more}


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture(scope="session")
def gates() -> type[Gate]:
    return Gate


@pytest.fixture(scope="session")
def case_type() -> type[Case]:
    return Case


@pytest.fixture
def case() -> type[Case]:
    return Case


@pytest.fixture
def corpus() -> Any:
    class Corpus:
        classification = staticmethod(classification)
        matrix = staticmethod(matrix)

    return Corpus
