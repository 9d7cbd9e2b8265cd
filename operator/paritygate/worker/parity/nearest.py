"""Which outputs and columns differ: what can be said of the place where no step inside the model could be compared."""

from __future__ import annotations

import numpy as np

from paritygate.worker.parity.columns import different, flat
from paritygate.worker.parity.evidence import Evidence, Pair
from paritygate.worker.parity.measure import count

_MOST: int = 3
"""Outputs that are named."""
_CONCENTRATED: float = 0.8
"""Share of the differing rows that lie in one column from which on it is named."""


def nearest(evidence: Evidence) -> str | None:
    """Outputs that differ, the worst column of each, and those that agree. None = nothing that was compared differs."""
    differ, agree = [], []
    for pair in evidence.pairs:
        wrong = different(pair.reference, pair.candidate)
        if pair.tolerance is not None:
            wrong = ~(evidence.errors[pair.output.name].ratio <= 1)
        if wrong.any():
            differ.append(f"{pair.output.name} differs in {int(wrong.sum()):,} of {count(len(wrong), 'rows')}")
            differ[-1] += _column(evidence, pair, wrong)
        else:
            agree.append(pair.output.name)
    if not differ:
        return None
    more = f", and so do {len(differ) - _MOST:,} more" if len(differ) > _MOST else ""
    rest = f"; {', '.join(agree[:_MOST])} agree{'s' if len(agree) == 1 else ''}" if agree else ""
    return "; ".join(differ[:_MOST]) + more + rest


def _column(evidence: Evidence, pair: Pair, wrong: np.ndarray) -> str:
    """The column that holds the worst error of most of the rows that differ."""
    if pair.tolerance is None:
        return ""
    width = flat(pair.reference[:1])[0].shape[1]
    columns = evidence.errors[pair.output.name].column[wrong]
    if width < 2:  # noqa: PLR2004 - one column is the output
        return ""
    numbers, rows = np.unique(columns, return_counts=True)
    if rows.max() < _CONCENTRATED * rows.sum():
        return f", in {len(numbers):,} of its {width:,} columns"
    worst = int(numbers[rows.argmax()])
    classes = pair.output.classes
    name = f" (class {classes[worst]!r})" if classes and worst < len(classes) else ""
    return f", most in column {worst}{name} of {width:,}"
