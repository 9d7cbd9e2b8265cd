"""Why a candidate did not pass: where, what kind of gap, and the one thing to try."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import Assessment
from paritygate.api.report import Check, CheckName, Diagnosis, Finding, Gap, Measurement, Verdict
from paritygate.api.spec import Equivalence
from paritygate.core.verdict import result_of_measurement
from paritygate.worker.parity.divergence import Divergence
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.measure import decisive_of
from paritygate.worker.parity.nearest import nearest
from paritygate.worker.parity.slices import parts
from paritygate.worker.parity.symptoms import symptom

Array = npt.NDArray[Any]
Locate = Callable[[Evidence], Divergence | None]
_CONCENTRATED = 2.0
_MIN_DIFFERENT = 5
_ERROR = "largest error / tolerance"
"""The statistic that says nothing of the place."""


def diagnose(  # noqa: PLR0913, PLR0917 - all that is known
    evidence: Evidence,
    checks: tuple[Check, ...],
    assessment: Assessment | None,
    findings: tuple[Finding, ...],
    reproduce: str,
    locate: Locate | None = None,
) -> Diagnosis | None:
    """None = every blocking check passed. `locate`: finds the first step that differs."""
    blocking = [check for check in checks if check.blocking and check.result is not Verdict.PASSED]
    if not blocking:
        return None
    failed = [check for check in blocking if check.result is Verdict.FAILED]
    check = (failed or blocking)[0]
    decisive = decisive_of(check.measurements)
    recognised = symptom(evidence, check.name) if failed else None
    gap = _gap(evidence, checks) if failed else None
    divergence = locate(evidence) if locate is not None else None
    return Diagnosis(
        check=check.name,
        where=_where(evidence, check, decisive, _inside(check, assessment, divergence), recognised),
        gap=gap,
        first_divergence=_first(evidence, divergence) if failed else divergence.sentence if divergence else None,
        reproduce=reproduce,
        try_next=_try_next(evidence, check, decisive, gap, findings),
    )


def _first(evidence: Evidence, divergence: Divergence | None) -> str | None:
    """Where values part first; where no step could be blamed, why not, and which outputs differ."""
    if divergence is not None and divergence.place is not None:
        return divergence.sentence
    outputs = nearest(evidence)
    if outputs is None:
        return divergence.sentence if divergence is not None else None
    why = divergence.sentence if divergence is not None else "no step inside the source was recorded to compare with"
    return f"{why}; {outputs}"


def differing(evidence: Evidence) -> Array:
    """(rows,) bool: rows in which anything lies beyond tolerance."""
    wrong = evidence.unanswered.copy()
    for errors in evidence.errors.values():
        wrong |= ~(errors.ratio <= 1)
    return wrong


def _inside(check: Check, assessment: Assessment | None, divergence: Divergence | None) -> list[str]:
    """The source's class, and the step in it."""
    places = []
    if assessment is not None and assessment.estimators and check.name is not CheckName.INPUT_CONTRACT:
        places.append(assessment.estimators[0].rpartition(".")[2])
    if divergence is not None and divergence.place is not None and divergence.place not in places:
        places.append(divergence.place)
    return places


def _where(
    evidence: Evidence, check: Check, decisive: Measurement | None, inside: list[str], recognised: str | None
) -> str:
    places = [*inside]
    if decisive is not None:
        outputs = {output.name for output in evidence.capture.signature.outputs}
        place = f"output {decisive.subject}" if decisive.subject in outputs else decisive.subject
        told = check.blocking and decisive.statistic != _ERROR
        places.append(f"{place}: {decisive.statistic}" if told else place)
    if recognised is not None:
        places.append(recognised)
    worst = _worst_part(evidence) if recognised is None else None
    if worst is not None:
        places.append(worst)
    return "; ".join(places) or "the whole candidate"


def _worst_part(evidence: Evidence) -> str | None:
    """The slice that holds far more than its share of differing rows."""
    wrong = differing(evidence)
    overall = float(wrong.mean()) if len(wrong) else 0.0
    if not wrong.any() or overall == 1:
        return None
    best = None
    for part in parts(evidence):
        amount = int(wrong[part.rows].sum())
        rate = amount / len(part.rows)
        if amount >= _MIN_DIFFERENT and rate >= _CONCENTRATED * overall and (best is None or rate > best[0]):
            best = (rate, part)
    if best is None:
        return None
    return f"worst in {best[1].name}, where {100 * best[0]:.3g}% of {len(best[1].rows):,} rows differ"


def _gap(evidence: Evidence, checks: tuple[Check, ...]) -> Gap | None:
    """The input's cast where the candidate agrees with the source on the cast input; else who made the artefact."""
    if evidence.cast is not None and any(
        check.name is CheckName.INPUT_CONTRACT and check.result is Verdict.FAILED for check in checks
    ):
        names = {output.name for output in evidence.capture.signature.outputs}
        recast = _against_cast(evidence, names)
        before, after = float(differing(evidence).sum()), float(differing(recast).sum())
        if after <= 0.1 * before:
            return Gap.INPUT_CAST
    brought = evidence.manifest is not None and evidence.manifest.name != "plain"
    return Gap.CANDIDATE if brought or evidence.policy.equivalence is not Equivalence.NUMERIC else Gap.CONVERTER


def _against_cast(evidence: Evidence, names: set[str]) -> Evidence:
    from dataclasses import replace  # noqa: PLC0415 - used only where a cast is to blame

    cast = evidence.cast or {}
    return replace(evidence, reference={name: column for name, column in cast.items() if name in names}, cast=None)


def _try_next(
    evidence: Evidence, check: Check, decisive: Measurement | None, gap: Gap | None, findings: tuple[Finding, ...]
) -> str:
    if check.result is Verdict.INCONCLUSIVE:
        return _for_inconclusive(evidence, check, decisive)
    if gap is Gap.INPUT_CAST:
        return (
            "State source.inputs with a wider datatype, such as FP64, so that clients can send these values exactly; "
            "the conversion itself agrees with the source on the inputs as cast."
        )
    if check.name is CheckName.PROBES:
        return "Add an input guard for this input, or bring dataset rows that cover it."
    if gap is Gap.CANDIDATE and evidence.manifest is not None and evidence.manifest.name == "brought":
        related = next((finding for finding in findings if finding.severity.value != "Info"), None)
        because = f" The finding {related.rule} names a likely cause." if related else ""
        return f"Let ParityGate convert the model itself: remove target.candidate.{because}"
    if check.name is CheckName.CONTRACT:
        return _for_contract(evidence, check)
    related = next((finding for finding in findings if finding.severity.value != "Info"), None)
    if related is not None:
        return f"Read finding {related.rule}: {related.action}"
    if evidence.policy.equivalence is Equivalence.NUMERIC and all(
        m.measured is not None and np.isfinite(m.measured) and m.measured < 100  # noqa: PLR2004 - a matter of precision
        for m in check.measurements
        if m.limit == 1.0
    ):
        return (
            "If errors of this size are acceptable, state validation.numeric.rtol and atol; otherwise convert in a "
            "wider datatype."
        )
    return "Run the reproduce command and compare the worst row step by step; report the model's class with it."


def _for_contract(evidence: Evidence, check: Check) -> str:
    if evidence.refusal or any("batch" in m.statistic and m.measured for m in check.measurements):
        return (
            "Export the candidate in evaluation mode with a dynamic first dimension for every input and output, then "
            "judge it again."
        )
    return "Correct what the contract names, or bring the model itself and let ParityGate convert it."


def _for_inconclusive(evidence: Evidence, check: Check, decisive: Measurement | None) -> str:
    open_ones = [m for m in check.measurements if m.blocking and result_of_measurement(m) is Verdict.INCONCLUSIVE]
    needed = max((m.rows_needed for m in open_ones if m.rows_needed is not None), default=None)
    if check.name is CheckName.NOISE_FLOOR:
        return (
            "State validation.numeric.rtol and atol to say what counts as equal, or make the source deterministic "
            "(evaluation mode, fixed seeds)."
        )
    if needed is not None:
        return (
            f"Judge on at least {needed:,} distinct held-out {evidence.unit_name} instead of {evidence.unit_count:,}."
        )
    if check.name is CheckName.VACUITY:
        return "Bring rows whose answers differ from each other, and more of them."
    reason = decisive.unjudged if decisive is not None else None
    return f"Bring data that can tell: {reason}." if reason else "Bring more held-out rows."
