"""Whether a summary is evidence for exactly what was asked, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.report import EvidenceSummary, Verdict
from paritygate.api.spec import Equivalence
from paritygate.core.observed import Inputs
from paritygate.core.verdict import verdict_of


@dataclass(frozen=True)
class Asked:
    """What a validate stage was to judge, and how."""

    stage: str
    inputs: Inputs
    outputs: dict[StageName, str]
    equivalence: Equivalence


def objection(receipt: Receipt, asked: Asked) -> str | None:
    """Why the receipt's summary is no evidence for what was asked; None = it is.

    Jobs measure and are not trusted to decide: every digest must be the one asked for, and the verdict must be the one
    that follows from the summary's own lines.
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
        ("equivalence", summary.equivalence, asked.equivalence),
    )
    for name, found, wanted in pairs:
        if found != wanted:
            return f"the summary speaks of {name} {found}, and {wanted} was asked for"
    recomputed = verdict_of(summary.checks)
    if recomputed is not summary.verdict:
        return f"the summary says {summary.verdict}, and {recomputed} follows from its checks"
    return None


def decided(summary: EvidenceSummary) -> str:
    """The checks that did not pass, or all that count, in one sentence."""
    wanted = [c for c in summary.checks if c.blocking and c.result is not Verdict.PASSED]
    if not wanted:
        return f"{sum(c.blocking for c in summary.checks)} checks passed for candidate {summary.candidate!r}"
    parts = []
    for check in wanted:
        number = (
            "" if check.measured is None or check.limit is None else f" ({check.measured:g}, limit {check.limit:g})"
        )
        parts.append(f"{check.name} {check.result}{number}")
    return f"candidate {summary.candidate!r}: {'; '.join(parts)}"
