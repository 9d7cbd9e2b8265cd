"""Columns of answers and inputs of any shape, dense or ragged, seen alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_NARROW: Final = 4096
"""Range of integers up to which they are told apart by a table."""


def is_ragged(column: Array) -> bool:
    """Whether a column holds an array per row."""
    return column.dtype == object and column.ndim == 1 and len(column) > 0 and isinstance(column[0], np.ndarray)


def is_numeric(column: Array) -> bool:
    """Whether values can be subtracted."""
    return is_ragged(column) or column.dtype.kind in "biuf"


def cells(column: Array) -> Array:
    """A dense column as (rows, cells), also where there are no rows."""
    return column.reshape(len(column), math.prod(column.shape[1:]))


def flat(column: Array) -> tuple[Array, Array]:
    """The column as (elements, columns) with the row of each element line, (elements,) integers.

    The last axis stays where all rows share it; all other axes are laid out one after the other.
    """
    if not is_ragged(column):
        width = column.shape[-1] if column.ndim > 1 else 1
        lines = column.reshape(-1, width) if width else column.reshape(len(column), 0)
        per_row = len(lines) // len(column) if len(column) else 1
        return lines, np.repeat(np.arange(len(column)), per_row)
    widths = {row.shape[-1] if row.ndim > 1 else 1 for row in column}
    width = widths.pop() if len(widths) == 1 else 1
    parts = [np.asarray(row).reshape(-1, width) for row in column]
    return np.concatenate(parts), np.repeat(np.arange(len(column)), [len(part) for part in parts])


def same_layout(reference: Array, candidate: Array) -> bool:
    """Whether both have the same rows, and rows of the same shape."""
    if is_ragged(reference) or is_ragged(candidate):
        return len(reference) == len(candidate) and all(
            np.shape(a) == np.shape(b) for a, b in zip(reference, candidate, strict=True)
        )
    return reference.shape == candidate.shape


def row_hashes(columns: Sequence[Any], rows: int) -> Array:
    """(rows,) uint64, equal for equal rows. Two different rows collide once in 10¹⁹ pairs and then count as one."""
    hashes = np.zeros(rows, dtype=np.uint64)
    for column in columns:
        for part in _hashed_parts(np.asarray(column)):
            with np.errstate(over="ignore"):
                hashes = (hashes ^ part) * _MULTIPLIER
                hashes ^= hashes >> np.uint64(29)
    return hashes


def _hashed_parts(column: Array) -> list[Array]:
    if is_ragged(column):
        return [_hashed([repr(row.shape).encode() + row.tobytes() for row in column])]
    lines = cells(column)
    if lines.dtype.kind in "OUS":
        return [
            _hashed(["\x00missing" if _is_missing(value) else value for value in lines[:, position].tolist()])
            for position in range(lines.shape[1])
        ]
    if lines.shape[1] > _WIDE:
        return [_hashed([line.tobytes() for line in np.ascontiguousarray(lines)])]
    return [_mixed(np.ascontiguousarray(lines[:, position])) for position in range(lines.shape[1])]


_WIDE: Final = 256
"""Columns beyond which rows are hashed as bytes, not column by column."""


def _hashed(values: list[Any]) -> Array:
    """Of text or bytes, which this process, and it alone, hashes alike."""
    return np.fromiter(map(hash, values), np.int64, len(values)).view(np.uint64)


def _mixed(numbers: Array) -> Array:
    """The bits of numbers, mixed well: https://doi.org/10.1145/2714064.2660195."""
    hashes = numbers.view(f"u{numbers.dtype.itemsize}").astype(np.uint64)
    with np.errstate(over="ignore"):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)))


def factorized(values: Array) -> tuple[Array, list[Any]]:
    """(rows,) codes from 0 and the value of each, missing values as one; in order of first appearance."""
    if values.dtype.kind in "OUS":
        # Each value as itself, unless it is missing; most come often, so that this is asked of few.
        keys = values.tolist()
        shown = {value: None if _is_missing(value) else value for value in dict.fromkeys(keys)}
        known = {value: code for code, value in enumerate(dict.fromkeys(shown.values()))}
        codes = {value: known[key] for value, key in shown.items()}
        return np.fromiter(map(codes.__getitem__, keys), np.int64, len(keys)), list(known)
    narrow = _narrow(values)
    if narrow is not None:
        return narrow
    _, first, sorted_codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places[sorted_codes], [value.item() for value in values[first[order]]]


def _narrow(values: Array) -> tuple[Array, list[Any]] | None:
    """As `factorized`, without sorting: of integers that lie close together, such as classes; None = others."""
    if values.dtype.kind not in "iu" or not len(values):
        return None
    low, high = int(values.min()), int(values.max())
    if high - low > _NARROW or high > np.iinfo(np.int64).max:
        return None
    places = values.astype(np.int64) - low
    first = np.full(high - low + 1, len(values))
    # Backwards, so that what is written last stays: the first row of each.
    first[places[::-1]] = np.arange(len(values) - 1, -1, -1)
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(values))]
    codes = np.empty(high - low + 1, dtype=np.int64)
    codes[order] = np.arange(len(order))
    return codes[places], [int(place) + low for place in order]


def _is_missing(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN is unequal to itself


def different(reference: Array, candidate: Array) -> Array:
    """(rows,) bool: rows in which any value that is not a measured number differs; missing text equals ""."""
    if is_ragged(reference):
        return np.asarray([not np.array_equal(a, b) for a, b in zip(reference, candidate, strict=True)], dtype=bool)
    left, right = reference, candidate
    if left.dtype.kind in "OUS" or right.dtype.kind in "OUS":
        left, right = text(left), text(right)
    unequal = np.asarray(left != right, dtype=bool)
    if not unequal.size:
        return np.zeros(len(reference), dtype=bool)
    return np.asarray(cells(unequal).any(axis=1))


def text(column: Array) -> Array:
    """Values as str, missing as "", of the same shape."""
    if column.dtype.kind == "U":
        return column.astype(object)
    texts = np.empty(column.shape, dtype=object)
    texts.reshape(-1)[:] = [_text(value) for value in column.reshape(-1).tolist()]
    return texts


def _text(value: object) -> str:
    if _is_missing(value):
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
