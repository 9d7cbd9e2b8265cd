"""The plain-text rendition: complete, narrow, and harmless to a terminal."""

from __future__ import annotations

from paritygate.api.report import ParityReport, Severity, Verdict
from paritygate.report import text


def squeezed(rendered: str) -> str:
    return " ".join(rendered.split())


def test_every_rendition_says_verdict_and_sentence_first(any_report: ParityReport) -> None:
    lines = text.render(any_report).splitlines()
    assert any_report.verdict.upper() in lines[0]
    assert squeezed(any_report.sentence) in squeezed(text.render(any_report))


def test_a_passed_report_lists_its_checks_and_what_it_would_have_caught(passed: ParityReport) -> None:
    rendered = text.render(passed, report_path=".paritygate/churn/report.html")
    for check in passed.checks:
        assert f"\n  {check.name}" in rendered
    assert "Would have caught" in rendered
    assert "Report  .paritygate/churn/report.html" in rendered
    assert all(len(line) <= text.WIDTH for line in rendered.splitlines())


def test_a_failed_report_says_where_and_what_to_try(failed: ParityReport) -> None:
    rendered = text.render(failed)
    assert failed.diagnosis is not None
    assert failed.diagnosis.reproduce in rendered, "the command must not be broken over lines"
    assert squeezed(failed.diagnosis.try_next) in squeezed(rendered)
    assert squeezed(failed.diagnosis.where) in squeezed(rendered)
    assert "Kind of gap" in rendered
    assert "31.2% (≥ 29.5%)" in rendered


def test_a_failed_report_shows_the_worst_row_and_what_was_found(failed: ParityReport) -> None:
    rendered = squeezed(text.render(failed))
    assert failed.diagnosis is not None
    check = next(check for check in failed.checks if check.name is failed.diagnosis.check)
    row = next(m.worst[0] for m in check.measurements if m.worst)
    assert f"row {row.row:,}: the source answers" in rendered
    for finding in failed.findings:
        assert (finding.why in rendered) == (finding.severity is not Severity.INFO)
    assert any(finding.severity is not Severity.INFO for finding in failed.findings)


def test_a_check_that_had_nothing_to_judge_does_not_look_like_a_doubt(passed: ParityReport) -> None:
    idle = passed.checks[4].model_copy(update={"blocking": False, "measurements": (), "result": Verdict.INCONCLUSIVE})
    rendered = squeezed(text.render(passed.model_copy(update={"checks": (*passed.checks[:4], idle)})))
    assert "– Not judged " in rendered
    assert "? Inconclusive" not in rendered
    assert "(reported) does not decide: equivalence Numeric, every number must agree" in rendered


def test_an_inconclusive_report_says_how_many_rows_it_needs(inconclusive: ParityReport) -> None:
    assert "about 900 rows would settle it" in text.render(inconclusive)


def test_a_report_without_checks_says_that_nothing_was_proved(empty: ParityReport) -> None:
    rendered = text.render(empty)
    assert "No check was carried out." in rendered
    assert "nothing was proved" in rendered


def test_the_caller_can_say_what_comes_next(passed: ParityReport) -> None:
    assert "Next  paritygate run --serve" in text.render(passed, next_step="paritygate run --serve")


def test_control_characters_cannot_steer_a_terminal(passed: ParityReport) -> None:
    evil = passed.model_copy(update={"sentence": "fine\x1b[2J\x07\nreally", "migration": "m\x1b]0;t\x07"})
    rendered = text.render(evil)
    assert "\x1b" not in rendered
    assert "\x07" not in rendered


def test_a_number_without_a_limit_is_reported_and_not_passed(limitless: ParityReport) -> None:
    line = next(line for line in text.render(limitless).splitlines() if line.startswith("  metrics"))
    assert "· Reported" in line
    assert "Passed" not in line
