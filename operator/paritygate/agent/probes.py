"""Probe rows: a row of the dataset with one thing changed, such as NaN in a cell, and how the source takes each.

Their number is bounded, and the same dataset and model give the same probes. A probe is made on the wire, so that the
candidate can be sent exactly what the source was asked.
"""

from collections import OrderedDict

import numpy as np

from paritygate.agent import noise
from paritygate.agent.answering import SourceError, once, some_rows
from paritygate.agent.exchange import Category
from paritygate.agent.failures import one_line
from paritygate.agent.stage import progress
from paritygate.agent.wire import is_ragged, ragged, take

LIMITS = OrderedDict(
    [("nan", 40), ("inf", 32), ("zero", 32), ("extreme", 48), ("threshold", 84), ("unseen-category", 20)]
)
"""Probes of each kind at most, 256 in all."""
MOST_CELLS = 64
"""Cells of a row up to which each is probed."""
TOGETHER = 32
MOST_THRESHOLDS = LIMITS["threshold"] // 5
UNSEEN = "paritygate-unseen"


class Cell(object):
    """One place in a row of one input, with what the dataset has there."""

    def __init__(self, one, wire, position, label):
        self.input, self.position, self.label = one, position, label
        self.datatype = one.datatype
        if is_ragged(wire):
            values = np.concatenate([row.reshape(-1) for row in wire])
        else:
            values = wire.reshape(len(wire), -1)
            values = values.reshape(-1) if position is None else values[:, position]
        self.dtype = values.dtype
        if values.dtype == object:
            self.known = set(values)
        elif values.dtype.kind == "f":
            finite = values[np.isfinite(values)]
            self.low, self.high = (finite.min(), finite.max()) if len(finite) else (values.dtype.type(0),) * 2
            self.has_nan, self.infinite = bool(np.isnan(values).any()), set(values[np.isinf(values)].tolist())
        else:
            self.low, self.high = values.min(), values.max()

    def contains(self, value):
        """Whether the dataset's domain holds a value: its range, its categories, and NaN only where it has NaN."""
        if self.dtype == object:
            return value in self.known
        if self.dtype.kind == "f" and not np.isfinite(value):
            return self.has_nan if np.isnan(value) else float(value) in self.infinite
        return bool(self.low <= value <= self.high)

    def can_be_asked(self, value):
        """Whether the source can be asked exactly this: the dataset's dtype holds a value that stands on the wire."""
        original = self.input.original
        if self.dtype == object or is_ragged(original) or isinstance(original, Category):
            return True
        if original.dtype.kind not in "iub":
            return True
        if original.dtype.kind == "b":
            return value in (0, 1)
        limits = np.iinfo(original.dtype)
        return bool(np.isfinite(value) and value == np.floor(value) and limits.min <= value <= limits.max)


def make(model, inputs):
    """Probe rows as (probes, {wire name: wire column}): `probes` are dicts of description, kind and insideDomain."""
    wires = OrderedDict((one.wire_name, one.wire()) for one in inputs)
    base = len(next(iter(wires.values()))) // 2
    cells = [cell for one in inputs for cell in _cells(model, one, wires[one.wire_name])]
    wanted = OrderedDict((kind, []) for kind in LIMITS)
    for cell in cells:
        for kind, value, description in _changes(cell):
            wanted[kind].append((cell, value, description))
    wanted["threshold"] = _beside_thresholds(model, inputs, wires)
    for kind, changes in wanted.items():
        wanted[kind] = [change for change in changes if change[0].can_be_asked(change[1])]
    probes, rows = [], OrderedDict((name, []) for name in wires)
    for kind, changes in wanted.items():
        for cell, value, description in _spread(changes, LIMITS[kind]):
            probes.append(
                OrderedDict(description=description, kind=kind, insideDomain=cell.contains(value)),
            )
            for name, wire in wires.items():
                row = np.array(wire[base], copy=True)
                rows[name].append(_changed(row, cell, value) if name == cell.input.wire_name else row)
    return probes, OrderedDict((name, _column(values, wires[name])) for name, values in rows.items())


def passed_over(model, inputs):
    """{"input", "cells", "total"} of each input of which probes change some cells only, beside all of them at once."""
    found = []
    for one in inputs:
        total = int(np.prod(one.shape[1:]))
        if all(size > 0 for size in one.shape[1:]) and total > MOST_CELLS:
            cells = len(_some_cells(model, len(one.original), total))
            found.append(OrderedDict(input=one.wire_name, cells=cells, total=total))
    return found


def ask(model, inputs, probes, wires):
    """Answers of the source to each probe row, by output; None, and the probe's `refused`, where it raised.

    Rows are asked together as long as the source takes them together, and alone where it raises: a forest takes no
    longer for thirty rows than for one.
    """
    answers = [None] * len(probes)
    size = min(TOGETHER, model.batch)
    queue = [range(start, min(start + size, len(probes))) for start in range(0, len(probes), size)]
    while queue:
        rows = queue.pop(0)
        chosen = np.asarray(rows)
        # Restored by the call: XGBoost refuses every row of a column whose categories hold one that it has not seen.
        restored = OrderedDict((one.name, one.restore(take(wires[one.wire_name], chosen))) for one in inputs)
        try:
            found = once(model, some_rows(restored, range(len(rows))), len(rows))
        except SourceError as error:
            if len(rows) == 1:
                probes[rows[0]]["refused"] = one_line(error.__cause__)
            else:
                middle = len(rows) // 2
                queue[:0] = [rows[:middle], rows[middle:]]
            continue
        for place, row in enumerate(rows):
            answers[row] = OrderedDict((name, column[place : place + 1]) for name, column in found.items())
        progress("asking probes", rows[-1] + 1, len(probes))
    return answers


def inside(inputs, probes, wires, answers):
    """The answered probes inside the domain: their rows, and their inputs as a batch, None where there are none."""
    rows = [row for row, probe in enumerate(probes) if probe["insideDomain"] and answers[row] is not None]
    if not rows:
        return rows, None
    chosen = np.asarray(rows)
    return rows, OrderedDict((one.name, one.restore(take(wires[one.wire_name], chosen))) for one in inputs)


def noise_of(rows, answers, finer):
    """Row → {output: distance of its answer from `finer`, the rows' answers in double precision; None = not had}.

    Rounding does not average out in a row that is all alike, so the noise of the dataset's rows does not speak for it.
    """
    found = {}
    for place, row in enumerate(rows):
        apart = [
            (name, noise.apart(answers[row][name], made[place : place + 1])) for name, made in (finer or {}).items()
        ]
        found[row] = OrderedDict((name, distance) for name, distance in apart if distance is not None)
    return found


def ask_empty_batch(model, inputs):
    """The probe of kind empty-batch: what the source says to a batch without rows."""
    probe = OrderedDict(description="a batch without rows", kind="empty-batch", insideDomain=False)
    empty = OrderedDict()
    for one in inputs:
        column = one.original
        if is_ragged(column):
            column = np.stack([column[0]])
        empty[one.name] = column[np.zeros(0, dtype=np.int64)]
    try:
        once(model, empty, 0)
    except SourceError as error:
        probe["refused"] = one_line(error.__cause__)
    return probe


def _cells(model, one, wire):
    """Cells of an input that are probed: each where there are few, else some of them and the whole row."""
    width = 1 if is_ragged(wire) else int(np.prod(wire.shape[1:]))
    if width == 1 and not is_ragged(wire):
        return [Cell(one, wire, 0, one.columns[0] if len(one.columns) == 1 else one.wire_name)]
    if is_ragged(wire):
        return [Cell(one, wire, None, "all of %s" % one.wire_name)]
    if width <= MOST_CELLS:
        labels = one.columns if len(one.columns) == width else ["%s[%d]" % (one.wire_name, i) for i in range(width)]
        return [Cell(one, wire, position, labels[position]) for position in range(width)]
    whole = Cell(one, wire, None, "all of %s" % one.wire_name)
    some = _some_cells(model, len(wire), width)
    return [whole] + [Cell(one, wire, place, "%s[%d]" % (one.wire_name, place)) for place in some]


def _some_cells(model, rows, width):
    """Which of many cells are probed: some that are evenly spread, and the ends at least, where a shift shows."""
    count = max(2, model.few(rows, 32) // 4)
    return [int(place) for place in np.unique(np.linspace(0, width - 1, count).round())]


def _changes(cell):
    """(kind, value, description) of what is tried in one cell, thresholds apart."""
    if cell.dtype == object:
        yield "nan", "", "empty or missing text in %s" % cell.label
        yield "unseen-category", UNSEEN, "unseen text in %s" % cell.label
        return
    kind = cell.dtype.type
    if cell.dtype.kind == "b":
        yield "zero", kind(False), "False in %s" % cell.label
        yield "extreme", kind(True), "True in %s" % cell.label
        return
    yield "zero", kind(0), "zero in %s" % cell.label
    yield "extreme", cell.low, "smallest value in %s" % cell.label
    yield "extreme", cell.high, "largest value in %s" % cell.label
    if cell.dtype.kind == "f":
        yield "nan", kind(np.nan), "NaN in %s" % cell.label
        yield "inf", kind(np.inf), "+Inf in %s" % cell.label
        yield "inf", kind(-np.inf), "-Inf in %s" % cell.label
        beyond = max(abs(float(cell.low)), abs(float(cell.high)), 1.0) * 1e3
        yield "extreme", kind(min(beyond, float(np.finfo(cell.dtype).max))), "far above the data in %s" % cell.label
    elif int(cell.high) < np.iinfo(cell.dtype).max:
        yield "unseen-category", kind(int(cell.high) + 1), "one above the data in %s" % cell.label


def _beside_thresholds(model, inputs, wires):
    by_name = {one.name: one for one in inputs}
    several = []
    for threshold in model.thresholds():
        one = by_name.get(threshold.input)
        wire = wires[one.wire_name] if one else None
        if one is None or isinstance(one.original, Category) or is_ragged(wire) or wire.dtype.kind != "f":
            continue
        width = int(np.prod(wire.shape[1:]))
        label = (
            one.columns[threshold.position] if len(one.columns) == width else "%s[%d]" % (one.name, threshold.position)
        )
        cell = Cell(one, wire, threshold.position, label)
        several.append([(cell, value) for value in _spread(list(threshold.values), MOST_THRESHOLDS)])
    # In turn over the features, so that a bound on the number leaves out no feature before it leaves out a value.
    most = max(map(len, several), default=0)
    turns = [column[turn] for turn in range(most) for column in several if turn < len(column)]
    return [change for cell, value in turns[:MOST_THRESHOLDS] for change in _beside(cell, float(value))]


def _beside(cell, value):
    """A threshold and its neighbours in the wire's datatype; of FP64 also in single precision, as some trees use.

    Where the dataset holds integers, the integers on both sides of the threshold.
    """
    if cell.input.original.dtype.kind in "iu":
        below = np.floor(value)
        yield cell, cell.dtype.type(below), "largest integer up to threshold %r in %s" % (value, cell.label)
        yield cell, cell.dtype.type(below + 1), "smallest integer above threshold %r in %s" % (value, cell.label)
        return
    at, single = cell.dtype.type(value), np.float32(value)
    yield cell, at, "threshold %r in %s" % (value, cell.label)
    for towards, word in ((-np.inf, "below"), (np.inf, "above")):
        step = np.nextafter(at, cell.dtype.type(towards))
        yield cell, step, "one step %s threshold %r in %s" % (word, value, cell.label)
        if cell.dtype == np.float64:
            step = np.float64(np.nextafter(single, np.float32(towards)))
            yield cell, step, "one single-precision step %s threshold %r in %s" % (word, value, cell.label)


def _spread(items, limit):
    if len(items) <= limit:
        return items
    return [items[place] for place in np.unique(np.linspace(0, len(items) - 1, limit).round().astype(int))]


def _changed(row, cell, value):
    flat = row.reshape(-1)
    if cell.position is None:
        flat[...] = value
    else:
        flat[cell.position] = value
    return flat.reshape(row.shape)


def _column(rows, like):
    if is_ragged(like):
        return ragged(rows)
    if not rows:
        return like[:0]
    column = np.empty((len(rows),) + like.shape[1:], dtype=like.dtype)
    for position, row in enumerate(rows):
        column[position] = row
    return column
