"""What a tensor must look like, and the refusals of one that does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from paritygate.server.datatypes import DTYPES
from paritygate.server.errors import RequestError

ANY_SIZE: Final = -1
_BRIEF: Final = 80
MAX_RANK: Final = 16
MAX_ELEMENTS: Final = 2**40
"""Of a shape whose zero dimensions count as one: numpy refuses shapes whose strides overflow, empty or not."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of the model as clients see it."""

    name: str
    datatype: str
    shape: tuple[int, ...] | None
    """-1 = any size; None = the graph does not say how many dimensions."""
    symbols: tuple[str | None, ...] = ()
    """Per dimension: sizes of one symbol must agree over all inputs of a request; None = free."""
    dtype: np.dtype[Any] = field(init=False)

    def __post_init__(self) -> None:
        # A member of an enumeration hashes in Python, a plain string in C: this is looked up for every request.
        object.__setattr__(self, "datatype", str(self.datatype))
        object.__setattr__(self, "dtype", DTYPES[self.datatype])

    def to_dict(self) -> dict[str, object]:
        """The tensor as the protocol's metadata describes it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape or ())}

    def check(self, datatype: object, shape: object) -> tuple[int, ...]:
        """The shape as a tuple; RequestError where datatype or shape is not what the model takes."""
        if datatype == self.datatype and type(shape) is list and self._fits(shape):
            return tuple(shape)
        if datatype != self.datatype:
            raise RequestError(
                f"input {self.name!r}: datatype {datatype!r} came, but the model takes {self.datatype}; "
                f"send {self.datatype}"
            )
        sizes = self._sizes(shape)
        if self.shape is not None and not (
            len(sizes) == len(self.shape)
            and all(wanted in (ANY_SIZE, size) for wanted, size in zip(self.shape, sizes, strict=True))
        ):
            raise RequestError(
                f"input {self.name!r}: shape {list(sizes)} came, but the model takes {list(self.shape)} "
                f"(-1 = any size); {self._difference(self.shape, sizes)}"
            )
        return sizes

    def _fits(self, shape: list[Any]) -> bool:
        """Whether `shape` is right beyond doubt; what is not is looked at again, to say why."""
        if self.shape is None or len(shape) != len(self.shape):
            return False
        elements = 1
        for size, wanted in zip(shape, self.shape, strict=True):
            if type(size) is not int or size < 0 or wanted not in (ANY_SIZE, size):
                return False
            elements *= size or 1
        return elements <= MAX_ELEMENTS

    def _sizes(self, shape: object) -> tuple[int, ...]:
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise RequestError(
                f"input {self.name!r}: shape must be a list of integers ≥ 0, found {brief(shape)}; "
                f"the model takes {list(self.shape or ())}"
            )
        if len(shape) > MAX_RANK or math.prod(size or 1 for size in shape) > MAX_ELEMENTS:
            raise RequestError(
                f"input {self.name!r}: shape {brief(shape)} has too many dimensions or elements; "
                f"at most {MAX_RANK} dimensions are taken"
            )
        return tuple(shape)

    @staticmethod
    def _difference(wanted: Sequence[int], came: Sequence[int]) -> str:
        if len(wanted) != len(came):
            return f"send {len(wanted)} dimensions instead of {len(came)}"
        axis = next(axis for axis, (want, got) in enumerate(zip(wanted, came, strict=True)) if want not in (-1, got))
        return f"dimension {axis} must be {wanted[axis]}, not {came[axis]}"


def check_symbols(tensors: Sequence[Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """RequestError where two inputs disagree on a size that they share, such as the number of rows."""
    seen: dict[str, tuple[str, int, int]] = {}
    for tensor in tensors:
        for axis, (symbol, size) in enumerate(zip(tensor.symbols, shapes[tensor.name], strict=False)):
            if symbol is None:
                continue
            name, first_axis, first = seen.setdefault(symbol, (tensor.name, axis, size))
            if size != first:
                what = "rows" if axis == first_axis == 0 else f"entries along dimension {axis}"
                raise RequestError(
                    f"input {tensor.name!r} has {size} {what}, but input {name!r} has {first}; "
                    "all inputs of a request must agree"
                )


def brief(value: object, write: Callable[[object], str] = repr) -> str:
    """`value` for a message, cut where it is long."""
    text = write(value)
    return text if len(text) <= _BRIEF else text[: _BRIEF - 1] + "…"


def place(shape: Sequence[int], position: int) -> str:
    """Where element `position` of a tensor in row-major order stands: 'row 3' or 'element [3, 1]'."""
    if len(shape) <= 1:
        return f"row {position}"
    return f"element [{', '.join(str(index) for index in np.unravel_index(position, tuple(shape)))}]"
