"""A migration and evidence about it, in few words."""

from datetime import UTC, datetime

import pytest

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import CheckName, EvidenceSummary, Subject, SummaryLine, Verdict
from paritygate.api.spec import ModelMigrationSpec
from paritygate.core import stages
from paritygate.core.evidence import policy_digest
from paritygate.core.observed import Inputs, Observed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = {
    "source": {"format": "SKLearn", "uri": "m.pkl"},
    "target": {"format": "ONNX"},
    "validation": {"dataset": {"uri": "d.csv", "label": "y"}},
}


class World:
    """What is observed of one migration, and the receipts that its stages would leave."""

    def __init__(self, **spec):
        self.spec = ModelMigrationSpec.model_validate({**SPEC, **spec})
        names = ("source", "dataset", "environment", "converter", "runtime")
        self.inputs = Inputs(**{name: digest_of(name) for name in names})

    def observed(self, **fields):
        known = {"name": "m", "uid": "u", "generation": 1, "spec": self.spec, "now": NOW, "inputs": self.inputs}
        return Observed(**{**known, **fields})

    def receipts(self, verdict=Verdict.PASSED, subject=None, lines=None):
        """Of all stages, as they would be for these inputs."""
        outputs, found = {}, []
        for stage in stages.ORDER:
            digest = stages.stage_digest(stage, "m", self.spec, self.inputs, outputs, stages.RECIPE)
            outputs[stage] = digest_of(["output", stage])
            summary = None
            if stage is StageName.VALIDATE:
                summary = self.summary(digest, outputs, verdict, subject or {}, lines)
            found.append(Receipt(stage=stage, digest=digest, output=outputs[stage], summary=summary))
        return tuple(found)

    def summary(self, digest, outputs, verdict, subject, lines):
        known = {
            "source": self.inputs.source,
            "dataset": self.inputs.dataset,
            "capture": outputs[StageName.CAPTURE],
            "candidate": outputs[StageName.CONVERT],
            "runtime": self.inputs.runtime,
            "policy": policy_digest(self.spec.equivalence, self.spec.validation),
        }
        names = (CheckName.CONTRACT, CheckName.NUMERIC, CheckName.INPUT_CONTRACT, CheckName.VACUITY)
        passed = tuple(
            SummaryLine(name=name, result=verdict, blocking=True, measured=1, limit=1, rows=9) for name in names
        )
        return EvidenceSummary(
            stage=subject.pop("stage", digest),
            subject=Subject(**{**known, **subject}),
            report=digest_of("report"),
            candidate="plain",
            equivalence=subject.pop("equivalence", self.spec.equivalence),
            verdict=verdict,
            checks=passed if lines is None else lines,
        )


@pytest.fixture
def world():
    return World()
