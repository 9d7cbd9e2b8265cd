"""Tensors as bytes: the protocol's binary tensor data extension.

Numbers are little-endian in row-major order, BOOL one byte each. BYTES elements are a length, as four little-endian
bytes, and so many bytes, which here must be UTF-8, because ONNX strings are.
https://github.com/kserve/open-inference-protocol/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
import struct
from typing import Final

import numpy as np

from paritygate.api.spec import Datatype
from paritygate.server.datatypes import DTYPES, Array
from paritygate.server.errors import RequestError
from paritygate.server.signature import place

_LENGTH: Final = struct.Struct("<I")


def decode(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> Array:
    """`data` as an array of `shape`, without a copy where memory is aligned; RequestError where sizes do not fit."""
    if datatype == Datatype.BYTES:
        return _texts(name, shape, data)
    dtype = DTYPES[datatype]
    size = math.prod(shape) * dtype.itemsize
    if len(data) != size:
        raise RequestError(
            f"input {name!r}: {len(data)} bytes came, but {datatype} of shape {list(shape)} takes {size}; "
            "correct binary_data_size, shape or data"
        )
    if datatype == Datatype.BOOL:
        _check_booleans(name, shape, data)
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def encode(array: Array, datatype: str) -> bytes:
    """`array` as bytes."""
    if datatype != Datatype.BYTES:
        return array.tobytes()
    parts = []
    for text in array.ravel().tolist():
        raw = text.encode()
        parts.append(_LENGTH.pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def decode_text(name: str, where: str, raw: bytes) -> str:
    """`raw` as text; RequestError where it is not UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            f"input {name!r}, {where}: byte {error.start} is not UTF-8 ({error.reason}); "
            "this server takes BYTES as UTF-8 text"
        ) from None


def _check_booleans(name: str, shape: tuple[int, ...], data: memoryview) -> None:
    values = np.frombuffer(data, dtype=np.uint8)
    if values.size and values.max() > 1:
        position = int(np.argmax(values > 1))
        raise RequestError(
            f"input {name!r}, {place(shape, position)}: BOOL takes a byte 0 or 1, found {values[position]}"
        )


def _texts(name: str, shape: tuple[int, ...], data: memoryview) -> Array:
    count = math.prod(shape)
    if count * _LENGTH.size > len(data):
        raise RequestError(
            f"input {name!r}: {len(data)} bytes came, but BYTES of shape {list(shape)} takes at least "
            f"{count * _LENGTH.size}: each element has its length in 4 bytes before it"
        )
    array, start = np.empty(count, dtype=object), 0
    for position in range(count):
        begin = start + _LENGTH.size
        length = _LENGTH.unpack_from(data, start)[0] if begin <= len(data) else 0
        start = begin + length
        if start > len(data):
            raise RequestError(
                f"input {name!r}, {place(shape, position)}: the element ends at byte {start}, but only "
                f"{len(data)} bytes came; send each element's length as 4 little-endian bytes before it"
            )
        array[position] = decode_text(name, place(shape, position), bytes(data[begin:start]))
    if start != len(data):
        raise RequestError(
            f"input {name!r}: {len(data)} bytes came, but the {count} elements of shape {list(shape)} "
            f"end at byte {start}"
        )
    return array.reshape(shape)
