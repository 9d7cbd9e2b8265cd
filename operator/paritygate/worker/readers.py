"""Readers of dataset files: one function per format from a path to a table, none of which guesses or fills in."""

from __future__ import annotations

import csv
import json
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from paritygate.agent.exchange import Category
from paritygate.errors import ConfigurationError
from paritygate.worker.arrow import from_arrow
from paritygate.worker.values import Pairs, Table, from_values, objects, refuse_duplicates, unreadable

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"})
"""What a csv cell without quotes may hold to say that there is no value."""
_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z|[+-]?inf(inity)?\Z", re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}


def read_parquet(path: Path) -> Table:
    """Columns of a parquet file in their stored types."""
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise unreadable(path, "parquet", error) from error
    refuse_duplicates(path, table.column_names)
    index, categorical = _stored_index(table), _stored_categories(table)
    return OrderedDict(
        (name, from_arrow(path, name, column.dictionary_encode() if name in categorical else column))
        for name, column in zip(table.column_names, table.columns, strict=True)
        if name not in index
    )


def read_csv(path: Path) -> Table:
    """Columns of a csv file with a header: integer, float, boolean or text, whichever every cell of the column is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream, strict=True)
            header = next(rows, [])
            refuse_duplicates(path, header)
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
        raise unreadable(path, "csv in UTF-8", error) from error
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
        raise unreadable(path, "jsonl in UTF-8", error) from error
    return OrderedDict((name, from_values(path, name, values)) for name, values in columns.items())


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
                table[name] = from_values(path, name, list(array)) if array.dtype == object else array
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise unreadable(path, "npz", error) from error
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


def _stored_index(table: pa.Table) -> set[str]:
    """Columns in which pandas kept an unnamed row index: not data."""
    stored = (table.schema.metadata or {}).get(b"pandas")
    if stored is None:
        return set()
    columns = json.loads(stored).get("index_columns", [])
    return {name for name in columns if isinstance(name, str) and re.fullmatch(r"__index_level_\d+__", name)}


def _stored_categories(table: pa.Table) -> set[str]:
    """Columns that pandas stored as categories and parquet, which keeps only those of text, as plain numbers."""
    stored = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    return {
        column["name"]
        for column in stored.get("columns", ())
        if column.get("pandas_type") == "categorical"
        and column["name"] in table.column_names
        and not pa.types.is_dictionary(table.schema.field(column["name"]).type)
    }


def _from_cells(path: Path, name: str, cells: list[str]) -> Any:
    present = [cell for cell in cells if cell not in MISSING]
    if present and all(_INTEGER.match(cell) for cell in present):
        values = [None if cell in MISSING else int(cell) for cell in cells]
        return from_values(path, name, values)
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
    return objects([cell or None for cell in cells])


def _add_object(path: Path, number: int, line: str, columns: OrderedDict[str, list[Any]]) -> None:
    try:
        pairs = json.loads(line, object_pairs_hook=Pairs)
    except ValueError as error:
        raise unreadable(path, f"jsonl (line {number})", error) from error
    if not isinstance(pairs, Pairs):
        raise ConfigurationError("DatasetUnreadable", f"{path} line {number} is not a JSON object; write one per line")
    refuse_duplicates(path, [key for key, _ in pairs])
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


def _read_array(path: Path, name: str, archive: zipfile.ZipFile, member: str) -> np.ndarray[Any, Any]:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        if dtype.hasobject:
            try:
                array = _ArraysOnly(stream).load()
            except (pickle.UnpicklingError, AttributeError, IndexError, KeyError) as error:
                raise unreadable(path, f"npz (array {name!r})", error) from error
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
