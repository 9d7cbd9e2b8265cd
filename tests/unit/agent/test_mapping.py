"""Columns become inputs, inputs become wire tensors and come back, or an error names the column."""

from collections import OrderedDict

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritygate.agent import mapping
from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.model import FRAME, MATRIX, TENSORS, Demand, Model
from paritygate.agent.wire import Input


class Wants(Model):
    """A model that takes what a test says."""

    def __init__(self, demand):
        super().__init__(None, {})
        self.wanted = demand

    def demand(self, table, free):  # noqa: ARG002 (the protocol gives them)
        return self.wanted


def inputs(demand, table, **request):
    return mapping.inputs_of(Wants(demand), OrderedDict(table), request)


def text(*values):
    return np.asarray([*values, None], dtype=object)[:-1]


def refusal(demand, table, **request):
    with pytest.raises(AgentError) as error:
        inputs(demand, table, **request)
    return error.value


NUMBERS = {"a": np.arange(3), "b": np.arange(3.0), "y": np.arange(3), "s": np.arange(3)}
TWO = Demand(MATRIX, ("features", None), (), 2)
THREE = Demand(MATRIX, ("features", None), (), 3)
ONE_TENSOR = Demand(TENSORS, ["x", "mask"], ("mask",), None)
FRAMED = Demand(FRAME, ["a", "t"], (), 2)


def test_matrix_is_all_columns_that_are_no_annotations_in_file_order():
    (one,) = inputs(TWO, NUMBERS, label="y", slices=["s"])
    assert one.columns == ("a", "b")
    assert (one.datatype, one.shape) == ("FP64", (-1, 2))


def test_slice_column_is_an_input_where_only_then_the_width_fits():
    (one,) = inputs(THREE, NUMBERS, label="y", slices=["s"])
    assert one.columns == ("a", "b", "s")


def test_array_named_like_the_matrix_is_the_matrix():
    (one,) = inputs(TWO, {"features": np.zeros((3, 2), np.float16), "other": np.zeros(3)})
    assert one.columns == ("features",)
    assert one.datatype == "FP32"


def test_single_tensor_takes_the_column_of_its_name_before_all_others():
    (one,) = inputs(ONE_TENSOR, {"x": np.zeros((3, 2)), "id": np.arange(3)})
    assert one.columns == ("x",)


def test_single_tensor_is_formed_of_all_columns_where_none_has_its_name():
    (one,) = inputs(ONE_TENSOR, {"a": np.zeros(3, np.float32), "b": np.zeros((3, 2), np.float32)})
    assert one.columns == ("a", "b")
    assert (one.datatype, one.shape) == ("FP32", (-1, 3))


def test_optional_tensor_is_given_where_the_dataset_has_it():
    found = inputs(ONE_TENSOR, {"mask": np.ones((3, 2), bool), "x": np.zeros((3, 2), np.float32)})
    assert [(one.name, one.datatype) for one in found] == [("x", "FP32"), ("mask", "BOOL")]


@pytest.mark.parametrize(
    ("column", "datatype"),
    [
        (np.zeros(3, np.float16), "FP32"),
        (np.zeros(3, np.float32), "FP32"),
        (np.zeros(3), "FP64"),
        (np.zeros(3, np.int8), "INT64"),
        (np.zeros(3, np.uint32), "INT64"),
        (np.zeros(3, bool), "BOOL"),
        (np.zeros(3, "M8[s]"), "INT64"),
        (text("a", "b", None), "BYTES"),
        (Category([0, 0, 0], text("a")), "BYTES"),
        (Category([0, 0, 0], np.asarray([7])), "INT64"),
        (Category([0, -1, 0], np.asarray([7])), "FP64"),
    ],
)
def test_column_of_a_frame_keeps_its_kind_and_comes_back(column, datatype):
    (one,) = inputs(Demand(FRAME, ["a"], (), 1), {"a": column})
    assert (one.datatype, one.shape) == (datatype, (-1, 1))
    assert one.wire().shape == (3, 1)
    assert one.is_exact()


@pytest.mark.parametrize(
    ("demand", "table", "request_fields", "message"),
    [
        pytest.param(TWO, {"a": np.zeros(3)}, {}, "takes 2 columns; the dataset offers 1", id="too few columns"),
        pytest.param(
            TWO,
            NUMBERS,
            {},
            "the dataset offers 4 beside label, group and slices: 'a', 'b', 'y', 's'",
            id="label not named",
        ),
        pytest.param(TWO, {"a": np.zeros(3), "t": text("u", "v", "w")}, {}, "'t' hold text", id="text in a matrix"),
        pytest.param(FRAMED, {"a": np.zeros(3)}, {}, "the dataset lacks 't' and has 'a'", id="missing column"),
        pytest.param(
            FRAMED, {"a": np.zeros((3, 2)), "t": np.zeros(3)}, {}, "column 'a' holds lists", id="lists in a frame"
        ),
        pytest.param(Demand(TENSORS, ["x", "z"], (), None), {"x": np.zeros(3)}, {}, "lacks 'z'", id="missing tensor"),
        pytest.param(
            Demand(MATRIX, ("features", ["a", "c"]), (), 2),
            NUMBERS,
            {"label": "y"},
            "lacks 'c'",
            id="missing named column",
        ),
        pytest.param(
            ONE_TENSOR, {"y": np.zeros(3)}, {"label": "y"}, "no column for the model's input", id="label only"
        ),
    ],
)
def test_dataset_that_does_not_fit_is_refused(demand, table, request_fields, message):
    error = refusal(demand, table, **request_fields)
    assert error.reason == "DatasetMismatch"
    assert message in error.message


@pytest.mark.parametrize("field", ["label", "group", "groupBy"])
def test_annotation_that_the_dataset_lacks_is_refused(field):
    with pytest.raises(AgentError, match="is 'absent', and the dataset has no such column; it has 'a'") as error:
        mapping.annotations({"a": np.zeros(3)}, {field: "absent"})
    assert error.value.reason == "DatasetMismatch"


def test_stated_inputs_match_by_name_else_by_position():
    frame = Demand(FRAME, ["a", "b"], (), 2)
    table = {"a": np.zeros(3), "b": np.zeros(3)}
    swapped = [{"name": name, "datatype": kind, "shape": [-1, 1]} for name, kind in (("b", "FP32"), ("a", "FP64"))]
    assert [(one.wire_name, one.datatype) for one in inputs(frame, table, inputs=swapped)] == [
        ("a", "FP64"),
        ("b", "FP32"),
    ]
    renamed = [{"name": name, "datatype": "FP32", "shape": [-1, 1]} for name in ("p", "q")]
    assert [(one.name, one.wire_name) for one in inputs(frame, table, inputs=renamed)] == [("a", "p"), ("b", "q")]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ([], None),
        ([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}] * 2, "states 2 inputs"),
        ([{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}], "cannot be converted"),
        ([{"name": "x", "datatype": "FP32", "shape": [-1, 3]}], "states shape [-1, 3] for 'x'"),
    ],
)
def test_stated_inputs_that_the_dataset_cannot_take_are_refused(stated, message):
    table = {"a": np.zeros(3), "b": np.zeros(3)}
    if message is None:
        assert inputs(TWO, table, inputs=stated)[0].wire_name == "features"
        return
    error = refusal(TWO, table, inputs=stated)
    assert error.reason == "InputsMismatch"
    assert message in error.message


def test_missing_text_is_empty_on_the_wire_and_comes_back_as_missing():
    one = Input("t", ["t"], text("a", None, "b"))
    assert one.wire().tolist() == ["a", "", "b"]
    assert one.restore(one.wire()).tolist() == ["a", None, "b"]
    assert one.is_exact()


def test_missing_text_beside_empty_text_is_no_exact_cast():
    one = Input("t", ["t"], text("a", None, ""))
    assert one.restore(one.wire()).tolist() == ["a", "", ""]
    assert not one.is_exact()


def test_category_that_the_dataset_does_not_know_comes_after_those_it_knows():
    one = Input("k", ["k"], Category([1, -1, 0], text("x", "y")))
    found = one.restore(text("new", "", "y").reshape(3, 1))
    assert found.values().tolist() == ["new", None, "y"]
    assert list(found.categories) == ["x", "y", "new"]


@given(arrays.arrays("<f8", 20, elements=st.floats(width=64)))
def test_cast_is_exact_only_where_every_value_survives(values):
    one = Input("x", ["x"], values)
    one.datatype = "FP32"
    with np.errstate(all="ignore"):
        survives = values.astype(np.float32).astype(np.float64)
    assert one.is_exact() == bool(np.all((survives == values) | np.isnan(values)))


@given(arrays.arrays("<f4", 20, elements=st.floats(width=32, allow_nan=False)))
def test_bfloat16_rounds_to_the_nearest_ties_to_even(values):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    one = Input("x", ["x"], values)
    one.datatype = "BF16"
    with np.errstate(all="ignore"):
        expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(one.wire(), expected)
