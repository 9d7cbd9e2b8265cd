"""Any ensemble, at any value, answers in ONNX as a few lines of Python answer: to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritygate.api.spec import Datatype
from paritygate.worker.targets.onnx_graph import GraphBuilder
from paritygate.worker.targets.onnx_trees import (
    NO_SET,
    Ensemble,
    NearZero,
    Tree,
    add_ensemble,
    add_logistic,
    single_leaf,
)

FEATURES, SETS = 3, ((0, frozenset({0, 2})), (1, frozenset({1, 40, 300})), (1, frozenset({0})), (0, frozenset()))
SPECIAL = [math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-36, 0.5, 0.1, -1.0, -0.5, 1.9, 2.0, 40.0,
           300.0, 301.0, 1e300, -1e300]  # fmt: skip
THRESHOLDS = [0.0, 0.1, 0.5, 1.0, -1.0, 1e-36, math.inf, -math.inf, 40.0]
LEAVES = st.floats(-1e3, 1e3, allow_nan=False, width=32)


def interpreted(ensemble: Ensemble, row: Any) -> Any:
    """The sums of one row, (targets,): the description carried out literally."""
    row = [math.nan if ensemble.missing is not None and value == ensemble.missing else float(value) for value in row]
    if ensemble.near_zero is not None:
        near = ensemble.near_zero
        row = [
            float(near.replacement[position]) if abs(value) <= near.bound else value
            for position, value in enumerate(row)
        ]
    sums = ensemble.base.astype(ensemble.dtype)
    for tree in ensemble.trees:
        leaf = tree.value[walked(ensemble, tree, row)].astype(ensemble.dtype)
        if tree.value.shape[1] == 1:
            sums[tree.target] += leaf[0]
        else:
            sums += leaf
    return sums / ensemble.dtype(ensemble.divisor) if ensemble.divisor != 1.0 else sums


def walked(ensemble: Ensemble, tree: Tree, row: list[float]) -> int:
    node = 0
    while tree.left[node] >= 0:
        value, position = row[tree.feature[node]], tree.category_set[node]
        if position != NO_SET:
            owner, members = ensemble.category_sets[position]
            value = row[owner]
            lies_in = value >= ensemble.lowest_category and math.isfinite(value) and math.trunc(value) in members
        else:
            threshold = float(tree.threshold[node])
            lies_in = value < threshold if ensemble.comparison == "<" else value <= threshold
        goes_left = bool(tree.missing_left[node]) if math.isnan(value) else lies_in
        node = int(tree.left[node] if goes_left else tree.right[node])
    return node


@st.composite
def trees(draw: st.DrawFn, width: int, targets: int) -> Tree:
    """A tree of random shape whose nodes are numbered in the order in which they were split."""
    left, right, feature, threshold, missing, sets = [-1], [-1], [0], [0.0], [False], [NO_SET]
    for _ in range(draw(st.integers(0, 6))):
        node = draw(st.sampled_from([index for index, child in enumerate(left) if child < 0]))
        position = draw(st.sampled_from([NO_SET, NO_SET, *range(len(SETS))]))
        left[node], right[node] = len(left), len(left) + 1
        feature[node] = SETS[position][0] if position != NO_SET else draw(st.integers(0, FEATURES - 1))
        threshold[node], missing[node], sets[node] = draw(st.sampled_from(THRESHOLDS)), draw(st.booleans()), position
        for column, empty in (
            (left, -1),
            (right, -1),
            (feature, 0),
            (threshold, 0.0),
            (missing, False),
            (sets, NO_SET),
        ):
            column.extend([empty, empty])  # type: ignore[attr-defined]
    values = draw(st.lists(LEAVES, min_size=width * len(left), max_size=width * len(left)))
    return Tree(
        feature=np.asarray(feature, np.int64), threshold=np.asarray(threshold), left=np.asarray(left, np.int64),
        right=np.asarray(right, np.int64), missing_left=np.asarray(missing, bool),
        value=np.asarray(values).reshape(len(left), width), category_set=np.asarray(sets, np.int64),
        target=draw(st.integers(0, targets - 1)),
    )  # fmt: skip


@st.composite
def ensembles(draw: st.DrawFn) -> Ensemble:
    targets = draw(st.integers(1, 3))
    width = draw(st.sampled_from([1, targets]))
    near = NearZero(1e-35, np.asarray([0.0, math.nan, 0.0])) if draw(st.booleans()) else None
    return Ensemble(
        trees=tuple(draw(st.lists(trees(width, targets), min_size=1, max_size=5))),
        features=FEATURES,
        targets=targets,
        base=np.asarray(draw(st.lists(LEAVES, min_size=targets, max_size=targets))),
        comparison=draw(st.sampled_from(["<=", "<"])),
        dtype=draw(st.sampled_from([np.float32, np.float64])),
        divisor=draw(st.sampled_from([1.0, 3.0])),
        category_sets=SETS,
        lowest_category=draw(st.sampled_from([0.0, float(np.nextafter(-1.0, 0.0))])),
        near_zero=near,
        missing=draw(st.sampled_from([None, 2.0])),
    )


def session_on(ensemble: Ensemble) -> ort.InferenceSession:
    builder = GraphBuilder(17)
    features = builder.input("features", Datatype.FP64, (-1, FEATURES))
    datatype = Datatype.FP32 if ensemble.dtype is np.float32 else Datatype.FP64
    builder.output("sums", add_ensemble(builder, ensemble, features), datatype, (-1, ensemble.targets))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(builder.model("model").SerializeToString(), options)


def rows_beside(values: list[float]) -> Any:
    steps = [[value, np.nextafter(value, math.inf), np.nextafter(value, -math.inf)] for value in values]
    return np.asarray(steps).ravel()


CELLS = st.sampled_from(rows_beside([*SPECIAL, *THRESHOLDS]).tolist())


@settings(max_examples=150, deadline=None)
@given(ensembles(), st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=30))
def test_every_value_takes_the_same_branch_and_sums_have_the_same_bits(ensemble, rows):
    session, features = session_on(ensemble), np.asarray(rows, dtype=np.float64)
    expected = np.asarray([interpreted(ensemble, row) for row in features])
    np.testing.assert_array_equal(session.run(None, {"features": features})[0], expected)
    for index in range(min(3, len(rows))):
        single = session.run(None, {"features": features[index : index + 1]})[0]
        np.testing.assert_array_equal(single, expected[index : index + 1])


def large(trees_count: int, dtype: type[np.floating[Any]], width: int) -> Ensemble:
    """Stumps whose leaves do not add up to the same in another order."""
    random = np.random.default_rng(0)

    def stump() -> Tree:
        return Tree(
            feature=np.zeros(3, np.int64), threshold=np.asarray([random.normal(), 0.0, 0.0]),
            left=np.asarray([1, -1, -1]), right=np.asarray([2, -1, -1]), missing_left=np.zeros(3, bool),
            value=10.0 ** random.integers(-6, 6, (3, width)) * random.normal(size=(3, width)),
            category_set=np.full(3, NO_SET),
        )  # fmt: skip

    return Ensemble(tuple(stump() for _ in range(trees_count)), FEATURES, width, np.zeros(width), dtype=dtype)


@pytest.mark.parametrize("width", [1, 4], ids=["scalar leaves", "wide leaves"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_of_addition_is_the_sources_at_any_batch_and_thread_count(dtype, width):
    ensemble = large(300, dtype, width)
    features = np.random.default_rng(1).normal(size=(200, FEATURES))
    expected = np.asarray([interpreted(ensemble, row) for row in features])
    shuffled = Ensemble(ensemble.trees[::-1], FEATURES, width, np.zeros(width), dtype=dtype)
    other = np.asarray([interpreted(shuffled, row) for row in features])
    assert (other != expected).any(), "the order must matter, or this test shows nothing"
    session = session_on(ensemble)
    for rows in (1, 2, 7, 200):
        answer = session.run(None, {"features": features[:rows]})[0]
        np.testing.assert_array_equal(answer, expected[:rows])


def test_no_rows_give_no_answers():
    assert session_on(large(5, np.float64, 1)).run(None, {"features": np.zeros((0, FEATURES))})[0].shape == (0, 1)


def test_target_without_trees_answers_its_start_value():
    ensemble = Ensemble((single_leaf([2.0], 0),), FEATURES, 2, np.asarray([1.0, 7.0]))
    np.testing.assert_array_equal(session_on(ensemble).run(None, {"features": np.zeros((1, 3))})[0], [[3.0, 7.0]])


def test_nodes_that_no_path_reaches_are_left_out():
    tree = Tree(
        feature=np.asarray([0, 9, 0, 0]), threshold=np.asarray([0.5, 0.0, 0.0, 0.0]), left=np.asarray([2, 0, -1, -1]),
        right=np.asarray([3, 0, -1, -1]), missing_left=np.zeros(4, bool), value=np.arange(4.0).reshape(4, 1),
        category_set=np.full(4, NO_SET),
    )  # fmt: skip
    session = session_on(Ensemble((tree,), FEATURES, 1, np.zeros(1)))
    features = np.asarray([[0.5, 0, 0], [0.6, 0, 0]])
    np.testing.assert_array_equal(session.run(None, {"features": features})[0], [[2.0], [3.0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logistic_is_exact_at_zero_and_saturates(dtype):
    builder = GraphBuilder(17)
    datatype = Datatype.FP32 if dtype is np.float32 else Datatype.FP64
    scores = builder.input("scores", datatype, (-1,))
    builder.output("shares", add_logistic(builder, scores, dtype), datatype, (-1,))
    session = ort.InferenceSession(builder.model("model").SerializeToString())
    found = session.run(None, {"scores": np.asarray([0.0, -0.0, 1000.0, -1000.0, 2.0], dtype)})[0]
    np.testing.assert_array_equal(found[:4], np.asarray([0.5, 0.5, 1.0, 0.0], dtype))
    np.testing.assert_allclose(found[4], 1 / (1 + math.exp(-2.0)), rtol=1e-6)
