"""A pickle machine that carries out nothing: classes become names, large arrays their shapes."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Final, Self, cast

import numpy as np


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


_PurePickle: Any = vars(pickle)["_Unpickler"]
"""The pickle machine in Python, whose instructions can be replaced."""


class Machine(_PurePickle):  # type: ignore[misc]
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
            return Machine(self.stream, self.imports).load()
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
