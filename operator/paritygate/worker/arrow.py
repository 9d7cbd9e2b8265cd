"""Columns of parquet files in their stored types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from paritygate.agent.exchange import Category
from paritygate.errors import ConfigurationError
from paritygate.worker.values import as_floats, from_values, objects


def from_arrow(path: Path, name: str, column: pa.ChunkedArray) -> Any:
    """A column of a parquet file. ConfigurationError: no tensor, text or category can carry its type."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], type=column.type)
    for is_kind, convert in _ARROW.items():
        if is_kind(array.type):
            return convert(path, name, array)
    raise ConfigurationError(
        "DatasetUnreadable",
        f"{path}: column {name!r} has type {array.type}; write numbers, booleans, text, datetimes, categories or lists "
        "of numbers",
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_datetime(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _from_dictionary(path: Path, name: str, array: Any) -> Category:
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return Category(codes, from_arrow(path, name, pa.chunked_array([array.dictionary])), array.type.ordered)


def _from_text(_path: Path, _name: str, array: Any) -> np.ndarray[Any, Any]:
    column = np.empty(len(array), dtype=object)
    column[:] = array.to_pylist()
    return column


def _from_decimal(_path: Path, _name: str, array: Any) -> np.ndarray[Any, Any]:
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _from_datetime(path: Path, name: str, array: Any) -> np.ndarray[Any, Any]:
    _refuse_nulls(path, name, array, "datetime")
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _from_boolean(path: Path, name: str, array: Any) -> np.ndarray[Any, Any]:
    _refuse_nulls(path, name, array, "boolean")
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _from_number(path: Path, name: str, array: Any) -> np.ndarray[Any, Any]:
    if pa.types.is_integer(array.type) and array.null_count:
        return as_floats(path, name, array.to_pylist())
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=array.type.to_pandas_dtype())


def _from_nulls(_path: Path, _name: str, array: Any) -> np.ndarray[Any, Any]:
    return np.full(len(array), np.nan)


def _from_arrow_lists(path: Path, name: str, array: Any) -> Any:
    inner = array.type.value_type
    plain = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not plain or array.null_count or not len(array):
        return from_values(path, name, array.to_pylist(), _element_dtype(array.type))
    flat = array.flatten()
    if flat.null_count:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: lists in column {name!r} have {flat.null_count} missing values; write NaN where there is none",
        )
    values = flat.to_numpy(zero_copy_only=False)
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    if (lengths == lengths[0]).all():
        return values.reshape(len(lengths), -1) if lengths[0] else values.reshape(len(lengths), 0)
    return objects(np.split(values, np.cumsum(lengths)[:-1]))


_ARROW: dict[Callable[[pa.DataType], bool], Callable[[Path, str, Any], Any]] = {
    pa.types.is_dictionary: _from_dictionary,
    _is_text: _from_text,
    _is_list: _from_arrow_lists,
    pa.types.is_decimal: _from_decimal,
    _is_datetime: _from_datetime,
    pa.types.is_boolean: _from_boolean,
    _is_number: _from_number,
    pa.types.is_null: _from_nulls,
}


def _element_dtype(kind: pa.DataType) -> Any:
    while not pa.types.is_primitive(kind) and hasattr(kind, "value_type"):
        kind = kind.value_type
    return np.dtype(kind.to_pandas_dtype()) if pa.types.is_primitive(kind) else None


def _refuse_nulls(path: Path, name: str, array: pa.Array, kind: str) -> None:
    if array.null_count:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: {kind} column {name!r} has {array.null_count} missing values, which no tensor can carry; "
            "write it as numbers or text, as the model was trained on",
        )
