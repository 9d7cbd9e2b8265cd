"""Reports on disk: what is read, what is refused and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paritygate.api.digests import canonical_json
from paritygate.api.report import ParityReport
from paritygate.errors import UsageError
from paritygate.report import files, html


def test_a_report_is_read_as_it_was_written(any_report: ParityReport, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(canonical_json(any_report.to_dict()))
    assert files.read(path).to_dict() == any_report.to_dict()


def test_the_page_is_written_whole_and_leaves_nothing_beside_it(passed: ParityReport, tmp_path: Path) -> None:
    files.write_page(passed, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html.render(passed)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_raises(passed: ParityReport, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write_page(passed, tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x81", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "holds kind 'list'"),
        (b"{}", "holds kind None"),
        (b'{"kind": "Receipt", "apiVersion": "paritygate.dev/v1alpha1"}', "holds kind 'Receipt'"),
        (b'{"kind": "ParityReport", "apiVersion": "paritygate.dev/v9"}', "reads kind 'ParityReport', apiVersion"),
        (b'{"kind": "ParityReport", "apiVersion": "paritygate.dev/v1alpha1"}', "migration: Field required"),
    ],
)
def test_anything_else_is_refused_with_its_reason(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        files.read(path)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: cannot be read"):
        files.read(tmp_path / "none.json")


def test_a_report_with_a_changed_verdict_word_is_refused(passed: ParityReport, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(passed.to_dict() | {"verdict": "Great"}))
    with pytest.raises(UsageError, match="verdict"):
        files.read(path)
