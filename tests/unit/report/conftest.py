"""Realistic reports: one that passed, one that failed, one that stayed inconclusive, and hostile ones."""

from __future__ import annotations

import math
import random

import pytest

from paritygate.api.report import (
    Check,
    CheckName,
    Diagnosis,
    Environment,
    Finding,
    Gap,
    Histogram,
    Measurement,
    NotJudged,
    OutputRole,
    OutputSignature,
    ParityReport,
    Plots,
    Scatter,
    Severity,
    Signature,
    Subject,
    TensorSignature,
    WorstRow,
)
from paritygate.api.spec import Datatype, Equivalence, SourceFormat, Task
from paritygate.core.verdict import result_of_check, verdict_of


def digest(letter: str) -> str:
    return "sha256:" + (letter * 64)[:64]


def check(name: CheckName, message: str, *measurements: Measurement) -> Check:
    return Check(
        name=name,
        result=result_of_check(measurements),
        blocking=any(m.blocking for m in measurements),
        message=message,
        measurements=measurements,
    )


def measurement(
    subject: str, statistic: str, rows: int = 2000, *, blocking: bool = True, **numbers: object
) -> Measurement:
    return Measurement(subject=subject, statistic=statistic, rows=rows, blocking=blocking, **numbers)


SIGNATURE = Signature(
    inputs=(
        TensorSignature(name="age", datatype=Datatype.FP64, shape=(-1, 1)),
        TensorSignature(name="country", datatype=Datatype.BYTES, shape=(-1, 1)),
    ),
    outputs=(
        OutputSignature(name="label", datatype=Datatype.INT64, shape=(-1,), role=OutputRole.LABEL, classes=(0, 1)),
        OutputSignature(
            name="probabilities", datatype=Datatype.FP32, shape=(-1, 2), role=OutputRole.PROBABILITIES, classes=(0, 1)
        ),
    ),
)
SOURCE_ENVIRONMENT = Environment(
    python="3.11.2",
    platform="Linux x86_64",
    packages={"scikit-learn": "1.2.2", "numpy": "1.26.4", "scipy": "1.11.4", "joblib": "1.4.2", "pandas": "2.1.4"},
    digest=digest("4f1a"),
)
CANDIDATE_ENVIRONMENT = Environment(
    python="3.11.2",
    platform="Linux x86_64",
    packages={"onnxruntime": "1.31.1", "numpy": "2.3.4", "paritygate": "0.1.0"},
    digest=digest("9c0d"),
    options={"graph optimisation": "all", "intra-op threads": "1"},
)
SUBJECT = Subject(
    source=digest("a1b2"),
    dataset=digest("c3d4"),
    capture=digest("e5f6"),
    candidate=digest("0719"),
    runtime=digest("2b3c"),
    policy=digest("4d5e"),
)


def report_of(checks: tuple[Check, ...], **fields: object) -> ParityReport:
    values: dict[str, object] = {
        "migration": "churn",
        "candidate": "plain",
        "format": SourceFormat.SKLEARN,
        "framework": "scikit-learn 1.2.2",
        "equivalence": Equivalence.NUMERIC,
        "task": Task.CLASSIFICATION,
        "confidence": 0.95,
        "rows": 2000,
        "verdict": verdict_of(checks),
        "sentence": "A sentence.",
        "subject": SUBJECT,
        "signature": SIGNATURE,
        "source_environment": SOURCE_ENVIRONMENT,
        "candidate_environment": CANDIDATE_ENVIRONMENT,
    }
    return ParityReport(checks=checks, **(values | fields))


def histogram(centre: float, spread: float, *, rows: int = 2000, zeros: int = 0, seed: int = 7) -> Histogram:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    edges = tuple(10 ** (exponent / 4) for exponent in range(-28, 29))
    counts = [0] * (len(edges) - 1)
    for _ in range(rows - zeros):
        exponent = min(max(chance.gauss(centre, spread), -6.9), 6.9)
        counts[int((exponent + 7) * 4)] += 1
    return Histogram(output="probabilities", edges=edges, counts=tuple(counts), zeros=zeros)


def scatter(noise: float, *, rows: int = 1200, seed: int = 11) -> Scatter:
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    reference = tuple(min(max(chance.betavariate(0.7, 1.4), 0.0), 1.0) for _ in range(rows))
    candidate = tuple(
        value if chance.random() > 0.6 else min(max(value + chance.gauss(0, noise), 0.0), 1.0) for value in reference
    )
    return Scatter(
        subject="probabilities[1]",
        reference=reference,
        candidate=candidate,
        flipped=tuple((a >= 0.5) != (b >= 0.5) for a, b in zip(reference, candidate, strict=True)),
        threshold=0.5,
    )


def passed_report() -> ParityReport:
    checks = (
        check(
            CheckName.CONTRACT,
            "Both outputs, their names, shapes and classes agree at batch sizes 1, 2, 3, 7 and 2,000.",
            measurement("all outputs", "broken promises", measured=0, limit=0),
            measurement("batch 1, 2, 3, 7 and 2,000", "largest error / tolerance", measured=0.021, limit=1),
        ),
        check(
            CheckName.NOISE_FLOOR,
            "The source repeats itself to 3.1e-16, far below the tolerance.",
            measurement("probabilities", "p99.9 of repeats / default tolerance", 256, measured=0.0000031, limit=10),
        ),
        check(
            CheckName.NUMERIC,
            "The largest error is 0.0372 of the tolerance, over 2,000 rows.",
            measurement(
                "probabilities",
                "largest error / tolerance",
                measured=0.0372,
                limit=1,
                smallest_damage="a change of 2.1e-6 in one probability of one row",
            ),
            measurement("probabilities as logits", "largest error / tolerance", measured=0.0114, limit=1),
            measurement("label", "rows with another label", measured=0, limit=0),
        ),
        check(
            CheckName.INPUT_CONTRACT,
            "Every input value survives the cast to the wire's datatype.",
            measurement("all inputs", "largest error / tolerance", measured=0, limit=1),
        ),
        check(
            CheckName.DECISIONS,
            "0 of 2,000 rows get another label; with 95% confidence fewer than 0.15% would.",
            measurement(
                "label",
                "flip rate",
                blocking=False,
                measured=0.0,
                lower=0.0,
                upper=0.0015,
                limit=0.01,
                smallest_damage="11 flipped rows in 2,000",
            ),
            measurement("label", "tie rate", blocking=False, measured=0.0, lower=0.0, upper=0.0015, limit=0.02),
        ),
        check(
            CheckName.METRICS,
            "Accuracy 0.853 on both sides; the drop is below 0.0014 with 95% confidence.",
            measurement("accuracy", "drop", blocking=False, measured=0.0, lower=-0.0014, upper=0.0014, limit=0.005),
        ),
        check(
            CheckName.SLICES,
            "None of 6 countries shows harm.",
            *(
                measurement(
                    f"country={name}",
                    "flip rate",
                    rows,
                    blocking=False,
                    measured=0.0,
                    lower=0.0,
                    upper=upper,
                    limit=0.01,
                )
                for name, rows, upper in (("DE", 512, 0.0058), ("FR", 388, 0.0077), ("ES", 351, 0.0085))
            ),
            measurement(
                "country=MT",
                "flip rate",
                21,
                blocking=False,
                measured=0.0,
                lower=0.0,
                upper=0.133,
                limit=0.01,
                unjudged="21 rows; at least 30 are needed",
                rows_needed=473,
            ),
        ),
        check(
            CheckName.PROBES,
            "38 of 38 probes inside the observed domain are answered alike; 4 that the source refuses are refused.",
            measurement("probes inside the domain", "largest error / tolerance", 38, measured=0.0372, limit=1),
        ),
        check(
            CheckName.VACUITY,
            "All 3 damaged copies of the candidate's answers were stopped.",
            measurement("shuffled, shifted, flipped", "damaged copies that passed", 3, measured=0, limit=0),
        ),
    )
    return report_of(
        checks,
        sentence=(
            "All 2,000 rows stay within tolerance: the largest error is 0.0372 of what is allowed, no row gets another "
            "label, and with 95% confidence fewer than 0.15% of future rows would."
        ),
        smallest_damage="a change of 2.1e-6 in one probability of one row, or 11 flipped labels in 2,000 rows",
        not_judged=(
            NotJudged(what="Slice country=MT", why="21 rows; at least 30 are needed"),
            NotJudged(what="3 of 412 tree leaves", why="no row of the dataset or the probes visits them"),
            NotJudged(what="What happens before the model", why="feature code outside the artefact is not in the file"),
        ),
        findings=(
            Finding(
                rule="VERSION-SKEW",
                severity=Severity.INFO,
                message="The model was saved by scikit-learn 1.2.2; the converter runs 1.9.1.",
                why="Estimators read by another version may compute something else without saying so.",
                action="The source's answers were captured in its own environment, so the comparison is sound.",
            ),
        ),
        plots=Plots(errors=(histogram(-2.6, 0.5, zeros=431),), flips=(scatter(0.0),)),
    )


def failed_report() -> ParityReport:
    rows = tuple(
        WorstRow(
            row=row,
            input={
                "age": age,
                "tenure_months": tenure,
                "country": country,
                "plan": plan,
                "monthly_charges": charges,
                "support_calls": calls,
                "contract": "month-to-month",
                "paperless": True,
                "note": None,
                "segment": 14,
            },
            reference={"label": label, "probabilities": [1 - p, p]},
            candidate={"label": 1 - label, "probabilities": [1 - q, q]},
            error=abs(p - q),
            margin=abs(2 * p - 1),
        )
        for row, age, tenure, country, plan, charges, calls, label, p, q in (
            (1713, 41.0, 3, "DE", "prepaid", 79.9, 4, 1, 0.9987214, 0.0031817),
            (208, 29.0, 14, "ES", "prepaid", 61.25, 2, 1, 0.9979552, 0.0044021),
            (966, 57.0, 61, "DE", "family", 102.5, 0, 0, 0.0021114, 0.9920377),
            (45, 33.0, 8, "FR", "prepaid", 45.0, 1, 1, 0.9968003, 0.0102553),
            (1502, 62.0, 2, "IT", "business", 140.75, 7, 0, 0.0030981, 0.9876002),
        )
    )
    checks = (
        check(
            CheckName.CONTRACT,
            "Both outputs, their names, shapes and classes agree at batch sizes 1, 2, 3, 7 and 2,000.",
            measurement("all outputs", "broken promises", measured=0, limit=0),
        ),
        check(
            CheckName.NOISE_FLOOR,
            "The source repeats itself exactly.",
            measurement("probabilities", "p99.9 of repeats / default tolerance", 256, measured=0, limit=10),
        ),
        check(
            CheckName.NUMERIC,
            "1,968 of 2,000 rows lie beyond the tolerance; the worst by 97,600 times the tolerance.",
            measurement(
                "probabilities", "largest error / tolerance", blocking=False, measured=97_600.0, limit=1, worst=rows
            ),
        ),
        check(
            CheckName.INPUT_CONTRACT,
            "Every input value survives the cast to the wire's datatype.",
            measurement("all inputs", "largest error / tolerance", blocking=False, measured=0, limit=1),
        ),
        check(
            CheckName.DECISIONS,
            "624 of 2,000 labels flip (31.2%, at least 29.5% with 95% confidence); 1% is allowed.",
            measurement(
                "label",
                "flip rate",
                measured=0.312,
                lower=0.295,
                upper=0.3295,
                limit=0.01,
                worst=rows,
                message="All 624 flips are away from ties: the source decided each by a margin above tolerance.",
            ),
            measurement("label", "tie rate", measured=0.0, lower=0.0, upper=0.0015, limit=0.02),
        ),
        check(
            CheckName.METRICS,
            "Accuracy falls from 0.997 to 0.687; a drop of 0.005 is allowed.",
            measurement("accuracy", "drop", measured=0.31, lower=0.2894, upper=0.3306, limit=0.005),
        ),
        check(
            CheckName.SLICES,
            "plan=prepaid is harmed most: 71.4% of its 489 labels flip.",
            *(
                measurement(
                    f"plan={name}", "flip rate", n, blocking=False, measured=m, lower=low, upper=high, limit=0.01
                )
                for name, n, m, low, high in (
                    ("family", 517, 0.12, 0.0975, 0.146),
                    ("prepaid", 489, 0.714, 0.678, 0.748),
                    ("business", 494, 0.22, 0.19, 0.253),
                )
            ),
        ),
        check(
            CheckName.PROBES,
            "12 of 46 probes get another answer.",
            measurement(
                "probes inside the domain", "largest error / tolerance", 46, blocking=False, measured=88_100.0, limit=1
            ),
        ),
    )
    return report_of(
        checks,
        migration="churn-hgb",
        candidate="brought",
        equivalence=Equivalence.DECISION,
        framework="scikit-learn 1.9.1",
        sentence=(
            "624 of 2,000 labels differ from the source's: 31.2%, and at least 29.5% with 95% confidence, where 1% is "
            "allowed; accuracy falls from 0.997 to 0.687."
        ),
        smallest_damage="12 flipped labels in 2,000 rows",
        diagnosis=Diagnosis(
            check=CheckName.DECISIONS,
            where="Step HistGradientBoostingClassifier, output label; worst in plan=prepaid (71.4% of 489 rows)",
            gap=Gap.CANDIDATE,
            first_divergence="First split on a categorical feature: node 0 of tree 0 (column plan)",
            reproduce="paritygate validate churn-hgb.yaml --workdir .paritygate --row 1713",
            try_next=(
                "Let ParityGate convert the model itself: remove target.candidate. Its conversion carries category "
                "splits, which the exporter that made this artefact treats as numbers."
            ),
        ),
        not_judged=(NotJudged(what="Vacuity", why="the candidate failed, so nothing remains to be shown"),),
        findings=(
            Finding(
                rule="HGB-CATEGORICAL",
                severity=Severity.ERROR,
                message="The model splits on 2 categorical features: plan, country.",
                why="Exporters in use today write category splits as numeric thresholds, without a warning.",
                action="The brought candidate was judged as it is. ParityGate's conversion handles category splits.",
            ),
            Finding(
                rule="VERSION-SKEW",
                severity=Severity.INFO,
                message="The model was saved by scikit-learn 1.9.0; the converter runs 1.9.1.",
                why="Estimators read by another version may compute something else without saying so.",
                action="The source's answers were captured in its own environment.",
            ),
        ),
        plots=Plots(errors=(histogram(3.1, 1.3, zeros=13),), flips=(scatter(0.5),)),
    )


def inconclusive_report() -> ParityReport:
    checks = (
        check(
            CheckName.CONTRACT,
            "Both outputs, their names, shapes and classes agree.",
            measurement("all outputs", "broken promises", 140, measured=0, limit=0),
        ),
        check(
            CheckName.DECISIONS,
            "0 of 140 labels flip, but up to 2.12% might with 95% confidence; 1% is allowed.",
            measurement(
                "label",
                "flip rate",
                140,
                measured=0.0,
                lower=0.0,
                upper=0.0212,
                limit=0.01,
                rows_needed=473,
                smallest_damage="4 flipped rows in 140",
            ),
            measurement(
                "probability ≥ 0.9",
                "flip rate",
                140,
                measured=0.0,
                lower=0.0,
                upper=0.0212,
                limit=0.01,
                unjudged="only 11 rows lie above the threshold; at least 30 are needed",
                rows_needed=900,
            ),
        ),
    )
    return report_of(
        checks,
        rows=140,
        equivalence=Equivalence.DECISION,
        sentence="140 rows are too few: no label flips, but up to 2.12% might (95% confidence), where 1% is allowed.",
        diagnosis=Diagnosis(
            check=CheckName.DECISIONS,
            where="Output label, probability ≥ 0.9",
            reproduce="paritygate validate churn.yaml",
            try_next="Judge on at least 900 held-out rows, of which 30 or more lie above the threshold 0.9.",
        ),
    )


def hostile_report() -> ParityReport:
    """Numbers that are none, markup in every string that comes from a model or from data, zero rows."""
    markup = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"
    row = WorstRow(
        row=3,
        input={markup: markup, "größe": math.nan, "日本語": math.inf, "empty": ""},
        probe=markup,
        reference={markup: [0.1, math.nan]},
        candidate=[markup],
        error=math.nan,
    )
    checks = (
        check(
            CheckName.NUMERIC,
            markup,
            measurement(
                markup, markup, measured=math.nan, limit=1, worst=(row,), message=markup, smallest_damage=markup
            ),
            measurement("ünïcode ✕", "largest error / tolerance", measured=math.inf, limit=1),
        ),
        check(CheckName.DECISIONS, markup, measurement("label", "flip rate", 0, unjudged=markup)),
    )
    return report_of(
        checks,
        framework=markup,
        sentence=markup,
        smallest_damage=markup,
        diagnosis=Diagnosis(
            check=CheckName.NUMERIC, where=markup, first_divergence=markup, reproduce=markup, try_next=markup
        ),
        findings=(Finding(rule="X", severity=Severity.WARNING, message=markup, why=markup, action=markup),),
        not_judged=(NotJudged(what=markup, why=markup),),
        source_environment=Environment(python=markup, platform=markup, packages={markup: markup}),
        signature=Signature(
            inputs=(TensorSignature(name=markup, datatype=Datatype.BYTES, shape=(-1, 1)),),
            outputs=(OutputSignature(name=markup, datatype=Datatype.INT64, shape=(-1,), classes=(markup,)),),
        ),
        plots=Plots(
            errors=(Histogram(output=markup, edges=(0.0, math.inf), counts=(3,), zeros=0),),
            flips=(
                Scatter(
                    subject=markup,
                    reference=(math.nan, 1.0),
                    candidate=(1.0, math.inf),
                    flipped=(True, False),
                    threshold=math.nan,
                ),
            ),
        ),
    )


def empty_report() -> ParityReport:
    """No check, no row, nothing to draw."""
    return report_of(
        (),
        rows=0,
        sentence="Nothing was measured.",
        plots=Plots(
            errors=(Histogram(output="y", edges=(0.1, 1.0, 10.0), counts=(0, 0), zeros=0),),
            flips=(Scatter(subject="y", reference=(), candidate=(), flipped=()),),
        ),
    )


def huge_report() -> ParityReport:
    """A thousand slices."""
    slices = tuple(
        measurement(
            f"shop={index}", "flip rate", 31 + index, measured=0.0, lower=0.0, upper=0.5 / (index + 1), limit=0.01
        )
        for index in range(1000)
    )
    return report_of((check(CheckName.SLICES, "1,000 shops.", *slices),), sentence="A thousand slices.")


def limitless_report() -> ParityReport:
    """A metric without a stated margin."""
    drop = measurement("accuracy", "drop", blocking=False, measured=0.239, lower=0.222, upper=0.258)
    return report_of((check(CheckName.METRICS, "Accuracy falls by 0.239.", drop),))


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
