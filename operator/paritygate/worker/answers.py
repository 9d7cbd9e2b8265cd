"""Asks the candidate over the wire: all rows in batches, the fixed part at every batch size, and the probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import Probe
from paritygate.api.report import OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Datatype, SourceFormat
from paritygate.worker.inference import InferenceClient, RequestRefused
from paritygate.worker.parity.columns import is_ragged
from paritygate.worker.parity.evidence import BatchAnswers, ProbeAnswer
from paritygate.worker.stage import progress

Array = npt.NDArray[Any]
BATCH_SIZES: Final = (1, 2, 3, 7)
_PART: Final = 14
"""Rows that are asked again at other batch sizes: two batches of the largest."""
_LARGE_BYTES: Final = 64 << 20
"""Size of a network from which on few rows are asked beside the dataset, since each may take long."""
_NETWORKS: Final = (SourceFormat.PYTORCH, SourceFormat.TORCHEXPORT, SourceFormat.TORCHSCRIPT, SourceFormat.ONNX)
_MOST_ROWS: Final = 8192
_MOST_ROWS_OF_LARGE: Final = 16
"""Of a large network in one request: 96 rows of 128 tokens at once take a third more of the processor than 8."""
_REQUEST_BYTES: Final = 8 << 20
_SEARCHES: Final = 64
"""Requests spent on finding which rows of refused batches are at fault."""


@dataclass
class Answers:
    """What came back for all rows."""

    table: dict[str, Array]
    """Output name → (rows, …), or ragged; unanswered rows hold NaN, "" or 0."""
    answered: Array
    """(rows,) bool."""
    refusal: str | None = None


@dataclass
class _Asking:
    client: InferenceClient
    signature: Signature
    inputs: Mapping[str, Any]
    rows: int
    pieces: list[tuple[Array, dict[str, Array]]] = field(default_factory=list)
    refused: list[Array] = field(default_factory=list)
    refusal: str | None = None
    searches: int = _SEARCHES


def ask_all(
    client: InferenceClient, signature: Signature, inputs: Mapping[str, Any], rows: int, *, large: bool = False
) -> Answers:
    """The candidate's answers to every row, each in its place. Rows that it refuses are marked, not dropped.

    `large`: few rows go together, as their inner values would fill the caches.
    """
    asking = _Asking(client, signature, inputs, rows)
    done = 0
    for chosen in _batches(inputs, rows, _MOST_ROWS_OF_LARGE if large else _MOST_ROWS):
        _ask(asking, chosen)
        done += len(chosen)
        progress("asking the candidate", done, rows)
    answered = np.ones(rows, dtype=bool)
    for refused in asking.refused:
        answered[refused] = False
    return Answers(_joined(asking.pieces, signature.outputs, rows), answered, asking.refusal)


def ask_in_batches(
    client: InferenceClient, signature: Signature, inputs: Mapping[str, Any], rows: int, *, large: bool = False
) -> tuple[BatchAnswers, ...]:
    """The fixed part of the rows at batch sizes 1, 2, 3, 7 and all at once; of a large candidate one batch of each.

    The batches of a large candidate hold different rows, so that nearly all of the part is asked in two sizes.
    """
    whole = fixed_part(inputs, rows)
    found = []
    asked = 0
    for size in (*(size for size in BATCH_SIZES if size < len(whole)), len(whole)):
        start = min(asked, len(whole) - size)
        part = whole[start : start + size] if large else whole
        asked += size
        pieces = []
        refused = None
        for start in range(0, len(part), max(size, 1)):
            chosen = part[start : start + size]
            try:
                pieces.append(
                    (np.arange(start, start + len(chosen)), client.infer(taken(inputs, chosen), signature.inputs))
                )
            except RequestRefused as error:
                refused = error.message
                break
        answers = _joined(pieces, signature.outputs, len(part)) if refused is None else {}
        found.append(BatchAnswers(size, part, answers, refused))
    return tuple(found)


def is_large(source: SourceFormat, size: int) -> bool:
    """Whether few rows are asked beside the dataset: a row of a large network takes long, one of large trees does not.

    Args:
        source: format of the source.
        size: bytes of the candidate.
    """
    return source in _NETWORKS and size > _LARGE_BYTES


def ask_probes(
    client: InferenceClient, signature: Signature, probes: Sequence[Probe], table: Mapping[str, Any]
) -> tuple[ProbeAnswer, ...]:
    """The candidate's answer to each probe, one request each."""
    found = []
    for row, probe in enumerate(probes):
        feeds = (
            {tensor.name: _empty(tensor) for tensor in signature.inputs}
            if probe.kind == "empty-batch"
            else taken(table, np.asarray([row]))
        )
        try:
            found.append(ProbeAnswer(client.infer(feeds, signature.inputs)))
        except RequestRefused as error:
            found.append(ProbeAnswer({}, error.message))
        progress("probing the candidate", row + 1, len(probes))
    return tuple(found)


def fixed_part(inputs: Mapping[str, Any], rows: int) -> Array:
    """Rows that are asked again, evenly spread; of the most frequent shape where shapes vary."""
    candidates = max(_groups(inputs, rows), key=len, default=np.arange(0))
    if not len(candidates):
        return candidates
    picked = np.unique(np.linspace(0, len(candidates) - 1, min(_PART, len(candidates))).round().astype(np.int64))
    return np.asarray(candidates[picked])


def taken(inputs: Mapping[str, Any], chosen: Array) -> dict[str, Array]:
    """The chosen rows of every input as dense arrays."""
    return {
        name: np.stack(list(column[chosen])) if is_ragged(column) else column[chosen] for name, column in inputs.items()
    }


def _ask(asking: _Asking, chosen: Array) -> None:
    try:
        answers = asking.client.infer(taken(asking.inputs, chosen), asking.signature.inputs)
    except RequestRefused as error:
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and len(chosen) > 1:
            _halves(asking, chosen)
            return
        asking.refusal = asking.refusal or error.message
        if len(chosen) > 1 and asking.searches > 0:
            asking.searches -= 1
            _halves(asking, chosen)
            return
        asking.refused.append(chosen)
        return
    wrong = [name for name, column in answers.items() if column.ndim == 0 or len(column) != len(chosen)]
    if wrong:
        # An output without one entry per row cannot be told apart by row; the contract reports its absence.
        answers = {name: column for name, column in answers.items() if name not in wrong}
        asking.refusal = asking.refusal or f"output {wrong[0]!r} does not have one entry per row"
    asking.pieces.append((chosen, answers))


def _halves(asking: _Asking, chosen: Array) -> None:
    middle = len(chosen) // 2
    _ask(asking, chosen[:middle])
    _ask(asking, chosen[middle:])


def _groups(inputs: Mapping[str, Any], rows: int) -> list[Array]:
    """Rows of one shape together, in order of first appearance."""
    varying = [column for column in inputs.values() if is_ragged(column)]
    if not varying:
        return [np.arange(rows)] if rows else []
    by_shape: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row in range(rows):
        by_shape.setdefault(tuple(np.shape(column[row]) for column in varying), []).append(row)
    return [np.asarray(group) for group in by_shape.values()]


def _batches(inputs: Mapping[str, Any], rows: int, most: int) -> Iterator[Array]:
    for group in _groups(inputs, rows):
        first = taken(inputs, group[:1])
        row_bytes = sum(column.nbytes if column.dtype != object else 64 * column.size for column in first.values())
        step = min(most, max(1, _REQUEST_BYTES // max(row_bytes, 1)))
        for start in range(0, len(group), step):
            yield group[start : start + step]


def _joined(
    pieces: Sequence[tuple[Array, Mapping[str, Array]]], outputs: Sequence[OutputSignature], rows: int
) -> dict[str, Array]:
    """Answers row by row; outputs that no batch has, or whose datatypes differ between batches, are left out."""
    joined: dict[str, Array] = {}
    names = [output.name for output in outputs]
    names += sorted({name for _, answers in pieces for name in answers} - set(names))
    for name in names:
        parts = [(chosen, answers[name]) for chosen, answers in pieces if name in answers]
        if not parts or len(parts) < len(pieces):
            continue
        if len({part.shape[1:] for _, part in parts}) == 1:
            joined[name] = _placed(parts, rows)
        else:
            column = np.empty(rows, dtype=object)
            column[:] = [np.empty(0)] * rows
            for chosen, part in parts:
                for row, answer in zip(chosen, part, strict=True):
                    column[row] = np.asarray(answer)
            joined[name] = column
    return joined


def _placed(parts: Sequence[tuple[Array, Array]], rows: int) -> Array:
    sample = parts[0][1]
    missing: Any = "" if sample.dtype == object else np.nan if sample.dtype.kind == "f" else 0
    column = np.full((rows, *sample.shape[1:]), missing, dtype=sample.dtype)
    for chosen, part in parts:
        column[chosen] = part
    return column


def _empty(tensor: TensorSignature) -> Array:
    shape = (0, *(1 if size < 0 else size for size in tensor.shape[1:]))
    return np.zeros(shape, dtype=object if tensor.datatype is Datatype.BYTES else np.float32)
