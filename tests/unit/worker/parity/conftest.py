"""Evidence of made-up classifiers and regressors, to be broken in one way at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import CaptureManifest, Noise
from paritygate.api.report import Environment, OutputRole, OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Dataset, Datatype, Equivalence, SourceFormat, Task, Validation
from paritygate.worker.parity.evidence import Evidence, Policy

DIGEST = "sha256:" + "0" * 64
Make = Callable[..., Evidence]


def capture_of(
    outputs: tuple[OutputSignature, ...],
    inputs: tuple[TensorSignature, ...],
    rows: int,
    columns: tuple[str, ...],
    task: Task,
    **changes: Any,
) -> CaptureManifest:
    return CaptureManifest(
        format=SourceFormat.SKLEARN,
        framework="scikit-learn",
        framework_version="1.9.0",
        source=DIGEST,
        dataset=DIGEST,
        rows=rows,
        columns=columns,
        task=task,
        signature=Signature(inputs=inputs, outputs=outputs),
        source_datatypes={output.name: "float64" for output in outputs},
        cast_exact=True,
        environment=Environment(python="3.11.8", platform="Linux x86_64", packages={}),
        noise=tuple(
            Noise(output=output.name, floor=0.0, rows=64) for output in outputs if output.role is not OutputRole.LABEL
        ),
    ).model_copy(update=changes)


def classifier_evidence(
    rows: int = 1000,
    classes: int = 2,
    *,
    equivalence: Equivalence = Equivalence.NUMERIC,
    seed: int = 0,
    capture: Mapping[str, Any] | None = None,
    annotations: Mapping[str, Any] | None = None,
    candidate: Mapping[str, Any] | None = None,
    probabilities: Any = None,
    labelled: bool = False,
    **validation: Any,
) -> Evidence:
    """A classifier with label and probabilities; the candidate answers the same, in FP32."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 4))
    if probabilities is None:
        logits = random.normal(size=(rows, classes)) * 2
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = probabilities.argmax(axis=1)
    outputs = (
        OutputSignature(name="label", datatype=Datatype.INT64, shape=(-1,), role=OutputRole.LABEL),
        OutputSignature(
            name="probabilities", datatype=Datatype.FP32, shape=(-1, classes), role=OutputRole.PROBABILITIES,
            classes=tuple(range(classes)),
        ),
    )  # fmt: skip
    inputs = (TensorSignature(name="features", datatype=Datatype.FP64, shape=(-1, 4)),)
    dataset = validation.pop("dataset", Dataset(uri="holdout.npz", label="y" if labelled else None))
    truth = np.where(random.random(rows) < 0.9, label, (label + 1) % classes)
    return Evidence(
        capture=capture_of(outputs, inputs, rows, ("a", "b", "c", "d"), Task.CLASSIFICATION, **(capture or {})),
        policy=Policy(equivalence, Validation(dataset=dataset, **validation)),
        inputs={"features": features},
        reference={"label": label, "probabilities": probabilities},
        candidate={"label": label.copy(), "probabilities": probabilities.astype(np.float32), **(candidate or {})},
        annotations={**({"y": truth} if labelled else {}), **(annotations or {})},
    )


def regressor_evidence(
    rows: int = 1000, *, equivalence: Equivalence = Equivalence.NUMERIC, seed: int = 0, labelled: bool = False,
    prediction: Any = None, annotations: Mapping[str, Any] | None = None, task: Task = Task.REGRESSION,
    capture: Mapping[str, Any] | None = None, **validation: Any,
) -> Evidence:  # fmt: skip
    """A regressor; the candidate answers the same, in FP32."""
    random = np.random.default_rng(seed)
    prediction = random.normal(size=rows) * 10 + 100 if prediction is None else prediction
    outputs = (OutputSignature(name="prediction", datatype=Datatype.FP32, shape=(-1,), role=OutputRole.PREDICTION),)
    inputs = (TensorSignature(name="features", datatype=Datatype.FP64, shape=(-1, 4)),)
    dataset = validation.pop("dataset", Dataset(uri="holdout.npz", label="y" if labelled else None))
    truth = prediction + random.normal(size=rows)
    return Evidence(
        capture=capture_of(outputs, inputs, rows, ("a", "b", "c", "d"), task, **(capture or {})),
        policy=Policy(equivalence, Validation(dataset=dataset, **validation)),
        inputs={"features": random.normal(size=(rows, 4))},
        reference={"prediction": prediction},
        candidate={"prediction": np.asarray(prediction).astype(np.float32)},
        annotations={**({"y": truth} if labelled else {}), **(annotations or {})},
    )


@pytest.fixture
def classifier() -> Make:
    return classifier_evidence


@pytest.fixture
def regressor() -> Make:
    return regressor_evidence
