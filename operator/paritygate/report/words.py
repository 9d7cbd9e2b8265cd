"""What verdicts, checks and gaps mean, in plain words, and which number of a check decides it."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from paritygate.api.report import Check, CheckName, Diagnosis, Gap, Measurement, ParityReport, Severity, Verdict
from paritygate.api.spec import Equivalence
from paritygate.core.verdict import result_of_measurement


class CheckText(NamedTuple):
    """A check's name and the question that it asks."""

    title: str
    question: str


class GapText(NamedTuple):
    """A kind of gap and what it means."""

    title: str
    meaning: str


CHECKS: Final = {
    CheckName.CONTRACT: CheckText("Contract", "Same outputs, classes and datatypes, at every batch size?"),
    CheckName.NOISE_FLOOR: CheckText("Noise floor", "How far is the source from itself when asked again?"),
    CheckName.NUMERIC: CheckText("Numeric", "Is every number within tolerance of the source's?"),
    CheckName.INPUT_CONTRACT: CheckText("Input contract", "Does the source answer alike once inputs took the wire?"),
    CheckName.DECISIONS: CheckText("Decisions", "Does any row get another decision?"),
    CheckName.METRICS: CheckText("Metrics", "Is the model as good on labelled rows?"),
    CheckName.SLICES: CheckText("Slices", "Is any group of rows harmed?"),
    CheckName.PROBES: CheckText("Probes", "Are unusual inputs treated alike?"),
    CheckName.VACUITY: CheckText("Vacuity", "Would this data have exposed a broken candidate?"),
}

SYMBOLS: Final = {Verdict.PASSED: "✓", Verdict.FAILED: "✕", Verdict.INCONCLUSIVE: "?", Verdict.ERROR: "!"}

CONSEQUENCES: Final = {
    Verdict.PASSED: "Gate open: exactly these bytes may serve",
    Verdict.FAILED: "Gate closed: this candidate is not served",
    Verdict.INCONCLUSIVE: "Gate closed: the data cannot tell yet",
    Verdict.ERROR: "Gate closed: there is no valid evidence",
}

EQUIVALENCES: Final = {
    Equivalence.NUMERIC: "every number must agree",
    Equivalence.DECISION: "decisions must agree",
    Equivalence.METRIC: "the metric must not drop",
}

GAPS: Final = {
    Gap.INPUT_CAST: GapText(
        "Input cast",
        meaning="The wire's datatype cannot carry these inputs exactly: the source itself answers differently once "
        "its inputs are cast. The conversion is not to blame.",
    ),
    Gap.CONVERTER: GapText(
        "Converter",
        meaning="Source and candidate were given the same inputs and compute different answers: the conversion "
        "changed the computation.",
    ),
    Gap.CANDIDATE: GapText(
        "Candidate",
        meaning="The artefact was made elsewhere, or is not meant to be equal, and it computes different answers from "
        "the same inputs.",
    ),
}

UNATTRIBUTED: Final = GapText(
    "Not attributed", "The difference could not be traced to the inputs or to the conversion."
)


class Mark(NamedTuple):
    """How a result is shown: never by colour alone."""

    symbol: str
    word: str


REPORTED: Final = Mark("·", "Reported")
NOT_JUDGED: Final = Mark("–", "Not judged")

SEVERITIES: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}

_SEVERITY_OF_RESULT: Final = (Verdict.ERROR, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED)


def gap_text(diagnosis: Diagnosis | None) -> GapText:
    """The kind of gap and what it means."""
    return GAPS[diagnosis.gap] if diagnosis and diagnosis.gap else UNATTRIBUTED


def candidate_text(report: ParityReport) -> str:
    """Where the candidate comes from, as a noun."""
    return {"plain": "ParityGate's conversion", "brought": "candidate brought by the user"}.get(
        report.candidate, f"candidate {report.candidate}"
    )


def ratio_to_limit(measurement: Measurement) -> float:
    """The bound that decides, as a multiple of the limit; infinite above a limit of 0; −∞ where nothing is judged."""
    decisive_value = measurement.measured if measurement.upper is None else measurement.upper
    if decisive_value is None or measurement.limit is None:
        return -math.inf
    if math.isnan(decisive_value):
        return math.inf
    if measurement.limit == 0:
        return math.inf if decisive_value > 0 else 0.0
    return decisive_value / measurement.limit


def by_weight(measurements: tuple[Measurement, ...]) -> list[Measurement]:
    """Worst first: blocking before reported, then by result, then by nearness to the limit."""
    return sorted(
        measurements,
        key=lambda m: (not m.blocking, _SEVERITY_OF_RESULT.index(result_of_measurement(m)), -ratio_to_limit(m)),
    )


def decisive(check: Check) -> Measurement | None:
    """The measurement that a check's result hangs on; None = it has none."""
    ordered = by_weight(check.measurements)
    return ordered[0] if ordered else None


def mark_of_measurement(measurement: Measurement) -> Mark:
    """The result of a number; one without a limit is reported, which is not the same as passed."""
    result = result_of_measurement(measurement)
    return REPORTED if result is Verdict.PASSED and measurement.limit is None else Mark(SYMBOLS[result], result)


def mark_of_check(check: Check) -> Mark:
    """The result of a check; one that passed without any limit is only reported, one that had nothing to do neither."""
    if not check.blocking and not check.measurements:
        return NOT_JUDGED
    limitless = bool(check.measurements) and all(m.limit is None for m in check.measurements)
    return REPORTED if check.result is Verdict.PASSED and limitless else Mark(SYMBOLS[check.result], check.result)


def missing(report: ParityReport) -> list[tuple[Check, Measurement]]:
    """Blocking measurements that the data could not settle."""
    return [
        (check, measurement)
        for check in report.checks
        for measurement in check.measurements
        if measurement.blocking and result_of_measurement(measurement) is Verdict.INCONCLUSIVE
    ]


def rows_needed(report: ParityReport) -> int | None:
    """Rows that would settle every open blocking measurement; None = no number of rows is known to."""
    needed = [m.rows_needed for _, m in missing(report) if m.rows_needed is not None]
    return max(needed) if needed else None
