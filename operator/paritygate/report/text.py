"""The verdict in plain text, for terminals and logs: no colour, no markup, 80 columns wherever the numbers allow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from paritygate.api.report import Check, ParityReport, Severity, Verdict
from paritygate.report import numbers, words

WIDTH = 80
_NARROWEST = 48
_MOST_NOT_JUDGED = 3
_LONGEST_ROW = 160


def render(
    report: ParityReport, *, report_path: str | None = None, next_step: str | None = None, width: int = WIDTH
) -> str:
    """What `paritygate run` prints at the end: verdict, sentence, checks, where the report is, what to do next.

    Args:
        report: The evidence.
        report_path: Where a person finds the page; None = it was not written.
        next_step: One line that replaces the advice that follows from the report itself.
        width: Columns to wrap sentences to; tables and commands are never wrapped.
    """
    head = (
        f"{words.SYMBOLS[report.verdict]} {report.verdict.upper()}  {report.migration} ({words.candidate_text(report)})"
    )
    width = max(width, _NARROWEST)
    blocks = [printable(head), paragraph(report.sentence, width=width)]
    blocks.append(_checks(report, width) if report.checks else "  No check was carried out.")
    if report.verdict is not Verdict.PASSED:
        blocks.append(_trouble(report, width))
    blocks.append(_scope(report, width))
    ending = [("Report", report_path)] if report_path else []
    advice = next_step or (report.diagnosis.try_next if report.diagnosis else None)
    if advice:
        ending.append(("Next", advice))
    blocks.append(labelled(ending, width=width))
    return "\n\n".join(block for block in blocks if block) + "\n"


def paragraph(text: str, indent: str = "  ", width: int = WIDTH) -> str:
    """`text` wrapped to the width, control characters removed."""
    return textwrap.fill(
        printable(text), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def labelled(entries: Iterable[tuple[str, str]], indent: str = "  ", width: int = WIDTH) -> str:
    """Name and text in two columns; commands and paths are never broken."""
    listed = list(entries)
    column = max((len(name) for name, _ in listed), default=0) + 2
    lines = [
        textwrap.fill(
            printable(text) or numbers.DASH,
            width,
            initial_indent=indent + name.ljust(column),
            subsequent_indent=indent + " " * column,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name, text in listed
    ]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns as wide as their widest cell; those in `right` are aligned to the right."""
    cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(f"  {line}" for line in lines)


def printable(text: str) -> str:
    """`text` on one line without control characters, so that model and data strings cannot steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _checks(report: ParityReport, width: int) -> str:
    rows = [_check_row(c) for c in report.checks]
    listed = table(("check", "result", "measured", "limit", "rows"), rows, frozenset({2, 3, 4}))
    if all(check.blocking for check in report.checks):
        return listed
    said = f"(reported) does not decide: equivalence {report.equivalence}, {words.EQUIVALENCES[report.equivalence]}"
    return f"{listed}\n\n{paragraph(said, width=width)}"


def _check_row(check: Check) -> tuple[str, str, str, str, str]:
    measurement = words.decisive(check)
    mark = words.mark_of_check(check)
    suffix = "" if check.blocking or mark in {words.REPORTED, words.NOT_JUDGED} else " (reported)"
    result = f"{mark.symbol} {mark.word}{suffix}"
    if measurement is None:
        return check.name, result, numbers.DASH, numbers.DASH, "0"
    measured = numbers.quantity(measurement, measurement.measured)
    if measurement.lower is not None and measurement.upper is not None:
        beyond = measurement.limit is not None and measurement.lower > measurement.limit
        bound, sign = (measurement.lower, "≥") if beyond else (measurement.upper, "≤")
        measured += f" ({sign} {numbers.quantity(measurement, bound)})"
    limit = numbers.quantity(measurement, measurement.limit)
    return check.name, result, measured, limit, f"{measurement.rows:,}"


def _trouble(report: ParityReport, width: int) -> str:
    entries: list[tuple[str, str]] = []
    if report.diagnosis:
        entries.append(("Check", words.CHECKS[report.diagnosis.check].title))
        entries.append(("Where", report.diagnosis.where))
        worst = _worst_row(report) if report.verdict is Verdict.FAILED else None
        entries += [("Worst", worst)] if worst else []
        if report.diagnosis.first_divergence:
            entries.append(("Differs first at", report.diagnosis.first_divergence))
        if report.diagnosis.gap:
            entries.append(("Kind of gap", ": ".join(words.GAPS[report.diagnosis.gap])))
    entries += [
        (finding.rule, f"{finding.message}. {finding.why}")
        for finding in report.findings
        if finding.severity is not Severity.INFO
    ]
    entries += [("Missing", _missing_line(report))] if report.verdict is Verdict.INCONCLUSIVE else []
    again = f"  See it again\n      {printable(report.diagnosis.reproduce)}" if report.diagnosis else ""
    return "\n\n".join(part for part in (labelled(entries, width=width), again) if part)


def _worst_row(report: ParityReport) -> str | None:
    """The worst row of the failing check with both answers; None = it has none to show."""
    failing = report.diagnosis.check if report.diagnosis else None
    measurements = [m for c in report.checks if c.name == failing for m in words.by_weight(c.measurements) if m.worst]
    if not measurements:
        return None
    row = measurements[0].worst[0]
    reference, candidate = numbers.answers(row.reference, row.candidate)
    where = f"probe {row.probe}" if row.probe else f"row {row.row:,}"
    parts = [textwrap.shorten(part, _LONGEST_ROW, placeholder=" …") for part in (reference, candidate)]
    return f"{where}: the source answers {parts[0]}, the candidate {parts[1]}"


def _missing_line(report: ParityReport) -> str:
    needed = words.rows_needed(report)
    if needed:
        return f"about {numbers.count(needed, 'row')} would settle it with 80% power; this run had {report.rows:,}"
    reasons = [m.unjudged or m.message or "no row" for _, m in words.missing(report)]
    return reasons[0] if reasons else "no check was able to block, so nothing was proved"


def _scope(report: ParityReport, width: int) -> str:
    entries: list[tuple[str, str]] = []
    if report.smallest_damage and report.verdict is not Verdict.FAILED:
        entries.append(("Would have caught", report.smallest_damage))
    listed = [f"{item.what} ({item.why})" for item in report.not_judged[:_MOST_NOT_JUDGED]]
    if len(report.not_judged) > _MOST_NOT_JUDGED:
        listed.append(f"{len(report.not_judged) - _MOST_NOT_JUDGED} more in the report")
    if listed:
        entries.append(("Not judged", "; ".join(listed)))
    return labelled(entries, width=width)
