"""Columns from Python values of one kind, and the errors that name what stands where it should not."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from paritygate.errors import ConfigurationError

Table = OrderedDict[str, Any]

_EXACT = 2**53


class Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stand, twice if they stand twice."""


def unreadable(path: Path, form: str, error: Exception) -> ConfigurationError:
    """The error for a file that is not what its ending says."""
    return ConfigurationError(
        "DatasetUnreadable",
        f"{path} is not a whole {form} file: {' '.join(str(error).split())}; it may be truncated or of another format",
    )


def refuse_duplicates(path: Path, names: list[str]) -> None:
    """ConfigurationError: two columns have one name."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path} has several columns named {', '.join(map(repr, twice))}; every column needs a name of its own",
        )


def as_floats(path: Path, name: str, values: list[Any]) -> np.ndarray[Any, Any]:
    """Numbers as float64, None as NaN. ConfigurationError: an integer that no float64 holds stands among them."""
    large = next((v for v in values if isinstance(v, int) and abs(v) > _EXACT), None)
    if large is not None:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: column {name!r} has missing values and integers beyond 2**53 (such as {large}), which no float "
            "holds exactly; write it as text or without missing values",
        )
    return np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)


def from_values(path: Path, name: str, values: list[Any], dtype: Any = None) -> Any:
    """A column from Python values of one kind: booleans, integers, numbers, text, or (nested) lists of numbers."""
    kinds = Counter(_kind_of(value) for value in values)
    missing = kinds.pop("missing", 0)
    if kinds.keys() <= {"boolean"} and kinds and not missing:
        return np.asarray(values, dtype=bool)
    if kinds.keys() == {"integer"} and not missing:
        return _integers(path, name, values)
    if kinds.keys() <= {"integer", "float"}:
        return as_floats(path, name, values)
    if kinds.keys() == {"text"}:
        return objects([value.decode() if isinstance(value, bytes) else value for value in values])
    if kinds.keys() == {"list"} and not missing:
        return _lists(path, name, values, dtype)
    found = [*kinds, *(["missing values"] if missing else [])]
    row = next((row for row, value in enumerate(values) if _kind_of(value) != _kind_of(values[0])), 0)
    raise ConfigurationError(
        "DatasetMixedTypes",
        f"{path}: column {name!r} holds {' and '.join(sorted(found))} (first in data row {row + 1}: {values[row]!r}); "
        "every column must hold one type",
    )


def objects(values: list[Any]) -> np.ndarray[Any, Any]:
    """One-dimensional object array, also of values that are arrays themselves."""
    column = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        column[position] = value
    return column


def _integers(path: Path, name: str, values: list[int]) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(values, dtype=np.int64)
    except OverflowError:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: column {name!r} holds integers that 64 bits cannot hold; write identifiers as text",
        ) from None


def _lists(path: Path, name: str, values: list[Any], dtype: Any) -> Any:
    try:
        rows = [np.asarray(value) if len(value) else np.asarray(value, dtype=dtype or np.float64) for value in values]
    except ValueError as error:
        raise ConfigurationError(
            "DatasetUnreadable", f"{path}: lists in column {name!r} are ragged inside a row: {error}"
        ) from error
    odd = next((row for row, value in enumerate(rows) if value.dtype.kind not in "biuf"), None)
    if odd is not None:
        if len({row.shape for row in rows}) == 1 and all(row.dtype.kind in "US" for row in rows):
            return np.stack(rows).astype(object)
        raise ConfigurationError(
            "DatasetMixedTypes",
            f"{path}: column {name!r} must hold lists of numbers; data row {odd + 1} holds {values[odd]!r:.80}",
        )
    common = dtype or np.result_type(*{row.dtype for row in rows if row.size} or {np.dtype(np.float64)})
    rows = [row.astype(common) for row in rows]
    if len({row.shape for row in rows}) == 1:
        return np.stack(rows)
    if len({row.ndim for row in rows}) != 1:
        raise ConfigurationError(
            "DatasetUnreadable", f"{path}: lists in column {name!r} have different depths; write one depth"
        )
    return objects(rows)


def _kind_of(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "float" if isinstance(value, float) else "missing"
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | np.integer):
        return "integer"
    if isinstance(value, float | np.floating):
        return "float"
    if isinstance(value, str | bytes):
        return "text"
    return "list" if isinstance(value, list | np.ndarray) and not isinstance(value, Pairs) else "objects"
