"""The JSON encoding of tensors: exact both ways, and clear about what it refuses."""

from __future__ import annotations

import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paritygate.api.spec import Datatype
from paritygate.server import json_tensors
from paritygate.server.datatypes import DTYPES, FLOATS, INTEGERS, floats_of_bf16
from paritygate.server.errors import RequestError


def _through_json(array: np.ndarray, datatype: str) -> np.ndarray:
    written = orjson.dumps({"data": json_tensors.encode(array, datatype)}, option=orjson.OPT_SERIALIZE_NUMPY)
    return json_tensors.decode("x", datatype, array.shape, json_tensors.loads(written)["data"])


@pytest.mark.parametrize("datatype", sorted(FLOATS | INTEGERS | {Datatype.BOOL}))
@given(data=st.data())
def test_every_array_comes_back_exactly(datatype: str, data: st.DataObject) -> None:
    array = data.draw(hnp.arrays(DTYPES[datatype], hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)))
    back = _through_json(array, datatype)
    assert back.dtype == array.dtype
    if datatype == Datatype.BF16:
        array, back = floats_of_bf16(array), floats_of_bf16(back)
    np.testing.assert_array_equal(back, array)
    if datatype in FLOATS:
        finite = ~np.isnan(array)
        np.testing.assert_array_equal(np.signbit(back[finite]), np.signbit(array[finite]))


@given(st.lists(st.text(), max_size=6))
def test_every_text_comes_back_exactly(texts: list[str]) -> None:
    array = np.array(texts, dtype=object).reshape(-1)
    assert _through_json(array, Datatype.BYTES).tolist() == texts


def test_nan_and_infinities_travel_as_literals() -> None:
    array = np.array([1.5, math.nan, math.inf, -math.inf, -0.0])
    written = orjson.dumps(json_tensors.encode(array, Datatype.FP64), option=orjson.OPT_SERIALIZE_NUMPY)
    assert written == b"[1.5,NaN,Infinity,-Infinity,-0.0]"
    np.testing.assert_array_equal(json.loads(written), array)


@pytest.mark.parametrize("only", [[math.nan], [math.inf, math.nan], [0.0, math.nan], [math.nan, 0.0]])
def test_literals_stand_in_their_places_at_either_end(only: list[float]) -> None:
    np.testing.assert_array_equal(_through_json(np.array(only, np.float32), Datatype.FP32), only)


def test_bf16_rounds_to_the_nearest_value_with_ties_to_even() -> None:
    bits = json_tensors.decode("x", Datatype.BF16, (4,), [1.00390625, 1.01171875, 1.0 + 2**-20, math.nan])
    np.testing.assert_array_equal(floats_of_bf16(bits), np.array([1.0, 1.015625, 1.0, math.nan], np.float32))


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((2, 2), [[1, 2], [3, 4]]),
        ((2, 2), [1, 2, 3, 4]),
        ((4, 1, 1), [[[1]], [[2]], [[3]], [[4]]]),
        ((4,), [1, 2, 3, 4]),
    ],
)
def test_data_may_be_flat_or_nested_like_the_shape(shape: tuple[int, ...], data: list[object]) -> None:
    array = json_tensors.decode("x", Datatype.INT64, shape, data)
    assert array.shape == shape
    assert array.ravel().tolist() == [1, 2, 3, 4]


MISTAKES = [
    ("a number beyond FP32", Datatype.FP32, (2,), [1.0, 1e39], "row 1: 1e+39 is too large for FP32"),
    ("a number beyond FP16", Datatype.FP16, (1,), [65520.0], "too large for FP16"),
    ("a number beyond BF16", Datatype.BF16, (1,), [3.4e38 * 1.0005], "too large for BF16"),
    ("an integer beyond a double", Datatype.FP64, (1,), [10**400], "too large for FP64"),
    ("an integer beyond INT8", Datatype.INT8, (1, 2), [[0, 128]], "element [0, 1]: 128 is outside of INT8"),
    ("a negative number for UINT64", Datatype.UINT64, (1,), [-1], "outside of UINT64"),
    ("a fraction for INT64", Datatype.INT64, (2,), [1, 1.5], "row 1: INT64 takes an integer, found 1.5"),
    ("a whole float for INT64", Datatype.INT64, (1,), [1.0], "INT64 takes an integer, found 1.0"),
    ("true for INT64", Datatype.INT64, (2,), [1, True], "takes an integer, found true"),
    ("1 for BOOL", Datatype.BOOL, (1,), [1], "BOOL takes true or false, found 1"),
    ("true for FP32", Datatype.FP32, (1,), [True], "takes a number"),
    ("null for FP32", Datatype.FP32, (1,), [None], "null is not a value, send NaN"),
    ("null for BYTES", Datatype.BYTES, (1,), [None], "null is not a value"),
    ("a number for BYTES", Datatype.BYTES, (1,), [5], "BYTES takes a string, found 5"),
    ("half a surrogate pair", Datatype.BYTES, (1,), ["\ud800"], "half of a surrogate pair"),
    ("an object as value", Datatype.FP32, (1,), [{"a": 1}], 'found {"a": 1}'),
    ("too few values", Datatype.FP32, (3,), [1, 2], "data has 2 values, but shape [3] needs 3"),
    ("too many values", Datatype.FP32, (1,), [1, 2], "data has 2 values, but shape [1] needs 1"),
    ("data that is no list", Datatype.FP32, (1,), 5, "data must be a list, found 5"),
    ("ragged rows", Datatype.FP32, (2, 2), [[1], [2, 3, 4]], "does not have shape [2, 2]"),
    ("nesting deeper than the shape", Datatype.FP32, (2,), [[1], [2]], "does not have shape [2]"),
    ("transposed nesting", Datatype.FP32, (3, 2), [[1, 2, 3], [4, 5, 6]], "does not have shape [3, 2]"),
    ("rows and values mixed", Datatype.FP32, (2, 1), [[1], 2], "does not have shape [2, 1]"),
]


@pytest.mark.parametrize(("_name", "datatype", "shape", "data", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_refuses(_name: str, datatype: str, shape: tuple[int, ...], data: object, message: str) -> None:
    with pytest.raises(RequestError) as refusal:
        json_tensors.decode("x", datatype, shape, data)
    assert "input 'x'" in refusal.value.message
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"NaN": }', "is not JSON"),
        (b"[NaN, 1e999]", "beyond the range of a double"),
        (b"[NaN, " + b"[" * 100_000, "is not JSON"),
        (b"[NaN, " + b"9" * 5_000 + b"]", "is not JSON"),
        (b"\xff NaN", "is not JSON"),
    ],
)
def test_refuses_documents(content: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        json_tensors.loads(content)


def test_reads_literals_beside_ordinary_values() -> None:
    assert json_tensors.loads(b'{"a": [NaN, Infinity, -Infinity, 1]}')["a"][1:] == [math.inf, -math.inf, 1]
