"""What holds for evidence of any shape: equal answers pass, an error beyond τ fails, NaN never passes by accident."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paritygate.api.artifacts import CaptureManifest
from paritygate.api.report import Environment, OutputRole, OutputSignature, Signature, TensorSignature, Verdict
from paritygate.api.spec import Dataset, Datatype, Equivalence, SourceFormat, Task, Validation
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.contract import contract
from paritygate.worker.parity.evidence import Evidence, Policy
from paritygate.worker.parity.judge import answers_alone

DIGEST = "sha256:" + "0" * 64
SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def evidence_of(reference: Any, shape: tuple[int, ...], rows: int) -> Evidence:
    output = OutputSignature(name="out", datatype=Datatype.FP32, shape=shape, role=OutputRole.TENSOR)
    return Evidence(
        capture=CaptureManifest(
            format=SourceFormat.ONNX,
            framework="onnx",
            framework_version="1",
            source=DIGEST,
            dataset=DIGEST,
            rows=rows,
            columns=("x",),
            task=Task.GENERIC,
            signature=Signature(
                inputs=(TensorSignature(name="x", datatype=Datatype.FP64, shape=(-1,)),), outputs=(output,)
            ),
            source_datatypes={"out": "float32"},
            cast_exact=True,
            environment=Environment(python="3", platform="x", packages={}),
            noise=(),
        ),
        policy=Policy(Equivalence.NUMERIC, Validation(dataset=Dataset(uri="x"))),
        inputs={"x": np.arange(rows, dtype=np.float64)},
        reference={"out": reference},
        candidate={"out": reference.copy()},
    )


def verdict(evidence: Evidence) -> Verdict:
    return verdict_of((contract(evidence), *answers_alone(evidence)))


@st.composite
def dense(draw: st.DrawFn) -> Evidence:
    rows = draw(st.integers(1, 40))
    rest = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = 10.0 ** draw(st.integers(-20, 20))
    values = (random.normal(size=(rows, *rest)) * scale).astype(np.float32)
    values[random.random(values.shape) < draw(st.sampled_from([0.0, 0.3]))] = draw(
        st.sampled_from([0.0, np.nan, np.inf, -np.inf])
    )
    return evidence_of(values, (-1, *rest), rows)


@st.composite
def ragged(draw: st.DrawFn) -> Evidence:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=20))
    width = draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    column = np.empty(len(lengths), dtype=object)
    column[:] = [random.normal(size=(length, width)).astype(np.float32) for length in lengths]
    return evidence_of(column, (-1, -1, width), len(lengths))


def changed(evidence: Evidence, position: int, change: Any) -> Evidence | None:
    """The evidence with one finite number of the candidate changed; None = it has none."""
    column = evidence.candidate["out"]
    copy = np.empty(len(column), dtype=object)
    copy[:] = [np.array(row, dtype=np.float64) for row in column]
    places = [
        (row, index) for row, cell in enumerate(copy) for index in np.ndindex(cell.shape) if np.isfinite(cell[index])
    ]
    if not places:
        return None
    row, index = places[position % len(places)]
    copy[row][index] = change(copy[row][index])
    out = copy if column.dtype == object else np.stack([np.asarray(cell) for cell in copy])
    return evidence.with_candidate({"out": out})


@SETTINGS
@given(st.one_of(dense(), ragged()))
def test_equal_answers_pass_unless_there_is_no_number_in_them(evidence: Evidence) -> None:
    column = evidence.reference["out"]
    finite = any(np.isfinite(np.asarray(row)).any() for row in column)
    assert verdict(evidence) is (Verdict.PASSED if finite else Verdict.INCONCLUSIVE)


@SETTINGS
@given(st.one_of(dense(), ragged()), st.integers(0, 10_000), st.sampled_from([-1, 1]))
def test_one_number_off_by_twice_its_tolerance_fails(evidence: Evidence, position: int, sign: int) -> None:
    tolerance = evidence.tolerance(evidence.capture.signature.outputs[0])
    assert tolerance is not None
    largest = float(np.max(tolerance.scale))

    def off(value: float) -> float:
        return value + sign * 2 * (tolerance.atol * largest + tolerance.rtol * max(abs(value), largest))

    broken = changed(evidence, position, off)
    if broken is not None:
        assert verdict(broken) is Verdict.FAILED


@SETTINGS
@given(st.one_of(dense(), ragged()), st.integers(0, 10_000), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_no_number_turns_into_none(evidence: Evidence, position: int, value: float) -> None:
    broken = changed(evidence, position, lambda _: value)
    if broken is not None:
        assert verdict(broken) is Verdict.FAILED
