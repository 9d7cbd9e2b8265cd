"""The binary encoding of tensors: exact both ways, and clear about what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paritygate.api.spec import Datatype
from paritygate.server import binary_tensors
from paritygate.server.datatypes import DTYPES
from paritygate.server.errors import RequestError

NUMERIC = sorted(set(DTYPES) - {Datatype.BYTES})


@pytest.mark.parametrize("datatype", NUMERIC)
@given(data=st.data(), offset=st.integers(0, 7))
def test_every_array_comes_back_bit_by_bit(datatype: str, data: st.DataObject, offset: int) -> None:
    array = data.draw(hnp.arrays(DTYPES[datatype], hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    raw = binary_tensors.encode(array, datatype)
    back = binary_tensors.decode("x", datatype, array.shape, memoryview(b"\0" * offset + raw)[offset:])
    assert back.flags.aligned
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(st.lists(st.text(), max_size=6))
def test_every_text_comes_back_exactly(texts: list[str]) -> None:
    array = np.array(texts, dtype=object).reshape(-1)
    raw = binary_tensors.encode(array, Datatype.BYTES)
    assert binary_tensors.decode("x", Datatype.BYTES, array.shape, memoryview(raw)).tolist() == texts


def test_little_endian_is_what_travels() -> None:
    assert binary_tensors.encode(np.array([1], ">i4").astype("<i4"), Datatype.INT32) == b"\x01\0\0\0"
    assert binary_tensors.encode(np.array(["é"], object), Datatype.BYTES) == b"\x02\0\0\0\xc3\xa9"


MISTAKES = [
    ("too few bytes", Datatype.FP32, (2,), b"\0" * 7, "7 bytes came, but FP32 of shape [2] takes 8"),
    ("too many bytes", Datatype.INT64, (1,), b"\0" * 9, "9 bytes came, but INT64 of shape [1] takes 8"),
    ("a BOOL of 2", Datatype.BOOL, (3,), b"\0\1\2", "row 2: BOOL takes a byte 0 or 1, found 2"),
    ("text without lengths", Datatype.BYTES, (2,), b"abc", "takes at least 8"),
    ("text longer than what came", Datatype.BYTES, (1,), b"\x09\0\0\0ab", "ends at byte 13, but only 6 bytes came"),
    ("a length of four gigabytes", Datatype.BYTES, (1,), b"\xff\xff\xff\xff", "only 4 bytes came"),
    ("a length cut short", Datatype.BYTES, (2,), b"\x02\0\0\0abcd\0\0", "only"),
    ("text after the last element", Datatype.BYTES, (1,), b"\x01\0\0\0ab", "end at byte 5"),
    ("text that is not UTF-8", Datatype.BYTES, (1,), b"\x02\0\0\0a\xff", "row 0: byte 1 is not UTF-8"),
]


@pytest.mark.parametrize(("_name", "datatype", "shape", "raw", "message"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_refuses(_name: str, datatype: str, shape: tuple[int, ...], raw: bytes, message: str) -> None:
    with pytest.raises(RequestError) as refusal:
        binary_tensors.decode("x", datatype, shape, memoryview(raw))
    assert "input 'x'" in refusal.value.message
    assert message in refusal.value.message


@given(st.binary(max_size=40), st.integers(0, 5))
def test_arbitrary_bytes_are_text_or_refused(raw: bytes, count: int) -> None:
    try:
        array = binary_tensors.decode("x", Datatype.BYTES, (count,), memoryview(raw))
    except RequestError:
        return
    assert binary_tensors.encode(array, Datatype.BYTES) == raw
