"""Ends of runs."""

from __future__ import annotations

import pytest

from paritygate.api.report import (
    CheckName,
    Diagnosis,
    Environment,
    ParityReport,
    Signature,
    Subject,
    Verdict,
)
from paritygate.api.spec import Equivalence, SourceFormat, Task
from paritygate.local.events import RunFinished

DIGEST = "sha256:" + "a" * 64


@pytest.fixture
def failed_with_long_command() -> RunFinished:
    environment = Environment(python="3.11", platform="Linux x86_64", packages={})
    report = ParityReport(
        migration="churn",
        candidate="plain",
        format=SourceFormat.SKLEARN,
        framework="scikit-learn 1.2.2",
        equivalence=Equivalence.NUMERIC,
        task=Task.CLASSIFICATION,
        confidence=0.95,
        rows=10,
        verdict=Verdict.FAILED,
        sentence="It differs.",
        subject=Subject(source=DIGEST, dataset=DIGEST, capture=DIGEST, candidate=DIGEST, runtime=DIGEST, policy=DIGEST),
        signature=Signature(inputs=(), outputs=()),
        source_environment=environment,
        candidate_environment=environment,
        checks=(),
        diagnosis=Diagnosis(
            check=CheckName.NUMERIC,
            where="output y",
            reproduce="paritygate validate a-rather-long-manifest-name.yaml --workdir .paritygate --row 1713 --verbose",
            try_next="Ask.",
        ),
    )
    return RunFinished(Verdict.FAILED, report)
