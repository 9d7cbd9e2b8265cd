"""All checks in their order, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from paritygate.api.report import Check, Verdict
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.contract import contract
from paritygate.worker.parity.decisions import decisions
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.input_contract import input_contract
from paritygate.worker.parity.measure import check
from paritygate.worker.parity.metrics import metrics
from paritygate.worker.parity.noise_floor import noise_floor
from paritygate.worker.parity.numeric import numeric
from paritygate.worker.parity.probes import probes
from paritygate.worker.parity.slices import slices
from paritygate.worker.parity.vacuity import vacuity


def judge(evidence: Evidence) -> tuple[Check, ...]:
    """Every check. Vacuity blocks where the others pass, and is reported where the candidate failed."""
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
    verdict = verdict_of(checks)
    if verdict is Verdict.PASSED:
        return (*checks, vacuity(evidence, answers_alone))
    ideal = replace(evidence, candidate=evidence.reference, answered=None, refusal=None)
    if verdict is Verdict.FAILED and verdict_of(answers_alone(ideal)) is Verdict.PASSED:
        return (*checks, _reported(vacuity(ideal, answers_alone)))
    return checks


def _reported(found: Check) -> Check:
    """A failed candidate's answers would be stopped whatever else is done to them: the source's own stand for them."""
    measurements = tuple(m.model_copy(update={"blocking": False}) for m in found.measurements)
    message = f"In answers as the source gives them, {found.message[:1].lower()}{found.message[1:]}"
    return check(found.name, measurements, message)


def answers_alone(evidence: Evidence) -> Iterator[Check]:
    """The checks that compare the rows' answers, one when it is asked for: what a deliberate defect must not pass."""
    for judged in (numeric, decisions, metrics, slices):
        yield judged(evidence)
