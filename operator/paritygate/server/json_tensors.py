"""Tensors as JSON numbers, booleans and strings.

JSON has no NaN and no infinities. Like Triton, this codec takes and gives the literals NaN, Infinity and -Infinity,
which the JSON modules of most languages read. orjson knows none of them, so documents that hold one are read by the
standard library, and arrays that hold one are written by orjson, which writes null, with the literals put in.
"""

from __future__ import annotations

import array as arrays
import itertools
import json
import math
import sys
from typing import Any, Final, NoReturn

import numpy as np
import orjson

from paritygate.api.spec import Datatype
from paritygate.server.datatypes import DTYPES, FLOATS, INTEGERS, Array, bf16_of_floats, floats_of_bf16
from paritygate.server.errors import RequestError
from paritygate.server.signature import brief, place

_TYPES: Final[dict[str, frozenset[type]]] = {
    Datatype.BOOL: frozenset({bool}),
    Datatype.BYTES: frozenset({str}),
    **dict.fromkeys(INTEGERS, frozenset({int})),
    **dict.fromkeys(FLOATS, frozenset({int, float})),
}
_EXPECTED: Final[dict[str, str]] = {
    Datatype.BOOL: "true or false",
    Datatype.BYTES: "a string",
    **dict.fromkeys(INTEGERS, "an integer"),
    **dict.fromkeys(FLOATS, "a number, NaN, Infinity or -Infinity"),
}


def loads(content: bytes | memoryview) -> Any:
    """The JSON document in `content`; RequestError says where it is malformed."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raw = bytes(content)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise RequestError(f"the request is not JSON: {error}") from None
    try:
        return json.loads(raw.decode(), parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the request is not JSON: {error}") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number {text} is beyond the range of a double; write Infinity where it is meant")
    return value


def decode(name: str, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """Flat or nested `data` as an array of `shape`; RequestError where it is not what datatype and shape say."""
    if not isinstance(data, list):
        raise RequestError(f"input {name!r}: data must be a list, found {brief(data)}; send {math.prod(shape)} values")
    flat = _flattened(name, shape, data)
    if len(flat) != math.prod(shape):
        raise RequestError(
            f"input {name!r}: data has {len(flat)} values, but shape {list(shape)} needs {math.prod(shape)}"
        )
    if not _TYPES[datatype].issuperset(map(type, flat)):
        _refuse_type(name, datatype, shape, flat)
    if datatype in FLOATS:
        array = _floats(name, datatype, shape, flat)
    elif datatype == Datatype.BYTES:
        array = _texts(name, shape, flat)
    else:
        try:
            array = np.array(flat, dtype=DTYPES[datatype])
        except OverflowError:
            _refuse_integer(name, datatype, shape, flat)
    return array.reshape(shape)


def encode(array: Array, datatype: str, *, literals: bool = True) -> object:
    """`array` as data that orjson writes as one flat list, with OPT_SERIALIZE_NUMPY.

    `literals`: whether NaN and infinities are written as such; otherwise orjson writes null for them.
    """
    if datatype == Datatype.BYTES:
        return array.ravel().tolist()
    flat = np.ascontiguousarray(array).ravel()
    if datatype not in FLOATS:
        return flat
    if datatype == Datatype.BF16:
        flat = floats_of_bf16(flat)
    if not literals:
        return flat
    finite = np.isfinite(flat)
    if finite.all():
        return flat
    words = ["NaN" if np.isnan(value) else "Infinity" if value > 0 else "-Infinity" for value in flat[~finite]]
    parts = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY).decode().split("null")
    return orjson.Fragment("".join(itertools.chain.from_iterable(zip(parts, [*words, ""], strict=True))))


def _flattened(name: str, shape: tuple[int, ...], data: list[Any]) -> list[Any]:
    """The values of `data`, which is flat or nested like `shape`."""
    if list not in map(type, data):
        return data
    parts = [data]
    for size in shape:
        for part in parts:
            if type(part) is not list or len(part) != size:
                raise _wrong_nesting(name, shape)
        parts = list(itertools.chain.from_iterable(parts))
    return parts


def _wrong_nesting(name: str, shape: tuple[int, ...]) -> RequestError:
    return RequestError(
        f"input {name!r}: nested data does not have shape {list(shape)}; nest it like the shape, or send it flat"
    )


def _floats(name: str, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> Array:
    try:
        array = _numbers(datatype, flat)
    except OverflowError:
        position = next(index for index, value in enumerate(flat) if abs(value) > sys.float_info.max)
        _refuse_size(name, datatype, shape, position, flat)
    if datatype == Datatype.BF16:
        array = bf16_of_floats(array)
        infinite = np.isinf(floats_of_bf16(array))
    elif datatype == Datatype.FP64:
        return array
    else:
        infinite = np.isinf(array)
    if infinite.any():
        for position in np.flatnonzero(infinite).tolist():
            if not math.isinf(flat[position]):
                _refuse_size(name, datatype, shape, position, flat)
    return array


def _numbers(datatype: str, flat: list[Any]) -> Array:
    """The numbers as `datatype`, BF16 as FP32; too large ones become infinite. OverflowError beyond a double."""
    if datatype == Datatype.FP16:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=np.float16)
    code = "d" if datatype == Datatype.FP64 else "f"
    # Unlike numpy, the standard library rounds to infinity without a warning that would have to be turned off.
    return np.frombuffer(arrays.array(code, flat), dtype=code)


def _texts(name: str, shape: tuple[int, ...], flat: list[Any]) -> Array:
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    try:
        "".join(flat).encode()
    except UnicodeEncodeError:
        position = next(index for index, text in enumerate(flat) if any("\ud800" <= sign <= "\udfff" for sign in text))
        raise RequestError(
            f"input {name!r}, {place(shape, position)}: the string has half of a surrogate pair; send valid UTF-8"
        ) from None
    return array


def _refuse_type(name: str, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> NoReturn:
    taken = _TYPES[datatype]
    position = next(index for index, value in enumerate(flat) if type(value) not in taken)
    value = flat[position]
    if isinstance(value, list):
        raise _wrong_nesting(name, shape)
    advice = ""
    if value is None:
        advice = (
            "; null is not a value, send NaN for a missing number" if datatype in FLOATS else "; null is not a value"
        )
    raise RequestError(
        f"input {name!r}, {place(shape, position)}: {datatype} takes {_EXPECTED[datatype]}, "
        f"found {brief(value, json.dumps)}{advice}"
    )


def _refuse_integer(name: str, datatype: str, shape: tuple[int, ...], flat: list[Any]) -> NoReturn:
    limits = np.iinfo(DTYPES[datatype])
    position = next(index for index, value in enumerate(flat) if not limits.min <= value <= limits.max)
    raise RequestError(
        f"input {name!r}, {place(shape, position)}: {brief(flat[position])} is outside of {datatype}, "
        f"which holds {limits.min} to {limits.max}"
    )


def _refuse_size(name: str, datatype: str, shape: tuple[int, ...], position: int, flat: list[Any]) -> NoReturn:
    raise RequestError(
        f"input {name!r}, {place(shape, position)}: {brief(flat[position])} is too large for {datatype}; "
        "write Infinity where it is meant"
    )
