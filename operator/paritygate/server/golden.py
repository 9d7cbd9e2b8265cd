"""Golden rows: answers that a server must repeat before it calls itself ready."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from paritygate.agent import exchange
from paritygate.api.spec import Datatype
from paritygate.server.datatypes import FLOATS, Array, bf16_of_floats, floats_of_bf16
from paritygate.server.errors import RequestError, StartError
from paritygate.server.model import Model
from paritygate.server.signature import Tensor, brief, place

_INPUT: Final = "input:"
_OUTPUT: Final = "output:"


@dataclass(frozen=True)
class Tolerance:
    """How far an answer may be from the golden one: |difference| ≤ atol + rtol × |golden|."""

    rtol: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True)
class Golden:
    """Inputs and the answers that the judged candidate gave to them over the wire. Columns as in `agent.exchange`."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]

    def problem(self, model: Model) -> str | None:
        """What `model` answers wrong first: output, row, by how much; None = everything is right."""
        try:
            for row, feeds in self._batches(model):
                answers = model.run(feeds, tuple(self.outputs))
                for (name, column), answer in zip(self.outputs.items(), answers, strict=True):
                    expected = column if row is None else _row(column, row)
                    problem = _difference(model.outputs[name], expected, answer, self._tolerance(name))
                    if problem is not None:
                        where = "" if row is None else f"row {row}: "
                        return f"golden rows are answered wrong: output {name!r}: {where}{problem}"
        except RequestError as error:
            return f"golden rows are not answered: {error.message}"
        return None

    def check_names(self, model: Model) -> None:
        """StartError where the golden rows are of another model."""
        for kind, named, offered in (("inputs", self.inputs, model.inputs), ("outputs", self.outputs, model.outputs)):
            if set(named) - set(offered) or (kind == "inputs" and set(named) != set(offered)):
                raise StartError(
                    f"--golden: the golden rows have {kind} {sorted(named)}, but the model has {sorted(offered)}; "
                    "give the verdict folder of this candidate"
                )

    def _tolerance(self, name: str) -> Tolerance:
        return self.tolerances.get(name, Tolerance())

    def _batches(self, model: Model) -> Iterator[tuple[int | None, dict[str, Array]]]:
        """All rows as one batch, or, where lengths vary, row by row."""
        if any(column.dtype == object and _is_ragged(column) for column in self.inputs.values()):
            for row in range(min(len(column) for column in self.inputs.values())):
                yield row, {name: _feed(model.inputs[name], _row(column, row)) for name, column in self.inputs.items()}
        else:
            yield None, {name: _feed(model.inputs[name], column) for name, column in self.inputs.items()}


def read(folder: Path) -> Golden:
    """The golden rows in a verdict folder (docs/reference/formats.md). StartError where they cannot be read."""
    try:
        stated = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
        tolerances = {
            name: Tolerance(float(entry.get("rtol", 0)), float(entry.get("atol", 0))) for name, entry in stated.items()
        }
        table = exchange.load(str(folder / "golden.npz"))
    except Exception as error:
        raise StartError(
            f"--golden {folder}: golden.json and golden.npz cannot be read: {error}; give the folder of a verdict"
        ) from error
    inputs = {name.removeprefix(_INPUT): column for name, column in table.items() if name.startswith(_INPUT)}
    outputs = {name.removeprefix(_OUTPUT): column for name, column in table.items() if name.startswith(_OUTPUT)}
    if not inputs or not outputs or not all(len(column) for column in inputs.values()):
        raise StartError(f"--golden {folder}: golden.npz holds no rows; give the folder of a verdict")
    return Golden(inputs, outputs, tolerances)


def _is_ragged(column: Array) -> bool:
    return column.ndim == 1 and bool(len(column)) and isinstance(column[0], np.ndarray)


def _row(column: Array, row: int) -> Array:
    """Row `row` of a column as a batch of one."""
    return np.asarray(column[row])[np.newaxis] if _is_ragged(column) else column[row : row + 1]


def _feed(tensor: Tensor, column: Array) -> Array:
    if tensor.datatype == Datatype.BYTES:
        array = np.empty(column.shape, dtype=object)
        array.ravel()[:] = ["" if text is None else text for text in column.ravel()]
    elif tensor.datatype == Datatype.BF16 and column.dtype.kind == "f":
        array = bf16_of_floats(column.astype(np.float32))
    else:
        array = np.ascontiguousarray(column, dtype=tensor.dtype)
    tensor.check(tensor.datatype, list(array.shape))
    return array


def _difference(tensor: Tensor, expected: Array, answer: Array, tolerance: Tolerance) -> str | None:
    """What is wrong with `answer`, with the element that is furthest off; None = nothing."""
    if tensor.datatype == Datatype.BF16:
        answer = floats_of_bf16(answer)
        expected = floats_of_bf16(expected) if expected.dtype == np.uint16 else expected
    if answer.shape != expected.shape:
        return f"shape {list(answer.shape)} instead of {list(expected.shape)}"
    with np.errstate(all="ignore"):
        right = np.asarray(answer == expected, dtype=bool)
        off: Any = np.where(right, 0.0, np.inf)
        if tensor.datatype in FLOATS:
            wide, golden = answer.astype(np.float64), expected.astype(np.float64)
            difference = np.abs(wide - golden)
            off = np.where(right, 0.0, np.where(np.isnan(difference), np.inf, difference))
            off[np.isnan(wide) & np.isnan(golden)] = 0.0
            allowed = tolerance.atol + tolerance.rtol * np.abs(golden)
            right = (off == 0.0) | ((off <= allowed) & np.isfinite(golden))
    if right.all():
        return None
    position = int(np.argmax(np.where(right, -1.0, off)))
    found, wanted = answer.ravel()[position], expected.ravel()[position]
    text = f"{place(answer.shape, position)}: {brief(_plain(found))} instead of {brief(_plain(wanted))}"
    if tensor.datatype in FLOATS:
        text += f", off by {off.ravel()[position]:.3g}, allowed {allowed.ravel()[position]:.3g}"
    return text


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
