"""Ends of runs."""

from __future__ import annotations

import pytest

from paritygate.api.report import CheckName, Diagnosis, Verdict
from paritygate.local.events import RunFinished
from sample_reports.parts import report_of


@pytest.fixture
def failed_with_long_command() -> RunFinished:
    diagnosis = Diagnosis(
        check=CheckName.NUMERIC,
        where="output y",
        reproduce="paritygate validate a-rather-long-manifest-name.yaml --workdir .paritygate --row 1713 --verbose",
        try_next="Ask.",
    )
    return RunFinished(Verdict.FAILED, report_of((), verdict=Verdict.FAILED, diagnosis=diagnosis))
