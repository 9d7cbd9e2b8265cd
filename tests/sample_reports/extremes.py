"""Reports at the edges: hostile text, nothing in them, huge ones, and none with limits."""

from __future__ import annotations

import math

from paritygate.api.report import (
    CheckName,
    Diagnosis,
    Environment,
    Finding,
    Histogram,
    NotJudged,
    OutputSignature,
    ParityReport,
    Plots,
    Scatter,
    Severity,
    Signature,
    TensorSignature,
    WorstRow,
)
from paritygate.api.spec import Datatype
from sample_reports.parts import (
    check,
    measurement,
    report_of,
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
