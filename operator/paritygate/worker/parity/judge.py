"""All checks in their order, and the verdict that follows."""

from __future__ import annotations

from paritygate.api.report import Check, Verdict
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.contract import contract
from paritygate.worker.parity.decisions import decisions
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.input_contract import input_contract
from paritygate.worker.parity.metrics import metrics
from paritygate.worker.parity.noise_floor import noise_floor
from paritygate.worker.parity.numeric import numeric
from paritygate.worker.parity.probes import probes
from paritygate.worker.parity.slices import slices
from paritygate.worker.parity.vacuity import vacuity


def judge(evidence: Evidence) -> tuple[Check, ...]:
    """Every check; vacuity only of a candidate that otherwise passes, since another is stopped anyway."""
    checks = (
        contract(evidence),
        noise_floor(evidence),
        numeric(evidence),
        input_contract(evidence),
        decisions(evidence),
        metrics(evidence),
        slices(evidence),
        probes(evidence),
    )
    if verdict_of(checks) is not Verdict.PASSED:
        return checks
    return (*checks, vacuity(evidence, answers_alone))


def answers_alone(evidence: Evidence) -> tuple[Check, ...]:
    """The checks that compare the rows' answers: what a deliberate defect in them must not pass."""
    return (numeric(evidence), decisions(evidence), metrics(evidence), slices(evidence))
