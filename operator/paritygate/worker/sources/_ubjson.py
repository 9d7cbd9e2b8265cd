"""Reads Universal Binary JSON, as XGBoost writes it (https://ubjson.org, src/common/json.cc)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

import numpy as np

_NUMBERS: Final = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_CONSTANTS: Final = {b"Z": None, b"T": True, b"F": False}
_DEEPEST: Final = 64


def loads(content: bytes) -> Any:
    """The value in `content`; typed arrays become numpy arrays. ValueError: it is truncated or not UBJSON."""
    try:
        value, end = _Reader(content).value(0, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"the UBJSON is truncated or damaged ({error})") from error
    if end != len(content):
        raise ValueError(f"{len(content) - end} bytes follow the UBJSON value")
    return value


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        return self.typed(self.content[at : at + 1], at + 1, depth)

    def typed(self, marker: bytes, at: int, depth: int) -> tuple[Any, int]:
        if depth > _DEEPEST:
            raise ValueError(f"the UBJSON is nested deeper than {_DEEPEST}")
        if marker in _NUMBERS:
            array, end = self.array(marker, 1, at)
            return array[0].item(), end
        if marker in _CONSTANTS:
            return _CONSTANTS[marker], at
        kinds: dict[bytes, Callable[[int, int], tuple[Any, int]]] = {b"S": self.text, b"[": self.items, b"{": self.map}
        if marker not in kinds:
            raise ValueError(f"byte {at - 1} of the UBJSON is {marker!r}, which begins no value")
        return kinds[marker](at, depth)

    def array(self, marker: bytes, count: int, at: int) -> tuple[Any, int]:
        dtype = np.dtype(_NUMBERS[marker])
        end = at + count * dtype.itemsize
        if count < 0 or end > len(self.content):
            raise ValueError(f"an array of {count} numbers at byte {at} of the UBJSON is cut off")
        return np.frombuffer(self.content, dtype, count, at).astype(dtype.newbyteorder("=")), end

    def size(self, at: int) -> tuple[int, int]:
        value, end = self.value(at, 0)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"byte {at} of the UBJSON is no length")
        return value, end

    def text(self, at: int, _: int = 0) -> tuple[str, int]:
        count, start = self.size(at)
        if start + count > len(self.content):
            raise ValueError(f"a text of {count} bytes at byte {start} of the UBJSON is cut off")
        return self.content[start : start + count].decode(), start + count

    def items(self, at: int, depth: int) -> tuple[Any, int]:
        marker = b""
        if self.content[at : at + 1] == b"$":
            marker, at = self.content[at + 1 : at + 2], at + 2
        found: list[Any] = []
        if self.content[at : at + 1] == b"#":
            count, at = self.size(at + 1)
            if marker in _NUMBERS:
                return self.array(marker, count, at)
            for _ in range(count):
                value, at = self.typed(marker, at, depth + 1) if marker else self.value(at, depth + 1)
                found.append(value)
            return found, at
        while self.content[at : at + 1] != b"]":
            value, at = self.value(at, depth + 1)
            found.append(value)
        return found, at + 1

    def map(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while self.content[at : at + 1] != b"}":
            key, at = self.text(at)
            found[key], at = self.value(at, depth + 1)
        return found, at + 1
