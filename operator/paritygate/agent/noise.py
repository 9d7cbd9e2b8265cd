"""How far a source is from itself: the same rows again, alone, with one thread against two, and in double precision.

Repeats of one kernel in another order tell only part of what rounding does: a network that computes in single
precision is as far from its own arithmetic in double precision as a right conversion is from it. So that distance
counts as noise where it can be measured.
"""

import math
from collections import OrderedDict, namedtuple

import numpy as np

from paritygate.agent.answering import answer
from paritygate.agent.wire import is_ragged, take

REPEATED = 64
"""Rows that are asked again, at most."""
MOST_COLUMNS = 1024
"""Columns of an output's last axis up to which each tells its own noise."""
SINGLE = 4
"""One row in so many of the repeated ones is also asked alone."""

Repeats = namedtuple("Repeats", "part rows pairs")
"""`part`: the inputs of the `rows` rows that were repeated; `pairs` of answers to them that should be equal."""

# As torch.testing.assert_close: beyond it, the same call differed by more than the order of additions explains.
_ROUNDING = {2: (1e-3, 1e-5), 4: (1.3e-6, 1e-5), 8: (1e-7, 1e-7)}


def fixed_part(rows, count):
    """Numbers of at most `count` rows, evenly spread over the dataset."""
    return np.unique(np.linspace(0, rows - 1, min(rows, count)).round().astype(np.int64))


def repeat(model, inputs):
    """Asks the fixed part again and again, as `Repeats`."""
    rows = len(next(iter(inputs.values())))
    chosen = fixed_part(rows, model.few(rows, REPEATED))
    part = OrderedDict((name, take(column, chosen)) for name, column in inputs.items())
    with model.threads(2):
        whole = answer(model, part)
        again = answer(model, part)
    pairs = [(whole, again)]
    few = np.arange(0, len(chosen), SINGLE)
    singles = answer(model, OrderedDict((name, take(column, few)) for name, column in part.items()), batch=1)
    pairs.append((OrderedDict((name, column[few]) for name, column in whole.items()), singles))
    with model.threads(1) as limited:
        if limited:
            pairs.append((whole, answer(model, part)))
    return Repeats(part, len(chosen), pairs)


def measure(repeats, finer):
    """Noise of each output: a list of `Noise` as dicts. `finer`: the part in double precision, None = not to be had."""
    whole, again = repeats.pairs[0]
    noise = []
    for name, column in whole.items():
        pairs = [(one[name], other[name]) for one, other in repeats.pairs]
        if finer is not None and name in finer:
            pairs.append((column, finer[name]))
        distances = np.concatenate([_distances(one, other) for one, other in pairs])
        noise.append(
            OrderedDict(
                output=name,
                floor=_percentile(distances, 99.9),
                columns=_by_column(column, pairs),
                rows=repeats.rows,
                finer=finer is not None and name in finer,
                stochastic=_differs(column, again[name]),
            )
        )
    return noise


def _by_column(column, pairs):
    """The floor of each column of the last axis; empty where there is one, none that all rows share, or too many."""
    if not _numeric(column) or is_ragged(column) or column.ndim < 2:
        return []
    width = column.shape[-1]
    shapes = [(left.shape, right.shape) for left, right in pairs]
    if not 1 < width <= MOST_COLUMNS or any(left != right for left, right in shapes):
        return []
    distances = np.concatenate([_distances(left, right).reshape(-1, width) for left, right in pairs])
    return [_percentile(distances[:, place], 99.9) for place in range(width)]


def apart(left, right):
    """Largest absolute difference of two answers; None where there is none to tell, or it is not finite."""
    distances = _distances(left, right) if _numeric(left) else np.zeros(0)
    largest = float(distances.max()) if len(distances) else 0.0
    return largest if 0 < largest < np.inf else None


def _numeric(column):
    return is_ragged(column) or column.dtype.kind in "fc"


def _flat(column):
    parts = [np.asarray(row).reshape(-1) for row in column] if is_ragged(column) else [column.reshape(-1)]
    return np.concatenate(parts) if parts else np.empty(0)


def _distances(left, right):
    """Absolute differences of two answers; 0 where both are the same infinity or NaN, infinite where one is."""
    if not _numeric(left):
        return np.zeros(1)
    left, right = _flat(left), _flat(right)
    if left.shape != right.shape:
        return np.asarray([np.inf])
    with np.errstate(all="ignore"):
        distances = np.abs(left.astype(np.float64) - right.astype(np.float64))
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return np.where(same, 0.0, np.where(np.isnan(distances), np.inf, distances))


def _differs(left, right):
    if not _numeric(left):
        return not np.array_equal(left, right)
    distances = _distances(left, right)
    values = _flat(left)
    relative, absolute = _ROUNDING.get(values.dtype.itemsize, _ROUNDING[8])
    with np.errstate(all="ignore"):
        allowed = absolute + relative * np.abs(values.astype(np.float64))
    return distances.shape != allowed.shape or bool(np.any(distances > np.nan_to_num(allowed)))


def _percentile(distances, percent):
    """The smallest value that at least `percent` of the distances do not exceed."""
    ordered = np.sort(distances)
    return float(ordered[max(0, math.ceil(len(ordered) * percent / 100.0) - 1)]) if len(ordered) else 0.0
