"""Realistic reports: one that passed, one that failed and one that stayed inconclusive."""

from __future__ import annotations

from paritygate.api.report import (
    CheckName,
    Diagnosis,
    Finding,
    Gap,
    NotJudged,
    ParityReport,
    Plots,
    Severity,
    WorstRow,
)
from paritygate.api.spec import Equivalence
from sample_reports.parts import (
    check,
    histogram,
    measurement,
    report_of,
    scatter,
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
