"""What the server refuses before the model sees it, because the source model refuses it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from paritygate.api.artifacts import InputGuard
from paritygate.server.datatypes import FLOATS, Array, is_infinite, is_nan
from paritygate.server.errors import RequestError, StartError
from paritygate.server.signature import Tensor, brief, place

_SHOWN = 10


class Guards:
    """The guards of a candidate, checked on every request. StartError where one names an input that is not there."""

    def __init__(self, guards: Sequence[InputGuard], inputs: Mapping[str, Tensor]) -> None:
        for guard in guards:
            if guard.input not in inputs:
                raise StartError(
                    f"candidate.json: guards name input {guard.input!r}, but the inputs are {sorted(inputs)}; "
                    "convert the model again"
                )
        self._guards = [(guard, inputs[guard.input], frozenset(guard.allowed or ())) for guard in guards]

    def example(self, name: str) -> str | None:
        """A text that input `name` takes; None = any."""
        return next((guard.allowed[0] for guard, _, _ in self._guards if guard.input == name and guard.allowed), None)

    def check(self, feeds: Mapping[str, Array]) -> None:
        """RequestError at the first value that the source model refuses."""
        for guard, tensor, allowed in self._guards:
            array = feeds[guard.input]
            if tensor.datatype in FLOATS:
                if guard.reject_nan or guard.nan_cells:
                    where = is_nan(array, tensor.datatype)
                    _refuse(tensor, _guarded(where, guard.nan_cells), "NaN", "send a number")
                if guard.reject_infinite or guard.infinite_cells:
                    where = is_infinite(array, tensor.datatype)
                    _refuse(tensor, _guarded(where, guard.infinite_cells), "an infinite value", "send a finite number")
            if guard.allowed is not None:
                _check_allowed(tensor, array, guard.allowed, allowed)


def _guarded(where: Array, cells: Sequence[int]) -> Array:
    """`where`, of shape (rows, …), in these cells of each row only; in all where none are named."""
    if not cells or not where.any():
        return where
    chosen = np.zeros(int(np.prod(where.shape[1:])), dtype=bool)
    chosen[[cell for cell in cells if cell < len(chosen)]] = True
    return where & chosen.reshape(where.shape[1:])


def _check_allowed(tensor: Tensor, array: Array, known: Sequence[str], allowed: frozenset[str]) -> None:
    flat = array.ravel().tolist()
    if allowed.issuperset(flat):
        return
    position = next(index for index, value in enumerate(flat) if value not in allowed)
    shown = ", ".join(repr(value) for value in known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    raise RequestError(
        f"input {tensor.name!r}, {place(array.shape, position)}: {brief(flat[position])} is refused, because the "
        f"source model refuses it too; send one of {shown}"
    )


def _refuse(tensor: Tensor, where: Array, what: str, advice: str) -> None:
    if where.any():
        position = int(np.argmax(where))
        raise RequestError(
            f"input {tensor.name!r}, {place(where.shape, position)}: {what} is refused, because the source model "
            f"refuses it too; {advice}"
        )
