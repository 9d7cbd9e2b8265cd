"""Columns of answers and inputs of any shape, dense or ragged, seen alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[Any]
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


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
        texts = np.asarray([repr(row.shape).encode() + row.tobytes() for row in column], dtype=object)
        return [pd.util.hash_array(texts)]
    lines = cells(column)
    if lines.dtype == object:
        texts = np.where(pd.isna(lines), "\x00missing", lines)
        return [pd.util.hash_array(texts[:, position], categorize=True) for position in range(lines.shape[1])]
    if lines.shape[1] > _WIDE:
        return [pd.util.hash_array(_as_bytes(lines))]
    return [pd.util.hash_array(np.ascontiguousarray(lines[:, position])) for position in range(lines.shape[1])]


_WIDE: Final = 256
"""Columns beyond which rows are hashed as bytes, not column by column."""


def _as_bytes(lines: Array) -> Array:
    return np.asarray([line.tobytes() for line in np.ascontiguousarray(lines)], dtype=object)


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
    if value is None or value != value:  # noqa: PLR0124 - NaN is unequal to itself
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
