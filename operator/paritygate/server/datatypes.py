"""The protocol's datatypes, in memory and in ONNX."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.spec import Datatype

Array = npt.NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.BF16: np.dtype("<u2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype(object),
}
"""Datatype → dtype of an array in memory. BF16, which numpy lacks, is held as its bits; BYTES as `str`."""

DATATYPES: Final[dict[str, Datatype]] = {
    "tensor(bool)": Datatype.BOOL,
    "tensor(uint8)": Datatype.UINT8,
    "tensor(uint16)": Datatype.UINT16,
    "tensor(uint32)": Datatype.UINT32,
    "tensor(uint64)": Datatype.UINT64,
    "tensor(int8)": Datatype.INT8,
    "tensor(int16)": Datatype.INT16,
    "tensor(int32)": Datatype.INT32,
    "tensor(int64)": Datatype.INT64,
    "tensor(float16)": Datatype.FP16,
    "tensor(bfloat16)": Datatype.BF16,
    "tensor(float)": Datatype.FP32,
    "tensor(double)": Datatype.FP64,
    "tensor(string)": Datatype.BYTES,
}
"""Type as onnxruntime names it → datatype."""

FLOATS: Final[frozenset[str]] = frozenset({Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64})
INTEGERS: Final[frozenset[str]] = frozenset(
    {
        Datatype.UINT8,
        Datatype.UINT16,
        Datatype.UINT32,
        Datatype.UINT64,
        Datatype.INT8,
        Datatype.INT16,
        Datatype.INT32,
        Datatype.INT64,
    }
)

_BF16_QUIET_NAN: Final = np.uint16(0x7FC0)


def floats_of_bf16(bits: Array) -> Array:
    """The values of `bits` (uint16) as float32, exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def bf16_of_floats(values: Array) -> Array:
    """`values` (float32) rounded to the nearest BF16, ties to even, as bits (uint16); NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), _BF16_QUIET_NAN, rounded.astype(np.uint16))


def is_nan(array: Array, datatype: str) -> Array:
    """Where the elements of a floating-point `array` are NaN."""
    if datatype == Datatype.BF16:
        array = floats_of_bf16(array)
    return np.asarray(np.isnan(array))


def is_infinite(array: Array, datatype: str) -> Array:
    """Where the elements of a floating-point `array` are infinite."""
    if datatype == Datatype.BF16:
        array = floats_of_bf16(array)
    return np.asarray(np.isinf(array))
