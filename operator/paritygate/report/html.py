"""The report as one self-contained page: no script, no external resource, all text from outside escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined, Template

from paritygate.api.report import Check, Environment, Measurement, ParityReport, Verdict, WorstRow
from paritygate.core.verdict import result_of_measurement
from paritygate.report import numbers, plots, words

MOST_MEASUREMENTS = 200
"""Measurements listed per check; the rest, the least telling, are in report.json."""


def render(report: ParityReport) -> str:
    """The page for `report`, as a whole HTML document."""
    return template().render(_view(report))


@cache
def template() -> Template:
    """The page's template, compiled."""
    return _templates().get_template("report.html.jinja")


def _templates() -> Templates:
    templates = Templates(
        loader=PackageLoader("paritygate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": numbers.number,
        "percent": numbers.percent,
        "answer": numbers.answer,
        "symbol": words.SYMBOLS.__getitem__,
        "bullet": plots.bullet,
        "histogram": plots.error_histogram,
        "scatter": plots.flip_scatter,
        "title": lambda name: words.CHECKS[name].title,
    }
    templates.globals |= {"count": numbers.count, "quantity": numbers.quantity, "bounds": numbers.bounds}
    return templates


def _view(report: ParityReport) -> dict[str, Any]:
    failing = report.diagnosis.check if report.diagnosis else None
    worst = _worst_rows(report) if report.verdict is not Verdict.PASSED else []
    return {
        "report": report,
        "Verdict": Verdict,
        "candidate_text": words.candidate_text(report),
        "consequence": words.CONSEQUENCES[report.verdict],
        "equivalence_text": words.EQUIVALENCES[report.equivalence],
        "gap": words.gap_text(report.diagnosis),
        "missing": words.missing(report),
        "rows_needed": words.rows_needed(report),
        "checks": [_check_view(check, is_open=check.name == failing) for check in report.checks],
        "worst": worst,
        "with_margin": any(line["row"].margin is not None for line in worst),
        "findings": sorted(report.findings, key=lambda finding: words.SEVERITIES[finding.severity]),
        "environments": _environment_rows(report.source_environment, report.candidate_environment),
        "digests": [
            (name, getattr(report.subject, name))
            for name in ("source", "dataset", "capture", "candidate", "runtime", "policy")
        ],
        "rows_over_limit": plots.rows_over_limit,
    }


def _check_view(check: Check, *, is_open: bool) -> dict[str, Any]:
    ordered = words.by_weight(check.measurements)
    return {
        "check": check,
        "mark": words.mark_of_check(check),
        "title": words.CHECKS[check.name].title,
        "question": words.CHECKS[check.name].question,
        "decisive": ordered[0] if ordered else None,
        "measurements": [
            (m, result_of_measurement(m), words.mark_of_measurement(m)) for m in ordered[:MOST_MEASUREMENTS]
        ],
        "left_out": max(0, len(ordered) - MOST_MEASUREMENTS),
        "open": is_open,
    }


def _worst_rows(report: ParityReport) -> list[dict[str, Any]]:
    """The worst rows of the check that the diagnosis names, or else of the first that has any."""
    failing = report.diagnosis.check if report.diagnosis else None
    candidates = sorted(report.checks, key=lambda check: (check.name != failing, check.result is Verdict.PASSED))
    for check in candidates:
        for measurement in words.by_weight(check.measurements):
            if measurement.worst:
                return [_row_view(check, measurement, row) for row in measurement.worst]
    return []


def _row_view(check: Check, measurement: Measurement, row: WorstRow) -> dict[str, Any]:
    reference, candidate = numbers.answers(row.reference, row.candidate)
    return {"check": check, "measurement": measurement, "row": row, "reference": reference, "candidate": candidate}


def _environment_rows(source: Environment, candidate: Environment) -> list[tuple[str, str, str, bool]]:
    """Name, source, candidate, and whether both are known and differ: differences first, then by name."""
    rows = [("Python", source.python, candidate.python), ("Platform", source.platform, candidate.platform)]
    for ours, theirs in ((source.packages, candidate.packages), (source.options, candidate.options)):
        names = sorted({*ours, *theirs}, key=str.lower)
        rows += [(name, ours.get(name, numbers.DASH), theirs.get(name, numbers.DASH)) for name in names]
    rows.append(("Lock or image", source.digest or "given from outside", candidate.digest or "given from outside"))
    return [(name, left, right, left != right and numbers.DASH not in (left, right)) for name, left, right in rows]
