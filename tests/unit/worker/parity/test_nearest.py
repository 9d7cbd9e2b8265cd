"""What is said of the place of a difference where no step inside the model could be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paritygate.api.report import CheckName, Diagnosis
from paritygate.worker.parity.diagnosis import diagnose
from paritygate.worker.parity.divergence import Divergence
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.judge import judge
from paritygate.worker.parity.nearest import nearest


def off(evidence: Evidence, rows: Any, columns: Any) -> Evidence:
    """The evidence with some probabilities of the candidate wrong."""
    wrong = evidence.candidate["probabilities"].copy()
    wrong[np.ix_(rows, columns)] += np.float32(0.01)
    return replace(evidence, candidate={**evidence.candidate, "probabilities": wrong})


def diagnosis(evidence: Evidence, divergence: Divergence | None) -> Diagnosis | None:
    return diagnose(evidence, judge(evidence), None, (), "paritygate validate m.yaml", lambda _: divergence)


def test_nothing_is_near_where_nothing_differs(classifier: Any) -> None:
    assert nearest(classifier()) is None


def test_the_one_column_that_differs_is_named_with_its_class(classifier: Any) -> None:
    evidence = off(classifier(classes=4), np.arange(20), [2])
    classes = next(one.classes for one in evidence.capture.signature.outputs if one.name == "probabilities")
    said = nearest(evidence) or ""
    assert f"probabilities differs in 20 of 1,000 rows, most in column 2 (class {classes[2]!r}) of 4" in said
    assert "label agrees" in said


def test_differences_all_over_are_counted(classifier: Any) -> None:
    evidence = classifier(classes=4)
    for row in range(40):
        evidence = off(evidence, [row], [row % 4])
    assert "in 4 of its 4 columns" in (nearest(evidence) or "")


def test_a_source_of_one_step_is_told_by_its_outputs(classifier: Any) -> None:
    found = diagnosis(off(classifier(classes=4), np.arange(20), [2]), None)
    assert found is not None
    assert found.check is CheckName.NUMERIC
    assert found.first_divergence is not None
    assert found.first_divergence.startswith("no step inside the source was recorded to compare with; probabilities")


def test_a_step_that_is_known_needs_no_outputs(classifier: Any) -> None:
    known = Divergence("step scale: row 3 differs", "step scale")
    found = diagnosis(off(classifier(classes=4), np.arange(20), [2]), known)
    assert found is not None
    assert found.first_divergence == "step scale: row 3 differs"


def test_why_it_could_not_be_told_stays(classifier: Any) -> None:
    found = diagnosis(off(classifier(classes=4), np.arange(20), [2]), Divergence("it could not be told: too large"))
    assert found is not None
    assert (found.first_divergence or "").startswith("it could not be told: too large; probabilities differs in 20")
