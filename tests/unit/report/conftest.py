"""Realistic reports: one that passed, one that failed, one that stayed inconclusive, and hostile ones."""

from __future__ import annotations

import pytest

from paritygate.api.report import (
    ParityReport,
)
from sample_reports.extremes import empty_report, hostile_report, huge_report, limitless_report
from sample_reports.verdicts import failed_report, inconclusive_report, passed_report

REPORTS = {
    "passed": passed_report,
    "failed": failed_report,
    "inconclusive": inconclusive_report,
    "hostile": hostile_report,
    "empty": empty_report,
    "huge": huge_report,
    "limitless": limitless_report,
}


@pytest.fixture
def passed() -> ParityReport:
    return passed_report()


@pytest.fixture
def failed() -> ParityReport:
    return failed_report()


@pytest.fixture
def inconclusive() -> ParityReport:
    return inconclusive_report()


@pytest.fixture
def hostile() -> ParityReport:
    return hostile_report()


@pytest.fixture
def empty() -> ParityReport:
    return empty_report()


@pytest.fixture
def huge() -> ParityReport:
    return huge_report()


@pytest.fixture
def limitless() -> ParityReport:
    return limitless_report()


@pytest.fixture(params=sorted(REPORTS))
def any_report(request: pytest.FixtureRequest) -> ParityReport:
    return REPORTS[request.param]()
