"""Records what happens inside a source for a few rows, so that a difference can be traced to the step that makes it."""

import warnings
from collections import OrderedDict

import numpy as np

from paritygate.agent import exchange
from paritygate.agent.failures import one_line
from paritygate.agent.noise import fixed_part
from paritygate.agent.wire import is_ragged, take

ROWS = 32
MOST = 64
"""Steps that are recorded."""
BYTES = 16 << 20
"""Size of all recorded values together; fewer rows are recorded where these would take more."""


def record(model, inputs):
    """Values of the model's steps for a few rows as cast to the wire: (table, `Step` list, rows, reason).

    `reason`: why nothing was recorded, else None. Whatever goes wrong is such a reason: the capture is whole without.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _record(model, inputs)
    except Exception as error:
        return OrderedDict(), [], [], "recording them failed: %s" % one_line(error)


def _record(model, inputs):
    chosen = _rows(inputs)
    chosen = chosen[fixed_part(len(chosen), model.few(len(inputs[0].original), ROWS))]
    first = _asked(model, inputs, chosen[:1])
    if not first:
        return OrderedDict(), [], [], "nothing inside the source can be looked into"
    size = sum(array.nbytes for _, _, array in first.values() if array is not None)
    count = min(len(chosen), BYTES // max(size, 1))
    if not count:
        reason = "the values inside the source take %.0f MiB per row, more than the %d MiB that are kept"
        return OrderedDict(), [], [], reason % (size / 2.0**20, BYTES >> 20)
    chosen = chosen[fixed_part(len(chosen), count)]
    found = _asked(model, inputs, chosen)
    table, steps = OrderedDict(), []
    for name, (kind, branches, array) in found.items():
        if array is not None:
            table[name] = array
        steps.append(OrderedDict(name=name, kind=kind, recorded=array is not None, branches=list(branches)))
    return table, steps, [int(row) for row in chosen], None


def _asked(model, inputs, rows):
    """Name → (kind, branches, values) of each step for some rows, asked in batches that the model takes."""
    pieces = []
    for start in range(0, len(rows), model.batch):
        part = rows[start : start + model.batch]
        given = OrderedDict((one.name, _cast(one, part)) for one in inputs)
        pieces.append(_numeric(model.steps(given), len(part)))
    joined = OrderedDict()
    for name, (kind, branches, array) in pieces[0].items():
        if all(name in piece for piece in pieces):
            arrays = [piece[name][2] for piece in pieces]
            joined[name] = (kind, branches, None if array is None else np.concatenate(arrays))
    return joined


def _numeric(found, rows):
    """Steps with numbers for every row, and those that stand for the outputs."""
    kept = OrderedDict()
    for name, kind, branches, values in found:
        array = None if values is None else _array(values)
        if name in kept or len(kept) >= MOST:
            continue
        if values is None or (array is not None and array.ndim and len(array) == rows and array.size):
            kept[name] = (kind, branches, array)
    return kept


def _array(values):
    """Numbers as an array; None = they are none."""
    array = np.asarray(values.toarray() if hasattr(values, "toarray") else values)
    if array.dtype == object:
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            return None
    return array if array.dtype.kind in "fiub" else None


def _cast(one, rows):
    restored = one.restore(one.wire(take(one.original, rows)))
    return np.stack(list(restored)) if is_ragged(restored) else restored


def _rows(inputs):
    """Numbers of the rows, ascending: evenly spread, and half of them such that rare categories and gaps are seen."""
    count = len(inputs[0].original)
    spread = fixed_part(count, ROWS)
    rare = []
    for one in inputs:
        for rows in _rare(one.original):
            if rows not in rare:
                rare.append(rows)
    rare = rare[: ROWS // 2]
    chosen = np.unique(np.concatenate([fixed_part(count, ROWS - len(rare)), np.asarray(rare, dtype=np.int64)]))
    ragged_columns = [one.original for one in inputs if is_ragged(one.original)]
    if not ragged_columns:
        return chosen
    shapes = [tuple(column[row].shape for column in ragged_columns) for row in spread]
    return np.asarray([row for row, shape in zip(spread, shapes) if shape == shapes[0]])


def _rare(column):
    """The first row of each missing value's column, and of each of the rarest categories."""
    if is_ragged(column):
        return []
    if isinstance(column, exchange.Category):
        cells = column.codes
    elif column.dtype == object and column.ndim <= 2:
        cells = np.asarray(["" if cell is None else str(cell) for cell in column.reshape(len(column), -1)[:, 0]])
    elif column.dtype.kind == "f" and column.ndim <= 2:
        missing = np.isnan(column.reshape(len(column), -1))
        return [int(missing[:, place].argmax()) for place in np.flatnonzero(missing.any(axis=0))[: ROWS // 4]]
    else:
        return []
    _, first, counts = np.unique(cells, return_index=True, return_counts=True)
    if len(first) > len(cells) // 2:
        return []
    return [int(row) for row in first[np.argsort(counts, kind="stable")][: ROWS // 4]]
