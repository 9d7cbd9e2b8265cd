"""A source model converted as the Convert stage does it, and the answers of the candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from paritygate.api.artifacts import CaptureManifest
from paritygate.api.report import Environment, OutputRole, OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Datatype, Source, SourceFormat, Task
from paritygate.worker.sources import Conversion, Converted, source_module
from paritygate.worker.targets.onnx import finish

DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Candidate:
    """A finished ONNX file with a session on it."""

    path: Path
    converted: Converted
    session: ort.InferenceSession
    signature: Signature

    def answer(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Output name → array."""
        names = [output.name for output in self.signature.outputs]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))

    @property
    def model(self) -> onnx.ModelProto:
        """The file, read again."""
        return onnx.load(str(self.path))


def capture_of(source_format: SourceFormat, signature: Signature) -> CaptureManifest:
    """A capture that says nothing but the signature."""
    return CaptureManifest(
        format=source_format, framework="any", framework_version="1", source=DIGEST, dataset=DIGEST, rows=1, columns=(),
        task=Task.GENERIC, signature=signature, source_datatypes={}, cast_exact=True,
        environment=Environment(python="3.11", platform="Linux x86_64", packages={}), noise=(),
    )  # fmt: skip


def tensor(name: str, datatype: str = "FP64", shape: Sequence[int] = (-1, 1)) -> TensorSignature:
    """An input."""
    return TensorSignature(name=name, datatype=Datatype(datatype), shape=tuple(shape))


def output(
    name: str, role: str, datatype: str = "FP64", shape: Sequence[int] = (-1,), classes: Sequence[Any] | None = None
) -> OutputSignature:
    """An output."""
    return OutputSignature(
        name=name, role=OutputRole(role), datatype=Datatype(datatype), shape=tuple(shape),
        classes=None if classes is None else tuple(classes),
    )  # fmt: skip


def session_on(path: Path) -> ort.InferenceSession:
    """A quiet session with one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def converted_model(tmp_path: Path) -> Callable[..., Candidate]:
    """Converts and finishes a model: `(format, model, inputs, outputs, sample={}, opset=18, loader=None)`."""

    def convert(
        source_format: str, model: Path, inputs: Sequence[TensorSignature], outputs: Sequence[OutputSignature],
        *, sample: Mapping[str, Any] | None = None, opset: int = 18, loader: str | None = None,
    ) -> Candidate:  # fmt: skip
        kind = SourceFormat(source_format)
        signature = Signature(inputs=tuple(inputs), outputs=tuple(outputs))
        folder = tmp_path / f"candidate-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        destination = folder / "model.onnx"
        converted = source_module(kind).convert(
            Conversion(
                source=Source(format=kind, uri=str(model), loader=loader),
                model=model,
                capture=capture_of(kind, signature),
                sample=dict(sample or {}),
                opset=opset,
                opset_stated=False,
                destination=destination,
            )
        )
        finish(destination, signature)
        return Candidate(destination, converted, session_on(destination), signature)

    return convert


@pytest.fixture
def wire() -> Any:
    """Shorthands for signatures: `wire.tensor(name, …)` and `wire.output(name, role, …)`."""

    class Wire:
        tensor = staticmethod(tensor)
        output = staticmethod(output)
        session_on = staticmethod(session_on)

    return Wire


@pytest.fixture
def beside_thresholds() -> Callable[..., np.ndarray[Any, Any]]:
    """Rows with values at, just below and just above thresholds, and with special values."""

    def rows(base: Any, thresholds: Sequence[tuple[int, float]], special: Sequence[float], seed: int = 0) -> Any:
        random = np.random.default_rng(seed)
        probes = base[random.integers(len(base), size=1500)].copy()
        step = probes.dtype.type
        for row in probes:
            feature, threshold = thresholds[random.integers(len(thresholds))]
            at = step(threshold)
            row[feature] = random.choice([at, np.nextafter(at, step(np.inf)), np.nextafter(at, step(-np.inf))])
            if len(special) and random.random() < 0.5:
                row[random.integers(probes.shape[1])] = random.choice(special)
        return probes

    return rows
