"""Datasets: parquet, csv, jsonl, npz or a folder of shards of one of these, as one table of columns.

The table holds every row and column in file order (`paritygate.agent.exchange` says how columns are stored). Nothing
is dropped and nothing is filled in: what cannot be read exactly as it stands is an error that names the file, the
column, what was expected and what was found. docs/reference/datasets.md states the rules of each format.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from paritygate.agent import exchange
from paritygate.errors import ConfigurationError
from paritygate.worker.readers import READERS, suffix_of
from paritygate.worker.stage import progress
from paritygate.worker.values import Table

ROWS = "rows.npz"


def run(uri: Path, out: Path) -> None:
    """Stage `dataset`: reads the dataset at `uri` and writes `out/rows.npz`. ConfigurationError says what is wrong."""
    exchange.save(str(out / ROWS), read(uri))


def read(path: Path) -> Table:
    """The dataset at `path` as an ordered table of columns."""
    if not path.exists():
        raise ConfigurationError("DatasetUnreadable", f"there is no dataset at {path}; correct validation.dataset.uri")
    shards = _shards(path) if path.is_dir() else [path]
    tables = []
    for position, shard in enumerate(shards):
        tables.append(_read_file(shard))
        progress(f"reading {shard.name}", position + 1, len(shards))
    table = _joined(shards, tables)
    if not len(next(iter(table.values()))):
        raise ConfigurationError(
            "DatasetEmpty", f"{path} has columns but no rows; give held-out rows that the model can answer"
        )
    return table


def _shards(folder: Path) -> list[Path]:
    """The files of a folder in name order. Hidden files and markers such as `_SUCCESS` are not shards."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] not in "._")
    if not files:
        raise ConfigurationError(
            "DatasetEmpty", f"folder {folder} holds no files; it must hold shards: {', '.join(READERS)}"
        )
    formats = {READERS.get(suffix_of(file)) for file in files}
    if len(formats) != 1:
        raise ConfigurationError(
            "DatasetUnreadable",
            f"folder {folder} holds files of several formats ({', '.join(sorted({file.suffix for file in files}))}); "
            "all shards must have one",
        )
    return files


def _read_file(path: Path) -> Table:
    reader = READERS.get(suffix_of(path))
    if reader is None:
        raise ConfigurationError(
            "DatasetUnreadable", f"{path} has no known ending; name it one of {', '.join(f'*{s}' for s in READERS)}"
        )
    if path.stat().st_size == 0:
        raise ConfigurationError("DatasetUnreadable", f"{path} is empty (0 bytes); write it again")
    table = reader(path)
    if not table:
        raise ConfigurationError("DatasetEmpty", f"{path} has no columns")
    lengths = {name: len(column) for name, column in table.items()}
    if len(set(lengths.values())) != 1:
        longest, shortest = max(lengths, key=lengths.__getitem__), min(lengths, key=lengths.__getitem__)
        raise ConfigurationError(
            "DatasetUnreadable",
            f"{path}: column {longest!r} has {lengths[longest]} rows and {shortest!r} has {lengths[shortest]}; "
            "every array must have one entry per row along its first axis",
        )
    return table


def _joined(shards: list[Path], tables: list[Table]) -> Table:
    first, table = tables[0], OrderedDict()
    for shard, other in zip(shards, tables, strict=True):
        if list(other) != list(first):
            differing = sorted(set(other) ^ set(first)) or [a for a, b in zip(other, first, strict=True) if a != b]
            raise ConfigurationError(
                "ShardsDiffer",
                f"{shard} has other columns than {shards[0]} (differing: {', '.join(map(repr, differing))}); "
                "all shards must have the same columns in the same order",
            )
    for name in first:
        table[name] = _concatenated(name, shards, [other[name] for other in tables])
    return table


def _concatenated(name: str, shards: list[Path], columns: list[Any]) -> Any:
    if len(columns) == 1:
        return columns[0]
    # A shard without rows, or a csv column without a value, says nothing about the kind of its column.
    telling = [(shard, column) for shard, column in zip(shards, columns, strict=True) if len(column)] or [
        (shards[0], columns[0])
    ]
    kinds = {_kind(column): shard for shard, column in telling}
    if kinds.keys() <= {"integer", "float"}:
        return np.concatenate([np.asarray(column) for _, column in telling])
    if len(kinds) != 1:
        (one, here), (two, there) = sorted(kinds.items())[:2]
        raise ConfigurationError(
            "ShardsDiffer",
            f"column {name!r} is {one} in {here} and {two} in {there}; write all shards with one type per column",
        )
    parts = [column for _, column in telling]
    if isinstance(parts[0], exchange.Category):
        return _joined_categories(name, telling)
    if "lists" in kinds and (
        any(part.dtype == object for part in parts) or len({part.shape[1:] for part in parts}) > 1
    ):
        rows = [np.asarray(row) for part in parts for row in part]
        column = np.empty(len(rows), dtype=object)
        for position, row in enumerate(rows):
            column[position] = row
        return column
    return np.concatenate(parts)


def _joined_categories(name: str, telling: list[tuple[Path, Any]]) -> exchange.Category:
    known: dict[Any, int] = {}
    codes = []
    for shard, column in telling:
        if column.ordered and list(column.categories) != list(telling[0][1].categories):
            raise ConfigurationError(
                "ShardsDiffer", f"ordered categories of column {name!r} differ between {telling[0][0]} and {shard}"
            )
        places = np.asarray([known.setdefault(value, len(known)) for value in column.categories], dtype=np.int32)
        own = np.asarray(column.codes)
        codes.append(np.where(own < 0, -1, places[np.maximum(own, 0)] if len(places) else -1))
    categories = np.asarray(list(known), dtype=telling[0][1].categories.dtype)
    return exchange.Category(np.concatenate(codes), categories, telling[0][1].ordered)


def _kind(column: Any) -> str:
    if isinstance(column, exchange.Category):
        return "category"
    if column.ndim > 1 or (column.dtype == object and len(column) and isinstance(column[0], np.ndarray)):
        return "lists"
    if column.dtype == object:
        return "text"
    kinds = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "m": "duration", "M": "datetime"}
    return kinds.get(column.dtype.kind, str(column.dtype))
