"""Rows for the report: inputs by column and answers, as JSON-ready data of bounded size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.report import WorstRow
from paritygate.worker.parity.evidence import Evidence

Array = npt.NDArray[Any]
_WORST: Final = 5
_VALUES: Final = 16
"""Numbers shown of a tensor."""
_COLUMNS: Final = 40
"""Input columns shown of a row."""
_TEXT: Final = 200


def worst_rows(evidence: Evidence, error: Array, margin: Array | None = None) -> tuple[WorstRow, ...]:
    """The rows with the largest `error`, (rows,) ≥ 0, as far as it is above 0; the first of equals first."""
    chosen = np.argsort(-np.nan_to_num(error, posinf=math.inf), kind="stable")[:_WORST]
    return tuple(
        WorstRow(
            row=int(row),
            input=input_of(evidence, evidence.inputs, int(row)),
            reference=answers_of(evidence.reference, int(row)),
            candidate=answers_of(evidence.candidate, int(row)),
            error=float(error[row]) if np.isfinite(error[row]) else None,
            margin=float(margin[row]) if margin is not None and np.isfinite(margin[row]) else None,
        )
        for row in chosen
        if error[row] > 0
    )


def input_of(evidence: Evidence, inputs: Mapping[str, Any], row: int) -> dict[str, object]:
    """A row's input by the dataset's columns where they make up one tensor, else by input."""
    columns = evidence.capture.columns
    if len(inputs) == 1:
        cells = np.asarray(next(iter(inputs.values()))[row])
        if cells.ndim == 1 and len(cells) == len(columns) > 1:
            shown: dict[str, object] = {
                name: plain(value) for name, value in zip(columns[:_COLUMNS], cells[:_COLUMNS], strict=True)
            }
            if len(columns) > _COLUMNS:
                shown["…"] = f"{len(columns) - _COLUMNS} more columns"
            return shown
    return {name: plain(column[row]) for name, column in inputs.items()}


def answers_of(table: Mapping[str, Any], row: int) -> dict[str, object]:
    """A row's answers by output."""
    return {name: plain(column[row]) for name, column in table.items()}


def plain(value: object) -> object:
    """A cell as JSON-ready data; numbers that JSON lacks as text; long tensors cut."""
    array = np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None
    if array is not None and array.ndim > 0:
        if array.size == 1:
            return plain(array.reshape(-1)[0])
        flat = [plain(cell) for cell in array.reshape(-1)[:_VALUES]]
        return flat if array.size <= _VALUES else [*flat, f"… {array.size - _VALUES} more"]
    scalar = value.item() if isinstance(value, np.generic | np.ndarray) else value
    if isinstance(scalar, float) and not math.isfinite(scalar):
        return "NaN" if math.isnan(scalar) else "Infinity" if scalar > 0 else "-Infinity"
    if isinstance(scalar, bytes):
        scalar = scalar.decode("utf-8", "replace")
    if isinstance(scalar, str) and len(scalar) > _TEXT:
        return scalar[: _TEXT - 1] + "…"
    return scalar
