"""Data of the report's pictures: errors in units of τ, and source against candidate where decisions flip."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.report import Histogram, Plots, Scatter
from paritygate.worker.parity.columns import cells
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.flips import Decision, decisions_of

Array = npt.NDArray[Any]
_POINTS: Final = 2000
_MOST_FLIPS: Final = 1000
_MOST_PLOTS: Final = 4
_EDGES: Final = np.logspace(-6, 6, 49)
"""Quarter decades; what lies beyond counts in the outermost bins."""


def plots(evidence: Evidence) -> Plots:
    """Histograms of the numeric outputs and scatters of the decisions made on scores, a few of each."""
    histograms = [_histogram(name, errors.ratio) for name, errors in list(evidence.errors.items())[:_MOST_PLOTS]]
    scatters = [_scatter(decision) for decision in decisions_of(evidence)[:_MOST_PLOTS]]
    return Plots(errors=tuple(histograms), flips=tuple(s for s in scatters if s is not None))


def _histogram(name: str, ratio: Array) -> Histogram:
    above = np.clip(np.nan_to_num(ratio[ratio > 0], nan=_EDGES[-1], posinf=_EDGES[-1]), _EDGES[0], _EDGES[-1])
    counts, _ = np.histogram(above, bins=_EDGES)
    used = np.flatnonzero(counts)
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    return Histogram(
        output=name,
        edges=tuple(float(f"{edge:.4g}") for edge in _EDGES[first : last + 1]),
        counts=tuple(int(count) for count in counts[first:last]),
        zeros=int((ratio == 0).sum()),
    )


def _scatter(decision: Decision) -> Scatter | None:
    pair = decision.scores
    if pair is None or decision.sides is None:
        return None
    width = cells(pair.reference).shape[1]
    column = decision.column if decision.column is not None else min(1, width - 1)
    mine = cells(pair.reference)[:, column].astype(np.float64)
    theirs = cells(pair.candidate)[:, column].astype(np.float64)
    finite = np.isfinite(mine) & np.isfinite(theirs)
    flipped = np.flatnonzero(decision.real & finite)
    flipped = flipped[_evenly(len(flipped), _MOST_FLIPS)]
    others = np.flatnonzero(~decision.real & finite)
    chosen = np.concatenate([flipped, others[_evenly(len(others), _POINTS - len(flipped))]])
    threshold = decision.threshold
    if threshold is None and pair.output.role.value == "Probabilities" and width == 2:  # noqa: PLR2004 - binary
        threshold = 0.5
    name = pair.output.name if width == 1 else f"{pair.output.name}[{column}]"
    return Scatter(
        subject=f"{decision.subject} by {name}" if decision.subject != name else name,
        reference=tuple(float(f"{value:.6g}") for value in mine[chosen]),
        candidate=tuple(float(f"{value:.6g}") for value in theirs[chosen]),
        flipped=tuple(bool(value) for value in decision.real[chosen]),
        threshold=threshold,
    )


def _evenly(count: int, wanted: int) -> Array:
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).round().astype(np.int64)) if count else np.arange(0)
