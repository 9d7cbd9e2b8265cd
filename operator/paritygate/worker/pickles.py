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
import math
import pickle
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Self, cast

import numpy as np

from paritygate.errors import ConfigurationError
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
class Array:
    """A numpy array in the file, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None
    """None = could not be told."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class Symbol:
    """An object that the file would make: what was imported, called with what, and given which state."""

    path = "builtins.object"

    def __new__(cls, *arguments: Any, **_: Any) -> Self:
        """Remembers the arguments."""
        self = object.__new__(cls)
        self.arguments = arguments
        self.state = None
        self.items = []
        return self

    arguments: tuple[Any, ...]
    state: Any
    items: list[Any]

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Takes an item, as a subclass of list does."""
        self.items.append(item)

    add = append

    def extend(self, items: Any) -> None:
        """Takes items, as a subclass of list does."""
        self.items.extend(items)

    update = extend

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def attributes(self) -> dict[str, Any]:
        """The attributes that the file gives the object, by name."""
        state = self.state
        if isinstance(state, tuple) and len(state) == 2:  # noqa: PLR2004 - (__dict__, __slots__)
            state = {**(state[0] or {}), **(state[1] or {})} if isinstance(state[1], dict) else state[0]
        return state if isinstance(state, dict) else {}


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
    machine = _Machine(stream)
    root = machine.load()
    if not machine.imports and isinstance(root, (str, bytes, int, float, type(None))):
        raise pickle.UnpicklingError("it holds a plain value, no model")
    return Contents(root, tuple(machine.imports))


_PurePickle: Any = vars(pickle)["_Unpickler"]
"""The pickle machine in Python, whose instructions can be replaced."""


class _Machine(_PurePickle):  # type: ignore[misc]
    """The pickle machine with stand-ins for every import."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PurePickle.dispatch)

    def __init__(self, stream: BinaryIO, imports: dict[str, type[Symbol]] | None = None) -> None:
        super().__init__(stream, encoding="latin1")
        self.stream = stream
        self.imports = {} if imports is None else imports

    def find_class(self, module: str, name: str) -> type[Symbol]:
        """A stand-in for what the file imports."""
        path = f"{module}.{name}"
        if path not in self.imports:
            self.imports[path] = cast("type[Symbol]", type(name, (_FUNCTIONS.get(path, Symbol),), {"path": path}))
        return self.imports[path]

    def persistent_load(self, pid: Any) -> Any:
        """Objects stored outside the pickle stay references."""
        return ("persistent", pid)

    def get_extension(self, code: int) -> None:
        """Extension codes are registered by code that is not run here."""
        raise pickle.UnpicklingError(f"it uses extension code {code}, which no model file does")

    def load_build(self) -> None:
        """Gives an object its state; joblib then keeps an array's values in the stream."""
        super().load_build()
        made = self.stack[-1]
        if not isinstance(made, Symbol):
            return
        if made.path.endswith("NumpyArrayWrapper"):
            self.stack[-1] = self._skipped_array(made.attributes())
        elif isinstance(made, _Reconstructed) and isinstance(made.state, tuple):
            made.state = (Array(_shape(made.state[1]), _dtype(made.state[2])), made.state[4])

    dispatch[pickle.BUILD[0]] = load_build

    def _skipped_array(self, wrapper: dict[str, Any]) -> Any:
        dtype, shape = _dtype(wrapper["dtype"]), _shape(wrapper["shape"])
        if dtype is None or dtype.kind == "O":
            return _Machine(self.stream, self.imports).load()
        if wrapper.get("numpy_array_alignment_bytes"):
            _skip(self.stream, self.stream.read(1)[0])
        _skip(self.stream, math.prod(shape) * dtype.itemsize)
        return Array(shape, dtype)


class _Reconstructed(Symbol):
    """numpy's `_reconstruct`: its state holds shape, dtype and values."""


class _FromBuffer(Symbol):
    """numpy's `_frombuffer(buffer, dtype, shape, order)`."""

    def __new__(cls, *arguments: Any, **_: Any) -> Self:
        """Keeps shape and dtype."""
        self = super().__new__(cls)
        self.arguments = (Array(_shape(arguments[2]), _dtype(arguments[1])),)
        return self


class _Remade(Symbol):
    """How pickles before protocol 2 make an object: `_reconstructor(class, base, state)`."""

    def __new__(cls, *arguments: Any, **_: Any) -> Any:
        """An object of the class that is named first."""
        kind = arguments[0]
        return kind.__new__(kind) if isinstance(kind, type) and issubclass(kind, Symbol) else super().__new__(cls)


_FUNCTIONS: Final[dict[str, type[Symbol]]] = {
    "copy_reg._reconstructor": _Remade,
    "copyreg._reconstructor": _Remade,
    "numpy.core.multiarray._reconstruct": _Reconstructed,
    "numpy._core.multiarray._reconstruct": _Reconstructed,
    "numpy.core.numeric._frombuffer": _FromBuffer,
    "numpy._core.numeric._frombuffer": _FromBuffer,
}


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in value)
    if any(size < 0 for size in shape):
        raise ValueError(f"it holds an array of shape {shape}")
    return shape


def _dtype(value: Any) -> np.dtype[Any] | None:
    """The dtype that `numpy.dtype(code, …)` with its state would make; structured ones as raw bytes."""
    if not isinstance(value, Symbol) or not value.arguments or not isinstance(value.arguments[0], str):
        return None
    return np.dtype(value.arguments[0])


def _skip(stream: BinaryIO, count: int) -> None:
    while count:
        skipped = len(stream.read(min(count, 1 << 20)))
        if not skipped:
            raise EOFError("it ends inside an array")
        count -= skipped


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
