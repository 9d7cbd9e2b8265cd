"""The evidence summary: at most 2,048 bytes, whatever the report holds."""

from __future__ import annotations

import math
from typing import Final

from paritygate.api.base import Digest
from paritygate.api.digests import canonical_json, digest_of
from paritygate.api.report import Check, EvidenceSummary, ParityReport, SummaryLine
from paritygate.worker.parity.measure import decisive_of

LIMIT: Final = 2048
_NAME: Final = 63


def summary_of(report: ParityReport, stage: Digest) -> EvidenceSummary:
    """The extract of a report that decides. Numbers are dropped before lines, and lines that decide never are."""
    whole = EvidenceSummary(
        stage=stage,
        subject=report.subject,
        report=digest_of(report.to_dict()),
        candidate=report.candidate[:_NAME],
        equivalence=report.equivalence,
        verdict=report.verdict,
        checks=tuple(_line(check) for check in report.checks),
    )
    for shorter in (
        lambda line: line,
        lambda line: line if line.blocking else _bare(line),
        _bare,
    ):
        summary = whole.model_copy(update={"checks": tuple(shorter(line) for line in whole.checks)})
        if size(summary) <= LIMIT:
            return summary
    return whole.model_copy(update={"checks": tuple(_bare(line) for line in whole.checks if line.blocking)})


def size(summary: EvidenceSummary) -> int:
    """Bytes of the summary's canonical JSON."""
    return len(canonical_json(summary.to_dict()))


def _line(check: Check) -> SummaryLine:
    decisive = decisive_of(check.measurements)
    return SummaryLine(
        name=check.name,
        result=check.result,
        blocking=check.blocking,
        measured=_short(decisive.measured) if decisive else None,
        limit=_short(decisive.limit) if decisive else None,
        rows=decisive.rows if decisive else 0,
    )


def _bare(line: SummaryLine) -> SummaryLine:
    return line.model_copy(update={"measured": None, "limit": None})


def _short(value: float | None) -> float | None:
    return value if value is None or not math.isfinite(value) else float(f"{value:.4g}")
