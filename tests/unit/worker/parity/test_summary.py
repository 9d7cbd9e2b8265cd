"""Reports repeat themselves to the byte, and their summaries stay within 2,048 bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import Assessment
from paritygate.api.digests import canonical_json, digest_of
from paritygate.api.report import Check, CheckName, Environment, Finding, Measurement, Severity, Subject, Verdict
from paritygate.api.spec import Equivalence, SourceFormat
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.report import Circumstances, report_of
from paritygate.worker.parity.summary import LIMIT, size, summary_of

DIGEST = "sha256:" + "f" * 64


@pytest.fixture
def circumstances() -> Circumstances:
    return Circumstances(
        migration="m" * 40,
        subject=Subject(source=DIGEST, dataset=DIGEST, capture=DIGEST, candidate=DIGEST, runtime=DIGEST, policy=DIGEST),
        candidate_environment=Environment(python="3.11.8", platform="Linux x86_64", packages={}),
        reproduce="paritygate validate m",
    )


def test_equal_evidence_gives_equal_bytes(classifier: Any, circumstances: Circumstances) -> None:
    one, other = (report_of(classifier(labelled=True), circumstances) for _ in range(2))
    assert canonical_json(one.to_dict()) == canonical_json(other.to_dict())


def test_a_passed_report_says_so_with_numbers(classifier: Any, circumstances: Circumstances) -> None:
    report = report_of(classifier(), circumstances)
    assert report.verdict is Verdict.PASSED
    assert report.sentence.startswith("All 1,000 rows stay within tolerance")
    assert "0.3%" in report.sentence
    assert report.smallest_damage
    assert report.diagnosis is None


def test_a_failed_report_names_the_defect(classifier: Any, circumstances: Circumstances) -> None:
    evidence = classifier(classes=3)
    order = [2, 0, 1]
    swapped = {**evidence.candidate, "probabilities": evidence.candidate["probabilities"][:, order]}
    report = report_of(evidence.with_candidate(swapped), circumstances)
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis is not None
    assert "another order" in report.diagnosis.where


def test_worst_rows_hold_input_answers_and_margin(classifier: Any, circumstances: Circumstances) -> None:
    evidence = classifier()
    label = evidence.candidate["label"].copy()
    label[40] = 1 - label[40]
    report = report_of(evidence.with_candidate({**evidence.candidate, "label": label}), circumstances)
    numeric = next(check for check in report.checks if check.name is CheckName.NUMERIC)
    worst = next(m for m in numeric.measurements if m.subject == "label").worst[0]
    assert worst.row == 40
    assert set(worst.input) == {"a", "b", "c", "d"}
    assert worst.margin == pytest.approx(abs(float(np.diff(evidence.reference["probabilities"][40])[0])))


def test_numbers_that_json_lacks_are_words(classifier: Any, circumstances: Circumstances) -> None:
    evidence = classifier()
    probabilities = evidence.candidate["probabilities"].copy()
    probabilities[0] = np.nan
    broken = evidence.with_candidate({**evidence.candidate, "probabilities": probabilities})
    report = report_of(broken, circumstances)
    text = canonical_json(report.to_dict())
    assert b'"NaN"' in text
    assert type(report).model_validate_json(text).to_dict() == report.to_dict()


def test_the_summary_is_bound_to_the_report(classifier: Any, circumstances: Circumstances) -> None:
    report = report_of(classifier(), circumstances)
    summary = summary_of(report, DIGEST)
    assert summary.report == digest_of(report.to_dict())
    assert verdict_of(summary.checks) is report.verdict


def test_the_longest_summary_stays_within_its_limit(classifier: Any, circumstances: Circumstances) -> None:
    report = report_of(classifier(), circumstances)
    long = Measurement(
        subject="s" * 500, statistic="t", rows=10**15, measured=-1.2345678901234567e-300, limit=1.2345678901234567e-300,
        blocking=True, unjudged="u",
    )  # fmt: skip
    checks = tuple(
        Check(name=name, result=Verdict.INCONCLUSIVE, blocking=True, message="m", measurements=(long,))
        for name in CheckName
    )
    worst = report.model_copy(
        update={
            "checks": checks, "candidate": "c" * 500, "verdict": Verdict.INCONCLUSIVE,
            "equivalence": Equivalence.DECISION,
        }
    )  # fmt: skip
    summary = summary_of(worst, DIGEST)
    assert size(summary) <= LIMIT
    assert len(summary.checks) == len(CheckName)
    assert verdict_of(summary.checks) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("written", "differs"), [("1.2.2", True), ("1.9.4", False), (None, False)])
def test_answers_of_another_version_than_wrote_the_model_are_a_finding(
    classifier: Any, circumstances: Circumstances, written: str | None, *, differs: bool
) -> None:
    assessment = Assessment(
        format=SourceFormat.SKLEARN, framework="scikit-learn", framework_version=written, digest=DIGEST, size=1
    )
    report = report_of(classifier(), replace(circumstances, assessment=assessment))
    said = [finding.message for finding in report.findings if finding.rule == "VERSION-DIFFERS"]
    assert said == (["written by scikit-learn 1.2.2; scikit-learn 1.9.0 recorded its answers"] if differs else [])


def test_what_the_conversion_finds_again_is_said_once(classifier: Any, circumstances: Circumstances) -> None:
    def found(rule: str, message: str) -> Finding:
        return Finding(rule=rule, severity=Severity.INFO, message=message, why="w", action="a")

    assessment = Assessment(
        format=SourceFormat.SKLEARN, framework="scikit-learn", digest=DIGEST, size=1,
        findings=(found("TEXT-TOKENIZER", "CountVectorizer"), found("CUSTOM-CODE", "mine.py")),
    )  # fmt: skip
    evidence = classifier(capture={"findings": (found("TEXT-TOKENIZER", "step words"), found("OTHER", "step x"))})
    report = report_of(evidence, replace(circumstances, assessment=assessment))
    assert [finding.message for finding in report.findings] == ["mine.py", "step words", "step x"]
