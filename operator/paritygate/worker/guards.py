"""Input guards: what the server refuses before the candidate sees it, because the source refused it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import CaptureManifest, InputGuard
from paritygate.api.spec import Datatype

Array = npt.NDArray[Any]
_KINDS: Final = (
    ("nan", np.isnan, "reject_nan", "nan_cells"),
    ("inf", np.isinf, "reject_infinite", "infinite_cells"),
)
"""Kind of probe, what tells it, and the fields of the guard."""


def guards(
    capture: CaptureManifest,
    probes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    known: Mapping[str, tuple[str, ...]],
) -> tuple[InputGuard, ...]:
    """Guards that follow from the probes which the source refused, in the order of the signature's inputs.

    Args:
        capture: its probes say what was tried and refused.
        probes: probe rows as wire inputs; row *i* belongs to `capture.probes[i]`.
        inputs: the dataset's rows as wire inputs.
        known: text input → the values that the converter saw the model accept; the dataset's are taken otherwise.

    What the source takes nowhere is refused everywhere. What it takes in some cells of a row, in a probe or in the
    dataset, is refused in those cells where a probe was refused; cells that no probe tried stay open.
    """
    refused: dict[str, dict[str, Any]] = {}
    for row, probe in enumerate(capture.probes):
        if probe.refused is None or probe.kind != "unseen-category":
            continue
        for tensor in capture.signature.inputs:
            column = probes.get(tensor.name)
            if column is None or row >= len(column) or tensor.datatype is not Datatype.BYTES:
                continue
            allowed = known.get(tensor.name, _texts(inputs[tensor.name]))
            if not set(_texts(column[row])) <= set(allowed):
                refused.setdefault(tensor.name, {})["allowed"] = tuple(sorted(allowed))
    for tensor in capture.signature.inputs:
        for kind, test, everywhere, some in _KINDS:
            asked = [
                (probe.refused is not None, np.asarray(probes[tensor.name][row]))
                for row, probe in enumerate(capture.probes)
                if probe.kind == kind and row < len(probes.get(tensor.name, ()))
            ]
            guard = _of_numbers(test, asked, inputs.get(tensor.name), everywhere, some)
            # Cells can be counted only where every request has the same.
            if everywhere in guard or (guard and all(size >= 0 for size in tensor.shape[1:])):
                refused.setdefault(tensor.name, {}).update(guard)
    return tuple(
        InputGuard(input=tensor.name, **refused[tensor.name])
        for tensor in capture.signature.inputs
        if refused.get(tensor.name)
    )


def _of_numbers(
    test: Any, asked: list[tuple[bool, Array]], dataset: Any, everywhere: str, some: str
) -> dict[str, bool | tuple[int, ...]]:
    """What is refused of one kind of value: everywhere, in some cells, or nowhere.

    Args:
        test: tells the values.
        asked: whether the source refused a probe, and its cells of this input.
        dataset: the dataset's rows of this input, all of which it answered.
        everywhere: field of the guard that refuses such values in all cells.
        some: field of the guard that refuses them in some cells.
    """
    tried = [(refused, _where(test, value)) for refused, value in asked]
    if not any(refused and where.any() for refused, where in tried):
        return {}
    rows = np.asarray(dataset) if dataset is not None else np.empty(0)
    ragged = rows.dtype == object
    answered = [where for refused, where in tried if not refused]
    if ragged:
        taken = any(_where(test, row).any() for row in rows) or any(where.any() for where in answered)
        return {} if taken else {everywhere: True}
    cells = _where(test, rows).reshape(len(rows), -1).any(axis=0) if len(rows) else np.zeros(1, dtype=bool)
    cells = np.logical_or.reduce([cells, *(where.reshape(-1) for where in answered)])
    if not cells.any():
        return {everywhere: True}
    blamed = [np.flatnonzero(where.reshape(-1) & ~cells) for refused, where in tried if refused]
    # A probe of several cells does not say which of them is refused.
    found = tuple(sorted({int(one[0]) for one in blamed if len(one) == 1}))
    return {some: found} if found else {}


def _where(test: Any, value: Any) -> Array:
    array = np.asarray(value)
    return np.asarray(test(array)) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)


def _texts(column: Any) -> tuple[str, ...]:
    return tuple({value for value in np.asarray(column, dtype=object).ravel() if isinstance(value, str)})
