"""Golden rows: a few rows that a server must answer right before it calls itself ready."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.agent import exchange
from paritygate.api.report import OutputRole
from paritygate.worker.answers import is_large, taken
from paritygate.worker.inference import InferenceClient, RequestRefused
from paritygate.worker.parity.columns import cells, is_ragged
from paritygate.worker.parity.evidence import Evidence, codes_of

Array = npt.NDArray[Any]
ROWS: Final = 32
_ROWS_OF_LARGE: Final = 8
"""Rows of a large candidate, which answers them at every start."""


def write_golden(folder: Path, evidence: Evidence, client: InferenceClient) -> None:
    """Writes `golden.npz` and `golden.json`: the answers that the candidate gives to these rows as one batch."""
    rows = golden_rows(evidence)
    if evidence.manifest is not None and is_large(evidence.capture.format, evidence.manifest.size):
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS_OF_LARGE)).round().astype(np.int64))]
    answers = _answers(evidence, client, rows)
    if answers is None:
        return
    table = {f"input:{name}": column[rows] for name, column in evidence.inputs.items()}
    table |= {f"output:{name}": column for name, column in answers.items()}
    exchange.save(str(folder / "golden.npz"), table)
    (folder / "golden.json").write_text(json.dumps(tolerances(evidence), sort_keys=True))


def golden_rows(evidence: Evidence) -> Array:
    """At most 32 rows that the candidate answered: of each class, with missing values, extremes, and evenly spread."""
    candidates: list[int] = []
    for output in evidence.capture.signature.outputs:
        column = evidence.reference.get(output.name)
        if output.role is OutputRole.LABEL and column is not None and not is_ragged(column):
            codes, _ = codes_of(column)
            candidates += np.unique(codes, return_index=True)[1][: ROWS // 4].tolist()
    for column in evidence.inputs.values():
        array = np.asarray(column)
        if is_ragged(array):
            sizes = np.asarray([np.size(row) for row in array])
            candidates += [int(sizes.argmin()), int(sizes.argmax())]
        elif array.dtype.kind == "f":
            lines = cells(array)[:, : ROWS // 4]
            missing = np.flatnonzero(np.isnan(lines).any(axis=1))
            candidates += missing[:2].tolist()
            clean = np.nan_to_num(lines.astype(np.float64))
            candidates += [*clean.argmin(axis=0).tolist(), *clean.argmax(axis=0).tolist()]
    room = ROWS - ROWS // 4
    chosen = list(dict.fromkeys(candidates))[:room]
    spread = np.linspace(0, max(evidence.rows - 1, 0), ROWS).round().astype(np.int64).tolist()
    chosen = list(dict.fromkeys([*chosen, *spread]))[:ROWS]
    rows = np.asarray(sorted(chosen), dtype=np.int64)
    return rows[~evidence.unanswered[rows]] if evidence.rows else rows[:0]


def tolerances(evidence: Evidence) -> dict[str, dict[str, float]]:
    """Rtol and atol of each output that holds floating-point numbers."""
    found = {}
    for output in evidence.capture.signature.outputs:
        tolerance = evidence.tolerance(output)
        if tolerance is not None:
            atol = max(tolerance.atol * float(np.median(tolerance.scale)), float(np.median(tolerance.floor)))
            found[output.name] = {"rtol": tolerance.rtol, "atol": atol}
    return found


def _answers(evidence: Evidence, client: InferenceClient, rows: Array) -> Mapping[str, Array] | None:
    if not len(rows):
        return None
    inputs = evidence.capture.signature.inputs
    ragged = any(is_ragged(np.asarray(column)) for column in evidence.inputs.values())
    try:
        if not ragged:
            return client.infer(taken(evidence.inputs, rows), inputs)
        single = [client.infer(taken(evidence.inputs, np.asarray([row])), inputs) for row in rows]
    except RequestRefused:
        return None
    joined = {}
    for name in single[0]:
        column = np.empty(len(rows), dtype=object)
        column[:] = [answer[name][0] for answer in single]
        shapes = {np.shape(value) for value in column}
        joined[name] = np.stack(list(column)) if len(shapes) == 1 else column
    return joined
