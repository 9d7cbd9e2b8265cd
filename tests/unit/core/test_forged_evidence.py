"""Summaries that say Passed and prove nothing: none of them may move traffic, and each objection says why."""

import json

import pytest

from paritygate.api.artifacts import StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import CheckName, ParityReport, SummaryLine, Verdict
from paritygate.core import evidence
from paritygate.core.plan import plan

NUMERIC = (CheckName.CONTRACT, CheckName.NUMERIC, CheckName.INPUT_CONTRACT, CheckName.VACUITY)
CRITICAL = {"dataset": {"uri": "d.csv", "label": "y", "slices": [{"column": "c", "critical": True}]}}


def lines(*names, **changes):
    known = {"result": Verdict.PASSED, "blocking": True, "measured": 0.5, "limit": 1.0, "rows": 9}
    return tuple(SummaryLine(name=name, **{**known, **changes}) for name in names)


def objection(world, found):
    """What is said against a receipt with these lines; and nothing may have been planned to serve it."""
    receipts = world.receipts(lines=found)
    planned = plan(world.observed(receipts=receipts, serving=True))
    outputs = {receipt.stage: receipt.output for receipt in receipts if receipt.stage is not StageName.VALIDATE}
    asked = evidence.Asked(receipts[-1].digest, world.inputs, outputs, world.spec.equivalence, world.spec.validation)
    said = evidence.objection(receipts[-1], asked)
    assert (said is None) == bool(planned.actions)
    return said


def test_all_checks_that_must_block_and_pass_are_enough(world):
    assert objection(world, lines(*NUMERIC)) is None


@pytest.mark.parametrize("missing", NUMERIC)
def test_a_pass_without_a_check_that_must_block_is_none(world, missing):
    found = lines(*(name for name in NUMERIC if name is not missing))
    assert f"without a blocking check {missing}" in objection(world, found)


@pytest.mark.parametrize("name", NUMERIC)
def test_a_check_that_is_only_said_not_to_block_is_missed(world, name):
    found = (*lines(*(other for other in NUMERIC if other is not name)), *lines(name, blocking=False))
    assert f"without a blocking check {name}" in objection(world, found)


def test_a_failed_check_that_does_not_block_is_no_reason_to_ignore_it(world):
    found = (*lines(*NUMERIC[1:]), *lines(NUMERIC[0], blocking=False, result=Verdict.FAILED))
    assert objection(world, found) is not None


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rows": 0}, id="on no rows"),
        pytest.param({"measured": 1.5}, id="above its limit"),
        pytest.param({"measured": float("nan")}, id="with a number that is none"),
        pytest.param({"measured": float("inf")}, id="with an infinite number"),
        pytest.param({"limit": float("nan")}, id="under a limit that is none"),
    ],
)
def test_a_line_that_cannot_have_passed_is_none(world, changes):
    found = (*lines(*NUMERIC[:-1]), *lines(NUMERIC[-1], **changes))
    assert "vacuity" in objection(world, found)


def test_a_line_that_comes_twice_is_refused(world):
    assert "two lines" in objection(world, lines(*NUMERIC, CheckName.NUMERIC))


def test_errors_are_never_passed_over(world):
    found = (*lines(*NUMERIC[:-1]), *lines(NUMERIC[-1], result=Verdict.ERROR))
    assert "follows from its checks" in objection(world, found)


@pytest.mark.parametrize(
    ("target", "validation", "names", "missed"),
    [
        ("Decision", {}, ("contract", "vacuity"), "decisions"),
        ("Decision", {"metrics": [{"name": "accuracy", "maxDrop": "0.01"}]}, ("contract", "decisions", "vacuity"),
         "metrics"),
        ("Decision", CRITICAL, ("contract", "decisions", "vacuity"), "slices"),
        ("Metric", {"metrics": [{"name": "accuracy", "maxDrop": "0.01"}]}, ("contract", "numeric", "vacuity"),
         "metrics"),
    ],
)  # fmt: skip
def test_every_equivalence_has_checks_of_its_own(world, target, validation, names, missed):
    stated = {"dataset": {"uri": "d.csv", "label": "y"}, **validation}
    other = type(world)(target={"format": "ONNX", "equivalence": target}, validation=stated)
    assert f"without a blocking check {missed}" in objection(other, lines(*map(CheckName, names)))


def test_evidence_for_a_looser_policy_is_refused(world):
    receipts = world.receipts(subject={"policy": digest_of("looser")})
    planned = plan(world.observed(receipts=receipts, serving=True))
    assert planned.actions == ()
    assert "policy" in next(c.message for c in planned.status.conditions if c.type == "Stalled")


def report(**changes):
    measurement = {"subject": "p", "statistic": "s", "rows": 9, "measured": 0.5, "limit": 1.0, "blocking": True}
    check = {"name": "numeric", "result": "Passed", "blocking": True, "message": "m", "measurements": [measurement]}
    environment = {"python": "3.11.8", "platform": "Linux x86_64", "packages": {}}
    known = {
        "migration": "m", "candidate": "plain", "format": "SKLearn", "framework": "scikit-learn 1.9.0",
        "equivalence": "Numeric", "task": "Generic", "confidence": 0.95, "rows": 9, "verdict": "Passed",
        "sentence": "s", "signature": {"inputs": [], "outputs": []}, "sourceEnvironment": environment,
        "subject": dict.fromkeys(("source", "dataset", "capture", "candidate", "runtime", "policy"), digest_of("x")),
        "candidateEnvironment": environment, "checks": [{**check, **changes}],
    }  # fmt: skip
    return ParityReport.model_validate_json(json.dumps(known))


def said_of(world, found, changes=None):
    made = report(**(changes or {}))
    summary = world.receipts(lines=found)[-1].summary
    return evidence.unfaithful(summary, made, summary.report)


def test_a_summary_that_says_what_its_report_says_is_faithful(world):
    assert said_of(world, lines(CheckName.NUMERIC)) is None


@pytest.mark.parametrize(
    ("found", "changes", "said"),
    [
        pytest.param(lines("numeric", result=Verdict.FAILED), {}, "the same", id="a line of another result"),
        pytest.param(lines("numeric", blocking=False), {}, "the same", id="a line that does not block"),
        pytest.param(lines("contract"), {}, "the same", id="a line of a check that was not made"),
        pytest.param((), {}, "the same", id="no line of a check that blocks"),
        pytest.param(lines("numeric"), {"measurements": []}, "follows", id="a result without numbers"),
    ],
)
def test_a_summary_that_its_report_contradicts_is_not(world, found, changes, said):
    assert said in said_of(world, found, changes)


def test_a_report_of_another_digest_is_another_report(world):
    summary = world.receipts()[-1].summary
    assert "the report is" in evidence.unfaithful(summary, report(), digest_of("other"))
