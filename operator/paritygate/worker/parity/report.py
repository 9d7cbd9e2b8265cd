"""Puts the report together: the verdict, its sentence, and everything that a person or a machine asks next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paritygate.api.artifacts import Assessment, CaptureManifest
from paritygate.api.report import (
    Check,
    CheckName,
    Environment,
    Finding,
    Measurement,
    ParityReport,
    Severity,
    Subject,
    Verdict,
)
from paritygate.core.verdict import result_of_measurement, verdict_of
from paritygate.worker.findings import VERSION_DIFFERS
from paritygate.worker.parity.diagnosis import Locate, diagnose
from paritygate.worker.parity.evidence import Evidence, count_units
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.judge import judge
from paritygate.worker.parity.measure import at_most, count, decisive_of, number, percent, sentence
from paritygate.worker.parity.plots import plots
from paritygate.worker.parity.statistics import clopper_pearson
from paritygate.worker.parity.unjudged import not_judged

_MOST_DAMAGES = 3


@dataclass(frozen=True)
class Circumstances:
    """What a report states beside the evidence."""

    migration: str
    subject: Subject
    candidate_environment: Environment
    reproduce: str
    assessment: Assessment | None = None
    candidate: str = "plain"
    locate: Locate | None = None
    """Finds the first step that differs, where the candidate does not pass; None = it is not looked for."""


def report_of(evidence: Evidence, circumstances: Circumstances) -> ParityReport:
    """Judges the evidence and reports it. Equal evidence gives equal bytes."""
    checks = judge(evidence)
    verdict = verdict_of(checks)
    capture = evidence.capture
    findings = _findings(evidence, circumstances.assessment)
    return ParityReport(
        migration=circumstances.migration,
        candidate=circumstances.candidate,
        format=capture.format,
        framework=f"{capture.framework} {capture.framework_version}",
        equivalence=evidence.policy.equivalence,
        task=capture.task,
        confidence=evidence.policy.confidence,
        rows=evidence.rows,
        verdict=verdict,
        sentence=_sentence(evidence, checks, verdict),
        subject=circumstances.subject,
        signature=capture.signature,
        source_environment=capture.environment,
        candidate_environment=circumstances.candidate_environment,
        checks=checks,
        smallest_damage=_smallest_damage(checks),
        diagnosis=diagnose(
            evidence, checks, circumstances.assessment, findings, circumstances.reproduce, circumstances.locate
        ),
        findings=findings,
        not_judged=not_judged(evidence, checks),
        plots=plots(evidence),
    )


def _findings(evidence: Evidence, assessment: Assessment | None) -> tuple[Finding, ...]:
    later = [*evidence.capture.findings, *(evidence.manifest.findings if evidence.manifest else ())]
    # A rule that matched again on the loaded model says it there, with what Assess could not know.
    again = {finding.rule for finding in later}
    found = [*(one for one in (assessment.findings if assessment else ()) if one.rule not in again), *later]
    if assessment and not any(finding.rule == VERSION_DIFFERS.identifier for finding in found):
        found.extend(_other_version(assessment, evidence.capture))
    noisy = [
        output.name
        for output in evidence.capture.signature.outputs
        if (tolerance := evidence.tolerance(output)) is not None and tolerance.noisy
    ]
    if noisy and not any(finding.rule == "NOISY-SOURCE" for finding in found):
        found.append(
            Finding(
                rule="NOISY-SOURCE",
                severity=Severity.WARNING,
                message=f"The source answers {', '.join(noisy)} differently when it is asked the same rows again.",
                why="A candidate cannot be closer to the source than the source is to itself; a tolerance widened to "
                "the noise would hide real differences.",
                action="The tolerance is not widened, and the verdict is Inconclusive. State validation.numeric to say "
                "what counts as equal, or make the source deterministic.",
            )
        )
    unique: dict[tuple[str, str], Finding] = {}
    for finding in found:
        unique.setdefault((finding.rule, finding.message), finding)
    return tuple(unique.values())


def _other_version(assessment: Assessment, capture: CaptureManifest) -> Iterator[Finding]:
    """Where the source has an environment of its own, what answered there is only known once it did."""
    written, answered = assessment.framework_version, capture.framework_version
    if written and assessment.framework == capture.framework and written.split(".")[:2] != answered.split(".")[:2]:
        name = capture.framework
        yield VERSION_DIFFERS.found(f"written by {name} {written}; {name} {answered} recorded its answers")


def _sentence(evidence: Evidence, checks: tuple[Check, ...], verdict: Verdict) -> str:
    if verdict is not Verdict.PASSED:
        blocking = [check for check in checks if check.blocking and check.result is verdict]
        return _undecided(evidence, blocking[0]) if blocking else "Nothing was measured."
    parts = []
    ratios = [m for m in _measurements(checks, CheckName.NUMERIC) if m.limit == 1.0 and m.measured is not None]
    numeric = next(check for check in checks if check.name is CheckName.NUMERIC)
    if ratios and numeric.result is Verdict.PASSED:
        worst = max(m.measured or 0.0 for m in ratios)
        parts.append(
            f"all {evidence.rows:,} rows stay within tolerance: the largest error is {number(worst)} of what is allowed"
        )
    parts += _flips(evidence)
    parts += [
        f"{m.subject} is worse by at most {number(at_most(m.upper or 0.0))} where {number(m.limit)} is allowed"
        for m in _measurements(checks, CheckName.METRICS)
        if m.blocking
    ]
    text = "; ".join(parts) or f"all {evidence.rows:,} rows are answered alike"
    return text[0].upper() + text[1:] + "."


def _flips(evidence: Evidence) -> list[str]:
    """What became of the rows' decisions, all of them together; of the first where there is one."""
    judged = [decision for decision in decisions_of(evidence) if decision.sides is not None]
    if not judged:
        return []
    flipped = np.logical_or.reduce([decision.real for decision in judged])
    tied = np.logical_or.reduce([decision.ties for decision in judged]) & ~flipped
    bounds = clopper_pearson(count_units(evidence.units[flipped]), evidence.unit_count, evidence.policy.alpha)
    amount = int(flipped.sum())
    text = "no row gets" if not amount else f"{amount:,} of {evidence.rows:,} rows get"
    text += (
        f" another {judged[0].subject}" if len(judged) == 1 else f" another answer to one of {len(judged)} decisions"
    )
    if tied.any():
        text += f", {count(int(tied.sum()), 'ties')} apart"
    confidence = f"{100 * evidence.policy.confidence:g}% confidence"
    return [f"{text}, and with {confidence} fewer than {percent(at_most(bounds.upper))} of future rows would"]


def _undecided(evidence: Evidence, check: Check) -> str:
    decisive = decisive_of(check.measurements)
    if check.result is Verdict.FAILED or decisive is None:
        return check.message
    needed = max(
        (
            m.rows_needed
            for m in check.measurements
            if m.blocking and m.rows_needed and result_of_measurement(m) is Verdict.INCONCLUSIVE
        ),
        default=None,
    )  # fmt: skip
    said = check.message if check.name is CheckName.VACUITY else sentence(decisive)
    start = f"{count(evidence.unit_count, f'distinct {evidence.unit_name}')} cannot tell. {said}"
    return start + (f" About {needed:,} are needed." if needed else "")


def _measurements(checks: tuple[Check, ...], name: CheckName) -> list[Measurement]:
    return [m for check in checks if check.name is name for m in check.measurements]


def _smallest_damage(checks: tuple[Check, ...]) -> str | None:
    order = (CheckName.NUMERIC, CheckName.DECISIONS, CheckName.METRICS, CheckName.SLICES, CheckName.CONTRACT)
    clauses = [
        m.smallest_damage
        for name in order
        for m in _measurements(checks, name)
        if m.blocking and m.smallest_damage is not None
    ]
    unique = list(dict.fromkeys(clauses))[:_MOST_DAMAGES]
    return ", or ".join(unique) if unique else None
