"""Reads pickles, joblib and skops files without importing or running anything that they name.

A pickle is a program for a stack machine. It is carried out here with every import replaced by a stand-in class that
only remembers how it was called, so classes, attributes, versions and array sizes come out, and no foreign code runs.
This is telemetry, not protection: what a pickle does is known for certain only by loading it where that is safe.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import numpy as np

from paritygate.errors import ConfigurationError
from paritygate.worker.pickle_machine import Array, Machine, Symbol
from paritygate.worker.sniff import sniffed

_OPENERS: Final[dict[bytes, Callable[[BinaryIO], Any]]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZ": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"]\x00\x00": lambda file: lzma.open(file, format=lzma.FORMAT_ALONE),  # noqa: SIM115 - the caller closes `file`
}
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_LZ4: Final = b"\x04\x22\x4d\x18"
_UNREADABLE: Final = (
    pickle.UnpicklingError, EOFError, OSError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile,
    ValueError, KeyError, IndexError, AttributeError, TypeError, UnicodeError, OverflowError, RecursionError,
)  # fmt: skip
"""What the reader may raise on bytes that are no pickle: the stack machine trusts its input."""


@dataclass(frozen=True)
class Contents:
    """What a file says about the model in it."""

    root: Any
    """The object that loading would give, as Symbols, Arrays and plain values."""
    imports: tuple[str, ...]
    """As 'module.name', in the order in which the file first names them."""

    def symbols(self) -> Iterator[Symbol]:
        """All objects, outermost first, each once."""
        return (value for value in walk(self.root) if isinstance(value, Symbol))

    def instances(self, *names: str) -> list[Symbol]:
        """Objects whose class bears one of these names, whatever its module."""
        return [symbol for symbol in self.symbols() if symbol.path.rpartition(".")[2] in names]

    def parameters(self) -> int:
        """Elements of all numeric arrays but states of random generators."""
        arrays = (value for value in walk(self.root) if isinstance(value, Array))
        return sum(a.size for a in arrays if a.dtype is None or (a.dtype.kind in "fciubV" and a.dtype != np.uint32))


def walk(root: Any) -> Iterator[Any]:
    """Everything reachable from `root`, outermost first, each object once."""
    queue, seen = [root], set()
    while queue:
        following: list[Any] = []
        for value in queue:
            if isinstance(value, (str, bytes, bytearray, int, float, complex, bool, type(None))) or id(value) in seen:
                continue
            seen.add(id(value))
            yield value
            following.extend(_parts(value))
        queue = following


def named(value: Any) -> str:
    """What an object of `Contents` is, for a message: 'a sklearn.svm.SVC', 'a dict'."""
    kind = (
        value.path if isinstance(value, Symbol) else "numpy array" if isinstance(value, Array) else type(value).__name__
    )
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def read_pickle(path: Path) -> Contents:
    """The contents of a pickle, joblib (compressed or not) or skops file.

    ConfigurationError (ModelUnreadable): it is truncated, or of another format, which is then named.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_skops(path)
        with path.open("rb") as file:
            return _read_stream(decompressed(file))
    except _UNREADABLE as error:
        raise unreadable(path, "a pickle, joblib or skops file", error) from error


def unreadable(path: Path, expected: str, error: Exception | str) -> ConfigurationError:
    """Says that source.uri is not `expected`, and which source.format it looks like."""
    looks = sniffed(path) if path.is_file() else None
    if looks is not None and looks.hint is not None:
        advice = f"it looks like {looks.what}; {looks.hint}"
    else:
        advice = "it is truncated or damaged, or was written by something else; copy or export the model again"
    if isinstance(error, Exception):
        error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ConfigurationError("ModelUnreadable", f"source.uri: {path.name} is not {expected} ({error}): {advice}")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Symbol):
        return [value.state, *value.arguments, *value.items]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return []


def decompressed(file: BinaryIO) -> BinaryIO:
    """The file's content, unpacked where joblib compressed it. ValueError: compressed with lz4."""
    magic = file.read(8)
    file.seek(0)
    if magic.startswith(_ZLIB):
        return io.BytesIO(zlib.decompress(file.read()))
    if magic.startswith(_LZ4):
        raise ValueError("compressed with lz4, which is not read here; save it again with joblib.dump(model, path)")
    for start, opener in _OPENERS.items():
        if magic.startswith(start):
            return io.BufferedReader(opener(file))
    return file


def _read_stream(stream: BinaryIO) -> Contents:
    machine = Machine(stream)
    root = machine.load()
    if not machine.imports and isinstance(root, (str, bytes, int, float, type(None))):
        raise pickle.UnpicklingError("it holds a plain value, no model")
    return Contents(root, tuple(machine.imports))


def _read_skops(path: Path) -> Contents:
    with zipfile.ZipFile(path) as archive:
        if "schema.json" not in archive.namelist():
            raise ValueError("a ZIP archive without skops' schema.json")
        imports: dict[str, type[Symbol]] = {}
        return Contents(_skops_node(json.loads(archive.read("schema.json")), archive, imports), tuple(imports))


def _skops_node(node: Any, archive: zipfile.ZipFile, imports: dict[str, type[Symbol]]) -> Any:
    if isinstance(node, list):
        return [_skops_node(part, archive, imports) for part in node]
    if not isinstance(node, dict):
        return node
    if "__class__" not in node:
        return {key: _skops_node(value, archive, imports) for key, value in node.items()}
    return _skops_object(node, archive, imports)


def _skops_object(node: dict[str, Any], archive: zipfile.ZipFile, imports: dict[str, type[Symbol]]) -> Any:
    """What a node with a class stands for: a plain value, an array, a container or an object."""
    content = node.get("content")
    if node.get("__loader__") == "JsonNode" and isinstance(content, str):
        return json.loads(content)
    if isinstance(node.get("file"), str) and node["file"].endswith(".npy"):
        with archive.open(node["file"]) as member:
            return _npy_header(member)
    if node["__module__"] == "builtins" and node["__class__"] in {"dict", "list", "tuple", "set"}:
        return _skops_node(content, archive, imports)
    path = f"{node['__module__']}.{node['__class__']}"
    if path not in imports:
        imports[path] = cast("type[Symbol]", type(node["__class__"], (Symbol,), {"path": path}))
    made = imports[path]()
    attributes = node.get("attrs")
    made.state = _skops_node(content if attributes is None else attributes, archive, imports)
    return made


def _npy_header(member: Any) -> Array:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    return Array(shape, dtype)


STANDARD_LIBRARY: Final = frozenset(sys.stdlib_module_names)
