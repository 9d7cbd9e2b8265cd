"""What sample reports are made of."""

from __future__ import annotations

import random

from paritygate.api.report import (
    Check,
    CheckName,
    Environment,
    Histogram,
    Measurement,
    OutputRole,
    OutputSignature,
    ParityReport,
    Scatter,
    Signature,
    Subject,
    TensorSignature,
)
from paritygate.api.spec import Datatype, Equivalence, SourceFormat, Task
from paritygate.core.verdict import result_of_check, verdict_of


def digest(letter: str) -> str:
    return "sha256:" + (letter * 64)[:64]


def check(name: CheckName, message: str, *measurements: Measurement) -> Check:
    return Check(
        name=name,
        result=result_of_check(measurements),
        blocking=any(m.blocking for m in measurements),
        message=message,
        measurements=measurements,
    )


def measurement(
    subject: str, statistic: str, rows: int = 2000, *, blocking: bool = True, **numbers: object
) -> Measurement:
    return Measurement(subject=subject, statistic=statistic, rows=rows, blocking=blocking, **numbers)


SIGNATURE = Signature(
    inputs=(
        TensorSignature(name="age", datatype=Datatype.FP64, shape=(-1, 1)),
        TensorSignature(name="country", datatype=Datatype.BYTES, shape=(-1, 1)),
    ),
    outputs=(
        OutputSignature(name="label", datatype=Datatype.INT64, shape=(-1,), role=OutputRole.LABEL, classes=(0, 1)),
        OutputSignature(
            name="probabilities", datatype=Datatype.FP32, shape=(-1, 2), role=OutputRole.PROBABILITIES, classes=(0, 1)
        ),
    ),
)
SOURCE_ENVIRONMENT = Environment(
    python="3.11.2",
    platform="Linux x86_64",
    packages={"scikit-learn": "1.2.2", "numpy": "1.26.4", "scipy": "1.11.4", "joblib": "1.4.2", "pandas": "2.1.4"},
    digest=digest("4f1a"),
)
CANDIDATE_ENVIRONMENT = Environment(
    python="3.11.2",
    platform="Linux x86_64",
    packages={"onnxruntime": "1.31.1", "numpy": "2.3.4", "paritygate": "0.1.0"},
    digest=digest("9c0d"),
    options={"graph optimisation": "all", "intra-op threads": "1"},
)
SUBJECT = Subject(
    source=digest("a1b2"),
    dataset=digest("c3d4"),
    capture=digest("e5f6"),
    candidate=digest("0719"),
    runtime=digest("2b3c"),
    policy=digest("4d5e"),
)


def report_of(checks: tuple[Check, ...], **fields: object) -> ParityReport:
    values: dict[str, object] = {
        "migration": "churn",
        "candidate": "plain",
        "format": SourceFormat.SKLEARN,
        "framework": "scikit-learn 1.2.2",
        "equivalence": Equivalence.NUMERIC,
        "task": Task.CLASSIFICATION,
        "confidence": 0.95,
        "rows": 2000,
        "verdict": verdict_of(checks),
        "sentence": "A sentence.",
        "subject": SUBJECT,
        "signature": SIGNATURE,
        "source_environment": SOURCE_ENVIRONMENT,
        "candidate_environment": CANDIDATE_ENVIRONMENT,
    }
    return ParityReport(checks=checks, **(values | fields))


def histogram(centre: float, spread: float, *, rows: int = 2000, zeros: int = 0, seed: int = 7) -> Histogram:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    edges = tuple(10 ** (exponent / 4) for exponent in range(-28, 29))
    counts = [0] * (len(edges) - 1)
    for _ in range(rows - zeros):
        exponent = min(max(chance.gauss(centre, spread), -6.9), 6.9)
        counts[int((exponent + 7) * 4)] += 1
    return Histogram(output="probabilities", edges=edges, counts=tuple(counts), zeros=zeros)


def scatter(noise: float, *, rows: int = 1200, seed: int = 11) -> Scatter:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    reference = tuple(min(max(chance.betavariate(0.7, 1.4), 0.0), 1.0) for _ in range(rows))
    candidate = tuple(
        value if chance.random() > 0.6 else min(max(value + chance.gauss(0, noise), 0.0), 1.0) for value in reference
    )
    return Scatter(
        subject="probabilities[1]",
        reference=reference,
        candidate=candidate,
        flipped=tuple((a >= 0.5) != (b >= 0.5) for a, b in zip(reference, candidate, strict=True)),
        threshold=0.5,
    )
