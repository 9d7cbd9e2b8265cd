"""Schemas: committed as generated, and fulfilled by real documents."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from paritygate.api.digests import canonical_json
from paritygate.api.report import EvidenceSummary, ParityReport, SummaryLine
from paritygate.report import schema

FOLDER = Path(__file__).parents[3] / "docs" / "reference" / "schemas"


@pytest.mark.parametrize("name", sorted(schema.documents()))
def test_the_committed_schema_is_what_the_model_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == schema.documents()[name], "run 'make generate'"


@pytest.mark.parametrize("name", sorted(schema.documents()))
def test_the_schema_is_a_valid_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.documents()[name]))


def test_no_other_schema_lies_in_the_folder() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(schema.documents())


def test_every_report_fulfils_the_schema(any_report: ParityReport) -> None:
    document = json.loads(canonical_json(any_report.to_dict()))
    jsonschema.Draft202012Validator(schema.schema_of(ParityReport)).validate(document)


def test_a_report_with_an_unknown_field_does_not(passed: ParityReport) -> None:
    document = passed.to_dict() | {"verdictOverride": "Passed"}
    with pytest.raises(jsonschema.ValidationError, match="verdictOverride"):
        jsonschema.Draft202012Validator(schema.schema_of(ParityReport)).validate(document)


def test_a_summary_fulfils_the_schema(failed: ParityReport) -> None:
    summary = EvidenceSummary(
        stage=failed.subject.policy,
        subject=failed.subject,
        report=failed.subject.capture,
        candidate=failed.candidate,
        equivalence=failed.equivalence,
        verdict=failed.verdict,
        checks=tuple(SummaryLine(name=c.name, result=c.result, blocking=c.blocking) for c in failed.checks),
    )
    jsonschema.Draft202012Validator(schema.schema_of(EvidenceSummary)).validate(summary.to_dict())


def test_the_command_writes_every_schema(tmp_path: Path) -> None:
    assert schema.main([str(tmp_path / "new")]) == 0
    assert {p.name for p in (tmp_path / "new").iterdir()} == set(schema.documents())


def test_the_command_without_a_folder_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema.main([]) == 64
    assert "usage" in capsys.readouterr().err
