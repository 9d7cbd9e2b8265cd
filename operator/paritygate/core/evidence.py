"""Whether a summary is evidence for exactly what was asked, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import CheckName, EvidenceSummary, ParityReport, SummaryLine, Verdict
from paritygate.api.spec import Equivalence, Validation
from paritygate.core.observed import Inputs
from paritygate.core.verdict import result_of_check, verdict_of

_BLOCKING: Final = {
    Equivalence.NUMERIC: (CheckName.CONTRACT, CheckName.NUMERIC, CheckName.INPUT_CONTRACT, CheckName.VACUITY),
    Equivalence.DECISION: (CheckName.CONTRACT, CheckName.DECISIONS, CheckName.VACUITY),
    Equivalence.METRIC: (CheckName.CONTRACT, CheckName.METRICS, CheckName.VACUITY),
}
"""What must have blocked, and passed, for a pass to mean something (DESIGN.md §5)."""


@dataclass(frozen=True)
class Asked:
    """What a validate stage was to judge, and how."""

    stage: str
    inputs: Inputs
    outputs: dict[StageName, str]
    equivalence: Equivalence
    validation: Validation


def policy_digest(equivalence: Equivalence, validation: Validation) -> str:
    """Digest of the parts of the spec that judge: not of where the dataset lies, whose digest the subject holds."""
    stated = validation.to_dict()
    dataset = {key: value for key, value in validation.dataset.to_dict().items() if key not in ("uri", "digest")}
    return digest_of({"equivalence": equivalence.value, "validation": {**stated, "dataset": dataset}})


def objection(receipt: Receipt, asked: Asked) -> str | None:
    """Why the receipt's summary is no evidence for what was asked; None = it is.

    Jobs measure and are not trusted to decide: every digest must be the one asked for, the verdict must be the one
    that follows from the summary's own lines, and a pass must hold a line of every check that has to pass.
    """
    summary = receipt.summary
    if summary is None:
        return "the validate stage ended without an EvidenceSummary"
    subject = summary.subject
    pairs = (
        ("stage", summary.stage, asked.stage),
        ("source", subject.source, asked.inputs.source or subject.source),
        ("dataset", subject.dataset, asked.inputs.dataset),
        ("capture", subject.capture, asked.outputs[StageName.CAPTURE]),
        ("candidate", subject.candidate, asked.outputs[StageName.CONVERT]),
        ("runtime", subject.runtime, asked.inputs.runtime),
        ("policy", subject.policy, policy_digest(asked.equivalence, asked.validation)),
        ("equivalence", summary.equivalence, asked.equivalence),
    )
    for name, found, wanted in pairs:
        if found != wanted:
            return f"the summary speaks of {name} {found}, and {wanted} was asked for"
    recomputed = verdict_of(summary.checks)
    if recomputed is not summary.verdict:
        return f"the summary says {summary.verdict}, and {recomputed} follows from its checks"
    names = [line.name for line in summary.checks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"the summary holds two lines of the check {twice}"
    return _hollow(summary, asked) if summary.verdict is Verdict.PASSED else None


def _hollow(summary: EvidenceSummary, asked: Asked) -> str | None:
    """What a pass lacks; None = nothing."""
    blocking = {line.name: line for line in summary.checks if line.blocking}
    missing = next((name for name in _must_block(asked) if name not in blocking), None)
    if missing is not None:
        return f"the summary says {summary.verdict} without a blocking check {missing}"
    hollow = next((line for line in blocking.values() if not _holds(line)), None)
    if hollow is not None:
        return (
            f"the summary says that the check {hollow.name} {hollow.result}, with {hollow.measured} measured on "
            f"{hollow.rows} rows and {hollow.limit} allowed"
        )
    return None


def _must_block(asked: Asked) -> tuple[CheckName, ...]:
    wanted = _BLOCKING[asked.equivalence]
    if asked.equivalence is not Equivalence.NUMERIC:
        if any(metric.max_drop is not None for metric in asked.validation.metrics):
            wanted = (*wanted, CheckName.METRICS)
        if any(one.critical for one in asked.validation.dataset.slices):
            wanted = (*wanted, CheckName.SLICES)
    return wanted


def _holds(line: SummaryLine) -> bool:
    """Whether a line that passed can have: no check passes on no rows, on no number, or above its limit."""
    if line.rows == 0:
        return False
    if line.measured is None or line.limit is None:
        return True
    return math.isfinite(line.measured) and line.measured <= line.limit


def unfaithful(summary: EvidenceSummary, report: ParityReport, digest: str) -> str | None:
    """Why a summary is not borne out by its report, whose content has `digest`; None = it is."""
    if summary.report != digest:
        return f"the summary speaks of report {summary.report}, and the report is {digest}"
    for check in report.checks:
        follows = result_of_check(check.measurements)
        if check.result is not follows:
            return f"the report says {check.result} of the check {check.name}, and {follows} follows from its numbers"
    lines = {line.name: (line.result, line.blocking) for line in summary.checks}
    checks = {check.name: (check.result, check.blocking) for check in report.checks}
    odd = next((name for name in lines if lines[name] != checks.get(name)), None)
    odd = odd or next((name for name, (_, blocking) in checks.items() if blocking and name not in lines), None)
    return f"the summary and the report do not say the same of the check {odd}" if odd is not None else None


def decided(summary: EvidenceSummary) -> str:
    """The checks that did not pass, or all that count, in one sentence."""
    wanted = [c for c in summary.checks if c.blocking and c.result is not Verdict.PASSED]
    if not wanted:
        return f"{sum(c.blocking for c in summary.checks)} checks passed for candidate {summary.candidate!r}"
    return f"candidate {summary.candidate!r}: {'; '.join(map(_in_words, wanted))}"


def _in_words(check: SummaryLine) -> str:
    if check.measured is None or check.limit is None:
        return f"{check.name} {check.result} on {check.rows} rows"
    measured = f"{check.measured:g} measured on {check.rows} rows, at most {check.limit:g} allowed"
    return f"{check.name} {check.result}: {measured}"
