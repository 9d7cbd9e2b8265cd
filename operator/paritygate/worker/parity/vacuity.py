"""Vacuity: the gate judges answers that it must not pass. If it passes them, the data cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.report import Check, CheckName, Measurement, Verdict
from paritygate.api.spec import Equivalence
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.columns import cells, is_ragged, row_hashes
from paritygate.worker.parity.evidence import MIN_ROWS, Evidence, Table, count_units
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.measure import check, count
from paritygate.worker.parity.metrics import limit_of
from paritygate.worker.parity.scoring import scores_of
from paritygate.worker.parity.slices import Part, parts

Array = npt.NDArray[Any]
Judge = Callable[[Evidence], Iterable[Check]]
_SEED: Final = 1_898_0117


def vacuity(evidence: Evidence, judge: Judge) -> Check:
    """Would this run have stopped a broken candidate? `judge` are the checks that see only the rows' answers."""
    few = _few(evidence)
    if few is not None:
        message = f"Nothing is claimed on fewer than {MIN_ROWS} rows that differ; there {_are(few.rows)}."
        return check(CheckName.VACUITY, [few], message)
    measurements = [_sabotaged(evidence, judge, name, candidate) for name, candidate in sabotages(evidence)]
    caught = sum(m.unjudged is None for m in measurements)
    message = f"{caught} of {len(measurements)} deliberate defects were stopped"
    if caught == len(measurements):
        message += ": " + "; ".join(m.subject for m in measurements) + "."
    else:
        message += f"; these would pass as well: {'; '.join(m.subject for m in measurements if m.unjudged)}. The rows "
        message += "are too few or too much alike."
    return check(CheckName.VACUITY, measurements, message)


def _are(rows: int) -> str:
    return "is 1" if rows == 1 else f"are {rows:,}"


def _few(evidence: Evidence) -> Measurement | None:
    """None = there are rows enough to claim anything. Rows of a group count: what is exact needs no independence."""
    distinct = len(np.unique(evidence.input_hashes))
    if distinct >= MIN_ROWS:
        return None
    return Measurement(
        subject="all rows",
        statistic="distinct rows",
        rows=distinct,
        measured=float(distinct),
        blocking=True,
        unjudged=f"there are {distinct:,}, and at least {MIN_ROWS} are needed",
        rows_needed=MIN_ROWS,
    )


def sabotages(evidence: Evidence) -> Iterator[tuple[str, Table]]:
    """Names of deliberate defects with the answers that they give."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    shuffled = random.permutation(evidence.rows)
    yield "answers shuffled between rows", {name: column[shuffled] for name, column in evidence.candidate.items()}
    if evidence.policy.equivalence is Equivalence.NUMERIC:
        for pair in evidence.pairs:
            if pair.tolerance is not None and pair.reference.size:
                yield (
                    f"{pair.output.name} of one row shifted by twice its tolerance",
                    {**evidence.candidate, pair.output.name: _shifted(evidence, pair.output.name)},
                )
    elif evidence.policy.equivalence is Equivalence.DECISION:
        limit = float(evidence.policy.validation.decisions.max_flip_rate)
        rows = _spread(evidence, np.arange(evidence.rows), 2 * limit)
        yield f"decisions of {len(rows):,} rows flipped, twice what is allowed", _swapped(evidence, rows)
    else:
        yield from _dropped(evidence, shuffled)
    smallest = _smallest(evidence)
    if smallest is not None:
        rows = smallest.rows[:1]
        if evidence.policy.equivalence is not Equivalence.NUMERIC:
            rows = _spread(evidence, smallest.rows, 2 * _budget(evidence, smallest))
        yield f"{count(len(rows), 'answers')} of slice {smallest.name} replaced", _swapped(evidence, rows)


def _sabotaged(evidence: Evidence, judge: Judge, name: str, candidate: Table) -> Measurement:
    broken = evidence.with_candidate(candidate)
    # Parts depend on rows alone; decisions do not.
    if "_parts" in evidence.__dict__:
        broken.__dict__["_parts"] = evidence.__dict__["_parts"]
    passed = _passes(judge(broken))
    return Measurement(
        subject=name,
        statistic="passes the gate",
        rows=evidence.unit_count,
        measured=float(passed),
        limit=0.0,
        blocking=True,
        unjudged="this defect would pass: the rows are too few or too much alike to tell" if passed else None,
    )


def _passes(checks: Iterable[Check]) -> bool:
    """Whether the verdict is Passed. The first check that stops a defect is enough: the rest are not computed."""
    blocking = False
    for found in checks:
        blocking = blocking or found.blocking
        if found.blocking and verdict_of((found,)) is not Verdict.PASSED:
            return False
    return blocking


def _shifted(evidence: Evidence, name: str) -> Array:
    """The source's answers, off by twice τ in one element of one row, the one with the smallest relative change."""
    pair = next(pair for pair in evidence.pairs if pair.output.name == name)
    shifted = pair.reference.copy()
    rows = np.arange(evidence.rows)
    row = int(rows[len(rows) // 2])
    cell = np.asarray(shifted[row], dtype=np.float64)
    values = cell.reshape(-1, cell.shape[-1] if cell.ndim else 1)
    finite = np.argwhere(np.isfinite(values))
    if not len(finite):
        return shifted
    line, column = finite[0]
    allowed = pair.tolerance.of(values) if pair.tolerance is not None else np.ones_like(values)
    values = values.copy()
    values[line, column] += 2 * allowed[line, column]
    moved = values.reshape(cell.shape)
    if is_ragged(shifted):
        shifted[row] = moved
        return shifted
    wide = shifted.astype(np.float64)
    wide[row] = moved
    return wide


def _spread(evidence: Evidence, rows: Array, rate: float) -> Array:
    """Rows, evenly spread, that make up `rate` of the units; at least one."""
    units = evidence.units[rows]
    _, first = np.unique(units, return_index=True)
    wanted = max(1, int(np.ceil(rate * len(first))))
    picked = np.unique(np.linspace(0, len(first) - 1, min(wanted, len(first))).round().astype(np.int64))
    chosen = units[np.sort(first)[picked]]
    return rows[np.isin(units, chosen)]


def _swapped(evidence: Evidence, rows: Array) -> Table:
    """The candidate's answers, in which each of `rows` gets the answer of a row that the source decides otherwise."""
    decision = next((d for d in decisions_of(evidence) if d.sides is not None), None)
    sides = decision.sides if decision is not None else None
    if sides is None or (sides == sides[:1]).all():
        others = _unlike(evidence, rows)
    else:
        present, first = np.unique(sides, return_index=True)
        position = np.searchsorted(present, sides[rows])
        others = first[(position + 1) % len(present)]
    swapped = {}
    for name, column in evidence.candidate.items():
        changed = column.copy()
        changed[rows] = column[others]
        swapped[name] = changed
    return swapped


def _unlike(evidence: Evidence, rows: Array) -> Array:
    """For each of `rows` a row that the source answers otherwise, the furthest away; itself if there is none."""
    for pair in evidence.pairs:
        if pair.tolerance is None or is_ragged(pair.reference) or not pair.reference.size:
            continue
        values = np.nan_to_num(cells(pair.reference).astype(np.float64), posinf=0.0, neginf=0.0)
        with np.errstate(all="ignore"):
            spread = np.nan_to_num(np.ptp(values, axis=0) / np.abs(values).max(axis=0))
        column = values[:, int(spread.argmax())]
        low, high = int(column.argmin()), int(column.argmax())
        return np.where(column[rows] - column[low] > column[high] - column[rows], low, high)
    answers = row_hashes(list(evidence.reference.values()), evidence.rows)
    other = np.flatnonzero(answers != answers[:1])
    return np.where(answers[rows] == answers[:1], other[0], 0) if len(other) else rows


def _dropped(evidence: Evidence, shuffled: Array) -> Iterator[tuple[str, Table]]:
    """Answers of a growing part of the rows shuffled until the first stated metric drops by twice what is allowed."""
    stated = next((metric for metric in evidence.policy.validation.metrics if metric.max_drop is not None), None)
    limit = limit_of(stated) if stated is not None else None
    if stated is None or limit is None:
        return
    low, high = 0, evidence.rows
    for _ in range(12):
        middle = (low + high) // 2
        if _drop(evidence, stated.name, _part_shuffled(evidence, shuffled, middle)) >= 2 * limit:
            high = middle
        else:
            low = middle
    candidate = _part_shuffled(evidence, shuffled, high)
    if _drop(evidence, stated.name, candidate) >= 2 * limit:
        yield f"{stated.name.value} dropped by twice what is allowed", candidate


def _part_shuffled(evidence: Evidence, shuffled: Array, size: int) -> Table:
    rows = shuffled[:size]
    changed = {}
    for name, column in evidence.candidate.items():
        copy = column.copy()
        copy[rows] = column[np.roll(rows, 1)]
        changed[name] = copy
    return changed


def _drop(evidence: Evidence, name: Any, candidate: Table) -> float:
    scores = scores_of(evidence.with_candidate(candidate), (name,))
    return float(scores[0].drop(scores[0].sums.sum(axis=0))) if scores else 0.0


def _smallest(evidence: Evidence) -> Part | None:
    """The smallest slice that a blocking check speaks for."""
    numeric = evidence.policy.equivalence is Equivalence.NUMERIC
    candidates = [
        part
        for part in parts(evidence)
        if (numeric or (part.critical and count_units(evidence.units[part.rows]) >= MIN_ROWS))
        and (not numeric or len(parts(evidence)) > 0)
    ]
    return min(candidates, key=lambda part: (len(part.rows), part.name), default=None)


def _budget(evidence: Evidence, part: Part) -> float:
    stated = part.stated.max_flip_rate if part.stated else None
    if stated is None and evidence.policy.equivalence is Equivalence.METRIC and part.stated:
        stated = part.stated.max_drop
    return float(stated or evidence.policy.validation.decisions.max_flip_rate)
