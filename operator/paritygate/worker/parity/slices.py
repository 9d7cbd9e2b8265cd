"""Slices: is any group of rows harmed? By declared column, by class, and by which inputs are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from paritygate.api.base import decimal
from paritygate.api.report import Check, CheckName, Measurement, NotJudged, OutputRole
from paritygate.api.spec import Equivalence, Slice
from paritygate.worker.parity.columns import cells, different, is_ragged, row_hashes
from paritygate.worker.parity.evidence import MIN_ROWS, Evidence, codes_of, count_units
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.measure import check, count, number, percent
from paritygate.worker.parity.metrics import limit_of, measured, rows_of, task_metric
from paritygate.worker.parity.rows import worst_rows
from paritygate.worker.parity.scoring import scores_of
from paritygate.worker.parity.statistics import binomial_tail, clopper_pearson, holm, most_events, rows_for_rate

Array = npt.NDArray[Any]
_MANY_VALUES: Final = 100
"""Numeric slice columns with more values are cut at their quartiles."""
_MOST_SLICES: Final = 200
"""Slices listed beside the critical ones, the most harmed first."""


@dataclass(frozen=True)
class Part:
    """The rows of one slice."""

    name: str
    """Such as 'country=DE'."""
    rows: Array
    """Indices of its rows."""
    stated: Slice | None = None
    """None = not declared: a class or a pattern of missing values."""

    @property
    def critical(self) -> bool:
        """Whether it must meet its own budget."""
        return self.stated is not None and self.stated.critical


def slices(evidence: Evidence) -> Check:
    """Is any slice harmed, and does every critical one meet its budget?"""
    found = parts(evidence)
    critical = [m for part in found if part.critical for m in _critical(evidence, part)]
    others = sorted(_harm(evidence, found), key=lambda m: (-(m.measured or 0.0), m.subject))[:_MOST_SLICES]
    message = "" if any(m.blocking for m in critical) else _message(found, others)
    return check(CheckName.SLICES, [*critical, *others], message)


def too_small(evidence: Evidence) -> list[NotJudged]:
    """Slices that nothing is claimed about."""
    small = [part for part in parts(evidence) if _units(evidence, part) < MIN_ROWS]
    listed = [
        NotJudged(
            what=f"slice {part.name}",
            why=f"{count(_units(evidence, part), evidence.unit_name)}; at least {MIN_ROWS} are needed",
        )
        for part in small[:20]
    ]
    if len(small) > len(listed):
        listed.append(NotJudged(what=f"{len(small) - len(listed):,} further slices", why="too few rows in each"))
    return listed


def parts(evidence: Evidence) -> list[Part]:
    """All slices, declared ones first. Computed once per evidence's rows."""
    cached = evidence.__dict__.get("_parts")
    if cached is None:
        cached = [*_declared(evidence), *_of_classes(evidence), *_of_missing(evidence)]
        evidence.__dict__["_parts"] = cached
    return cached


def _declared(evidence: Evidence) -> Iterator[Part]:
    for stated in evidence.policy.validation.dataset.slices:
        if stated.column in evidence.annotations:
            codes, names = _values(evidence.annotations[stated.column])
            yield from _split(stated.column, codes, names, stated)


def _values(column: Any) -> tuple[Array, list[str]]:
    codes, values = codes_of(column)
    numbers = [value for value in values if isinstance(value, int | float) and value == value]  # noqa: PLR0124
    if len(values) <= _MANY_VALUES or len(numbers) < len(values) - 1:
        return codes, [_name(value) for value in values]
    table = np.asarray([float(v) if isinstance(v, int | float) else np.nan for v in values])[codes]
    # Infinities fall into the outermost bins.
    edges = np.unique(np.nanquantile(np.where(np.isinf(table), np.nan, table), [0, 0.25, 0.5, 0.75, 1]))
    bins = np.clip(np.searchsorted(edges, table, side="right") - 1, 0, len(edges) - 2)
    bins = np.where(np.isnan(table), len(edges) - 1, bins)
    names = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return bins, [*names, "missing"]


def _name(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN is unequal to itself
        return "missing"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _split(title: str, codes: Array, names: list[str], stated: Slice | None) -> Iterator[Part]:
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    found = [
        Part(f"{title}={names[code]}", order[starts[code] : starts[code + 1]], stated)
        for code in range(len(names))
        if starts[code] < starts[code + 1]
    ]
    yield from sorted(found, key=lambda part: part.name)


def _of_classes(evidence: Evidence) -> Iterator[Part]:
    label = evidence.policy.validation.dataset.label
    if (
        label is not None
        and label in evidence.annotations
        and any(output.classes for output in evidence.capture.signature.outputs)
    ):
        codes, names = _values(evidence.annotations[label])
        yield from _split("class", codes, names, None)
        return
    for output in evidence.capture.signature.outputs:
        column = evidence.reference.get(output.name)
        if output.role is OutputRole.LABEL and column is not None and column.ndim == 1 and not is_ragged(column):
            codes, names = _values(column)
            yield from _split(f"source's {output.name}", codes, names, None)


def _of_missing(evidence: Evidence) -> Iterator[Part]:
    masks, columns = [], []
    names = evidence.capture.columns
    for name, column in evidence.inputs.items():
        array = np.asarray(column)
        if is_ragged(array):
            continue
        lines = cells(array)
        if array.dtype == object:
            mask = (lines == None) | (lines == "")  # noqa: E711 - elementwise
        elif array.dtype.kind == "f":
            mask = np.isnan(lines)
        else:
            continue
        positions = np.flatnonzero(mask.any(axis=0))
        masks.append(mask[:, positions])
        named = len(names) == lines.shape[1] > 1
        columns += [names[p] if named else name if lines.shape[1] == 1 else f"{name}[{p}]" for p in positions]
    if not columns:
        return
    mask = np.column_stack(masks).astype(bool)
    hashes = row_hashes([mask], evidence.rows)
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    patterns = [_pattern([columns[p] for p in np.flatnonzero(mask[row])]) for row in first]
    yield from _split("missing", codes.reshape(-1), patterns, None)


def _pattern(columns: list[str]) -> str:
    shown = ", ".join(columns[:4])
    return (shown + (f" and {len(columns) - 4} more" if len(columns) > 4 else "")) or "nothing"  # noqa: PLR2004


def _units(evidence: Evidence, part: Part) -> int:
    return count_units(evidence.units[part.rows])


@dataclass(frozen=True)
class _Harm:
    """Which rows count as harmed."""

    rows: Array
    """(rows,) bool."""
    statistic: str
    verb: str


def _harmed(evidence: Evidence) -> _Harm:
    """Rows that flip and are no ties; where the outputs stand for no decision on rows, those beyond tolerance."""
    flips = [decision.real for decision in decisions_of(evidence) if decision.sides is not None]
    if flips:
        return _Harm(np.logical_or.reduce(flips), "flip rate", "flip")
    beyond = evidence.unanswered.copy()
    for pair in evidence.pairs:
        if pair.tolerance is None:
            beyond |= different(pair.reference, pair.candidate)
        else:
            beyond |= ~(evidence.errors[pair.output.name].ratio <= 1)
    return _Harm(beyond, "share beyond tolerance", "lie beyond tolerance")


def _judges_rows(evidence: Evidence, part: Part | None = None) -> bool:
    """Whether single rows count. A model that was trained anew is another model in nearly every row."""
    stated = part is not None and part.stated is not None and part.stated.max_flip_rate is not None
    return stated or evidence.policy.equivalence is not Equivalence.METRIC


def _critical(evidence: Evidence, part: Part) -> Iterator[Measurement]:
    if part.stated is None:
        return
    blocking = evidence.policy.equivalence is not Equivalence.NUMERIC
    if _judges_rows(evidence, part):
        limit = float(part.stated.max_flip_rate or evidence.policy.validation.decisions.max_flip_rate)
        yield _rate(evidence, part, _harmed(evidence), limit, blocking=blocking)
    metric = task_metric(evidence)
    drop = decimal(part.stated.max_drop) if part.stated.max_drop is not None else limit_of(metric)
    if drop is None:
        return
    scores = scores_of(evidence, (metric.name,))
    chosen = np.isin(scores[0].rows, part.rows) if scores else np.zeros(0, dtype=bool)
    if not chosen.any():
        yield Measurement(
            subject=part.name, statistic=f"drop in {metric.name.value}", rows=0, limit=drop, blocking=blocking,
            unjudged="it has no labelled rows, or none of the outputs that the metric needs",
        )  # fmt: skip
        return
    yield measured(evidence, rows_of(scores[0], chosen), drop, blocking=blocking, subject=part.name)


def _rate(evidence: Evidence, part: Part, harm: _Harm, limit: float, *, blocking: bool) -> Measurement:
    units, alpha = evidence.units[part.rows], evidence.policy.alpha
    total, events = count_units(units), count_units(units[harm.rows[part.rows]])
    bounds = clopper_pearson(events, total, alpha)
    most = most_events(total, limit, alpha)
    error = np.zeros(evidence.rows)
    error[part.rows] = harm.rows[part.rows]
    few = total < MIN_ROWS and blocking
    damage = "flipped" if harm.verb == "flip" else "changed"
    return Measurement(
        subject=part.name,
        statistic=harm.statistic,
        rows=total,
        measured=bounds.measured,
        lower=bounds.lower,
        upper=bounds.upper,
        limit=limit,
        blocking=blocking,
        unjudged=f"it has {total:,} {evidence.unit_name}; at least {MIN_ROWS} are needed" if few else None,
        rows_needed=rows_for_rate(bounds.measured, limit, alpha) if bounds.lower <= limit < bounds.upper else None,
        smallest_damage=f"{most + 1:,} {damage} {evidence.unit_name} in {part.name}" if 0 <= most < total else None,
        worst=worst_rows(evidence, error),
    )


def _harm(evidence: Evidence, found: list[Part]) -> Iterator[Measurement]:
    """Evidence of harm among slices that are not critical: lower bounds at levels that Holm's procedure allots.

    Decisions count by rows. Where there are none, so does the metric: it says how much worse, not how often.
    """
    judged = [part for part in found if not part.critical and _units(evidence, part) >= MIN_ROWS]
    if not judged:
        return
    harm = _harmed(evidence)
    if harm.verb == "flip" or _judges_rows(evidence):
        yield from _by_rows(evidence, judged, harm)
    if harm.verb != "flip":
        yield from _by_metric(evidence, judged)


def _by_rows(evidence: Evidence, judged: list[Part], harm: _Harm) -> Iterator[Measurement]:
    default = float(evidence.policy.validation.decisions.max_flip_rate)
    totals = np.asarray([_units(evidence, part) for part in judged])
    events = np.asarray([count_units(evidence.units[part.rows][harm.rows[part.rows]]) for part in judged])
    limits = [
        float(part.stated.max_flip_rate) if part.stated and part.stated.max_flip_rate else default for part in judged
    ]
    p_values = np.asarray([binomial_tail(e, t, x) for e, t, x in zip(events, totals, limits, strict=True)], dtype=float)
    for part, event, total, limit, level in zip(
        judged, events, totals, limits, holm(p_values, evidence.policy.alpha), strict=True
    ):
        bounds = clopper_pearson(int(event), int(total), float(level))
        yield Measurement(
            subject=part.name,
            statistic=f"{harm.statistic}, at least",
            rows=int(total),
            measured=bounds.lower,
            limit=limit,
            blocking=False,
            message=f"{part.name}: {int(event):,} of {count(int(total), evidence.unit_name)} {harm.verb} "
            f"({percent(bounds.measured)}, at least {percent(bounds.lower)} after Holm's correction).",
        )


def _by_metric(evidence: Evidence, judged: list[Part]) -> Iterator[Measurement]:
    """By how much the metric drops at least. Tails by the normal approximation, with the bootstrap's spread."""
    metric = task_metric(evidence)
    scores = scores_of(evidence, (metric.name,))
    if not scores:
        return
    alpha = evidence.policy.alpha
    drops = []
    for part in judged:
        chosen = np.isin(scores[0].rows, part.rows)
        own = measured(evidence, rows_of(scores[0], chosen), None, blocking=False) if chosen.any() else None
        if own is not None and own.measured is not None and own.lower is not None and own.rows >= MIN_ROWS:
            stated = part.stated.max_drop if part.stated else None
            limit = decimal(stated) if stated is not None else limit_of(metric) or 0.0
            drops.append((part, own.rows, own.measured, (own.measured - own.lower) / -special.ndtri(alpha), limit))
    p_values = np.asarray([_tail(drop, spread, limit) for _, _, drop, spread, limit in drops], dtype=float)
    for (part, rows, drop, spread, limit), level in zip(drops, holm(p_values, alpha), strict=True):
        least = drop - -float(special.ndtri(level)) * spread
        yield Measurement(
            subject=part.name,
            statistic=f"drop in {metric.name.value}, at least",
            rows=rows,
            measured=least,
            limit=limit,
            blocking=False,
            message=f"{part.name}: {metric.name.value} is worse by {number(drop)}, at least {number(least)} after "
            f"Holm's correction, on {count(rows, evidence.unit_name)}.",
        )


def _tail(drop: float, spread: float, limit: float) -> float:
    """p-value that the drop does not exceed its limit."""
    if spread <= 0:
        return 0.0 if drop > limit else 1.0
    return float(special.ndtr((limit - drop) / spread))


def _message(found: list[Part], measurements: list[Measurement]) -> str:
    if not found:
        return "The dataset has no slices: no column is declared, no class is known and no value is missing."
    if not measurements:
        return f"None of {count(len(found), 'slices')} has {MIN_ROWS} rows, with labels where the metric is judged."
    harmed = [m for m in measurements if m.measured is not None and m.limit is not None and m.measured > m.limit]
    if not harmed:
        return f"No evidence of harm in {count(len(measurements), 'slices')} of {MIN_ROWS} or more rows."
    return f"{count(len(harmed), 'slices')} of {len(measurements):,} harmed. {harmed[0].message}"
