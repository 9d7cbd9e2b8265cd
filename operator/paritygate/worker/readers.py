"""Readers of dataset files: one function per format from a path to a table, none of which guesses or fills in."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paritygate.agent.exchange import Category
from paritygate.errors import ConfigurationError

Table = OrderedDict[str, Any]

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
"""What a csv cell without quotes may hold to say that there is no value."""
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z|[+-]?inf(inity)?\Z", re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_EXACT = 2**53


def read_parquet(path: Path) -> Table:
    """Columns of a parquet file in their stored types."""
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(path, "parquet", error) from error
    _refuse_duplicates(path, table.column_names)
    index = _stored_index(table)
    return OrderedDict(
        (name, _from_arrow(path, name, table.column(position)))
        for position, name in enumerate(table.column_names)
        if name not in index
    )


def read_csv(path: Path) -> Table:
    """Columns of a csv file with a header: integer, float, boolean or text, whichever every cell of the column is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            header = next(rows, [])
            _refuse_duplicates(path, header)
            cells: list[list[str]] = [[] for _ in header]
            for row in rows:
                if len(row) != len(header):
                    if not row and len(header) > 1:
                        continue
                    raise ConfigurationError(
                        "DatasetUnreadable",
                        f"{path} line {rows.line_num} has {len(row)} cells and the header has {len(header)}; "
                        "quote cells that hold commas, and write every row in full",
                    )
                for column, cell in zip(cells, row, strict=True):
                    column.append(cell)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, "csv in UTF-8", error) from error
    return OrderedDict((name, _from_cells(path, name, column)) for name, column in zip(header, cells, strict=True))


def read_jsonl(path: Path) -> Table:
    """Columns of a file with one JSON object per line, all with the same keys."""
    columns: OrderedDict[str, list[Any]] = OrderedDict()
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    _add_object(path, number, line, columns)
    except UnicodeDecodeError as error:
        raise _unreadable(path, "jsonl in UTF-8", error) from error
    return OrderedDict((name, _from_values(path, name, values)) for name, values in columns.items())


def read_npz(path: Path) -> Table:
    """Arrays of an npz file by name. Object arrays hold text, or arrays of varying length."""
    table: Table = OrderedDict()
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                array = _read_array(path, name, archive, member)
                if array.ndim == 0:
                    raise ConfigurationError(
                        "DatasetUnreadable", f"{path}: array {name!r} is a single number; rows go along the first axis"
                    )
                table[name] = _from_values(path, name, list(array)) if array.dtype == object else array
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise _unreadable(path, "npz", error) from error
    for name, array in table.items():
        if not isinstance(array, Category) and array.dtype.kind in "US":
            table[name] = np.char.decode(array).astype(object) if array.dtype.kind == "S" else array.astype(object)
    return table


READERS: dict[str, Callable[[Path], Table]] = {
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".npz": read_npz,
}


def suffix_of(path: Path) -> str:
    """The ending that names a file's format."""
    return path.suffix.lower()


def _unreadable(path: Path, form: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        "DatasetUnreadable",
        f"{path} is not a whole {form} file: {' '.join(str(error).split())}; it may be truncated or of another format",
    )


def _refuse_duplicates(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path} has several columns named {', '.join(map(repr, twice))}; every column needs a name of its own",
        )


def _stored_index(table: pa.Table) -> set[str]:
    """Columns in which pandas kept an unnamed row index: not data."""
    stored = (table.schema.metadata or {}).get(b"pandas")
    if stored is None:
        return set()
    columns = json.loads(stored).get("index_columns", [])
    return {name for name in columns if isinstance(name, str) and re.fullmatch(r"__index_level_\d+__", name)}


def _from_arrow(path: Path, name: str, column: pa.ChunkedArray) -> Any:
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
    return Category(codes, _from_arrow(path, name, pa.chunked_array([array.dictionary])), array.type.ordered)


def _from_text(_path: Path, _name: str, array: Any) -> np.ndarray[Any, Any]:
    return _objects(array.to_pylist())


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
        return _as_floats(path, name, array.to_pylist())
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=array.type.to_pandas_dtype())


def _from_nulls(_path: Path, _name: str, array: Any) -> np.ndarray[Any, Any]:
    return np.full(len(array), np.nan)


def _from_arrow_lists(path: Path, name: str, array: Any) -> Any:
    inner = array.type.value_type
    plain = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    if not plain or array.null_count or not len(array):
        return _from_values(path, name, array.to_pylist(), _element_dtype(array.type))
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
    return _objects(np.split(values, np.cumsum(lengths)[:-1]))


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


def _as_floats(path: Path, name: str, values: list[Any]) -> np.ndarray[Any, Any]:
    large = next((v for v in values if isinstance(v, int) and abs(v) > _EXACT), None)
    if large is not None:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: column {name!r} has missing values and integers beyond 2**53 (such as {large}), which no float "
            "holds exactly; write it as text or without missing values",
        )
    return np.asarray([math.nan if value is None else value for value in values], dtype=np.float64)


def _from_cells(path: Path, name: str, cells: list[str]) -> Any:
    present = [cell for cell in cells if cell not in MISSING]
    if present and all(_INTEGER.match(cell) for cell in present):
        values = [None if cell in MISSING else int(cell) for cell in cells]
        return _from_values(path, name, values)
    if all(_INTEGER.match(cell) or _FLOAT.match(cell) for cell in present):
        return np.asarray([math.nan if cell in MISSING else float(cell) for cell in cells], dtype=np.float64)
    if all(cell in _BOOLEANS for cell in present) and len(present) == len(cells):
        return np.asarray([_BOOLEANS[cell] for cell in cells])
    numeric = [(row, cell) for row, cell in enumerate(cells) if _FLOAT.match(cell)]
    if len(numeric) > len(present) - len(numeric):
        row, cell = next((row, c) for row, c in enumerate(cells) if c not in MISSING and not _FLOAT.match(c))
        raise ConfigurationError(
            "DatasetMixedTypes",
            f"{path}: column {name!r} holds numbers in {len(numeric)} rows and {cell!r} in data row {row + 1}; write "
            "numbers only (an empty cell where there is none), or give the dataset as parquet to state text",
        )
    return _objects([cell or None for cell in cells])


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as they stand, twice if they stand twice."""


def _add_object(path: Path, number: int, line: str, columns: OrderedDict[str, list[Any]]) -> None:
    try:
        pairs = json.loads(line, object_pairs_hook=_Pairs)
    except ValueError as error:
        raise _unreadable(path, f"jsonl (line {number})", error) from error
    if not isinstance(pairs, _Pairs):
        raise ConfigurationError("DatasetUnreadable", f"{path} line {number} is not a JSON object; write one per line")
    _refuse_duplicates(path, [key for key, _ in pairs])
    found = dict(pairs)
    if not columns:
        columns.update((key, []) for key in found)
    if found.keys() != columns.keys():
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path} line {number} has other keys than line 1 (differing: "
            f"{', '.join(map(repr, sorted(found.keys() ^ columns.keys())))}); write null where there is no value",
        )
    for key, value in found.items():
        columns[key].append(value)


def _from_values(path: Path, name: str, values: list[Any], dtype: Any = None) -> Any:
    """A column from Python values of one kind: booleans, integers, numbers, text, or (nested) lists of numbers."""
    kinds = Counter(_kind_of(value) for value in values)
    missing = kinds.pop("missing", 0)
    if kinds.keys() <= {"boolean"} and kinds and not missing:
        return np.asarray(values, dtype=bool)
    if kinds.keys() == {"integer"} and not missing:
        return _integers(path, name, values)
    if kinds.keys() <= {"integer", "float"}:
        return _as_floats(path, name, values)
    if kinds.keys() == {"text"}:
        return _objects([value.decode() if isinstance(value, bytes) else value for value in values])
    if kinds.keys() == {"list"} and not missing:
        return _lists(path, name, values, dtype)
    found = [*kinds, *(["missing values"] if missing else [])]
    row = next((row for row, value in enumerate(values) if _kind_of(value) != _kind_of(values[0])), 0)
    raise ConfigurationError(
        "DatasetMixedTypes",
        f"{path}: column {name!r} holds {' and '.join(sorted(found))} (first in data row {row + 1}: {values[row]!r}); "
        "every column must hold one type",
    )


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
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
    return _objects(rows)


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
    return "list" if isinstance(value, list | np.ndarray) and not isinstance(value, _Pairs) else "objects"


def _read_array(path: Path, name: str, archive: zipfile.ZipFile, member: str) -> np.ndarray[Any, Any]:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        if dtype.hasobject:
            try:
                array = _ArraysOnly(stream).load()
            except (pickle.UnpicklingError, AttributeError, IndexError, KeyError) as error:
                raise _unreadable(path, f"npz (array {name!r})", error) from error
            return np.asarray(array, dtype=object).reshape(shape)
    with archive.open(member) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


class _ArraysOnly(pickle.Unpickler):
    """Reads object arrays of numpy and refuses everything else: a dataset must not be able to run code."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "encode"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] in ("numpy", "_codecs") and name in self._ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds a {module}.{name}; object arrays may hold text and numeric arrays only")
