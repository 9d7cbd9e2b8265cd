"""Contract: all outputs, as declared; NaN and infinities in the same places; the same answer at every batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.report import Check, CheckName, Measurement, OutputRole, TensorSignature
from paritygate.api.spec import Equivalence
from paritygate.worker.parity.columns import different, is_ragged, same_layout
from paritygate.worker.parity.evidence import BatchAnswers, Evidence
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.margins import classes_array, own_argmax
from paritygate.worker.parity.measure import check, count
from paritygate.worker.parity.rows import worst_rows
from paritygate.worker.parity.tolerance import row_errors

Array = npt.NDArray[Any]
_HELD = {
    **{f"{sign}INT{bits}": f"{sign.lower()}int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BOOL": "bool",
    "FP16": "float16",
    "BF16": "float32",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
"""Datatype → numpy dtype in which its answers are held."""


def contract(evidence: Evidence) -> Check:
    """Does the candidate keep what the wire signature promises?"""
    measurements = [_promises(evidence), _answered(evidence), *_without_reference(evidence)]
    measurements += [m for m in (_non_finite(evidence), _self_consistency(evidence)) if m is not None]
    measurements += list(_batches(evidence))
    broken = [m for m in measurements if m.measured and m.limit is not None and m.measured > m.limit and m.message]
    names = ", ".join(output.name for output in evidence.capture.signature.outputs)
    kept = f"All outputs ({names}) have their datatypes and shapes, and batch sizes do not change answers."
    if not evidence.batches:
        kept = f"All outputs ({names}) have their datatypes and shapes."
    return check(CheckName.CONTRACT, measurements, " ".join(m.message or "" for m in broken) or kept)


def _promises(evidence: Evidence) -> Measurement:
    problems = [*_offer_problems(evidence), *_answer_problems(evidence)]
    return Measurement(
        subject="all outputs",
        statistic="broken promises",
        rows=evidence.unit_count,
        measured=float(len(problems)),
        limit=0.0,
        blocking=True,
        message="; ".join(problems) + "." if problems else None,
        smallest_damage="one output that is missing, renamed, retyped or reshaped",
    )


def _offer_problems(evidence: Evidence) -> Iterator[str]:
    if evidence.offer is None:
        return
    for kind, stated, offered in (
        ("input", evidence.capture.signature.inputs, evidence.offer.inputs),
        ("output", evidence.capture.signature.outputs, evidence.offer.outputs),
    ):
        found = {tensor.name: tensor for tensor in offered}
        for tensor in stated:
            if tensor.name not in found:
                yield f"{kind} {tensor.name!r} is missing: the candidate offers {', '.join(sorted(found)) or 'none'}"
            else:
                yield from _tensor_problems(kind, tensor, found[tensor.name])
        for name in sorted(set(found) - {tensor.name for tensor in stated}):
            yield f"{kind} {name!r} is not in the signature"


def _tensor_problems(kind: str, stated: TensorSignature, offered: TensorSignature) -> Iterator[str]:
    if stated.datatype != offered.datatype:
        yield f"{kind} {stated.name!r} has datatype {offered.datatype} instead of {stated.datatype}"
    # A scalar and an undeclared shape look alike in the protocol's metadata.
    ranks_differ = len(stated.shape) != len(offered.shape)
    sizes_differ = any(-1 not in (a, b) and a != b for a, b in zip(stated.shape, offered.shape, strict=False))
    frozen = any(a == -1 and b != -1 for a, b in zip(stated.shape, offered.shape, strict=False))
    if offered.shape and (ranks_differ or sizes_differ or frozen):
        yield f"{kind} {stated.name!r} has shape {list(offered.shape)} instead of {list(stated.shape)}"


def _answer_problems(evidence: Evidence) -> Iterator[str]:
    for output in evidence.capture.signature.outputs:
        reference, candidate = evidence.reference.get(output.name), evidence.candidate.get(output.name)
        if candidate is None:
            yield f"output {output.name!r} was not answered"
            continue
        if reference is not None and not same_layout(reference, candidate):
            yield (f"output {output.name!r} has shape {_shape(candidate)} where the source answers {_shape(reference)}")
        dtype = candidate[0].dtype if is_ragged(candidate) else candidate.dtype
        if len(candidate) and dtype != _HELD[output.datatype.value]:
            yield f"output {output.name!r} is answered as {dtype}, which does not hold {output.datatype}"


def _without_reference(evidence: Evidence) -> Iterator[Measurement]:
    for output in evidence.capture.signature.outputs:
        if output.name not in evidence.reference:
            yield Measurement(
                subject=output.name,
                statistic="answers of the source",
                rows=0,
                blocking=True,
                unjudged="the capture holds none; record it again",
            )


def _shape(column: Array) -> str:
    return "ragged" if is_ragged(column) else str(list(column.shape))


def _answered(evidence: Evidence) -> Measurement:
    missing = int(evidence.unanswered.sum())
    return Measurement(
        subject="all rows",
        statistic="rows without an answer",
        rows=evidence.unit_count,
        measured=float(missing),
        limit=0.0,
        blocking=True,
        message=(
            f"{count(missing, 'rows')} of {evidence.rows:,} got no answer from the candidate, which the source "
            f"answers: {evidence.refusal}."
            if missing
            else None
        ),
        worst=worst_rows(evidence, evidence.unanswered.astype(float)) if missing else (),
    )


def _non_finite(evidence: Evidence) -> Measurement | None:
    if not evidence.errors:
        return None
    misplaced = np.zeros(evidence.rows, dtype=bool)
    where = []
    for name, errors in evidence.errors.items():
        wrong = errors.misplaced & ~evidence.unanswered
        if wrong.any():
            where.append(f"{name} in {count(int(wrong.sum()), 'rows')}")
        misplaced |= wrong
    return Measurement(
        subject="all outputs",
        statistic="rows with NaN or infinities in other places",
        rows=evidence.unit_count,
        measured=float(misplaced.sum()),
        limit=0.0,
        blocking=True,
        message=f"NaN or infinities stand in other places than the source's: {', '.join(where)}." if where else None,
        worst=worst_rows(evidence, misplaced.astype(float)) if where else (),
        smallest_damage="one NaN or infinity in one row",
    )


def _self_consistency(evidence: Evidence) -> Measurement | None:
    """Rows whose label is no longer the arg-max of the row's own scores, although the source's is: swapped classes."""
    rows = np.zeros(evidence.rows, dtype=bool)
    found = False
    for decision in decisions_of(evidence):
        if decision.scores is None or decision.label is None:
            continue
        classes = classes_array(decision.scores.output)
        if classes is None:
            continue
        found = True
        theirs = decision.labels(decision.label)
        source_own = own_argmax(decision.scores.reference, classes)
        candidate_own = own_argmax(decision.scores.candidate, classes)
        rows |= (
            ~different(theirs[0], source_own)
            & different(theirs[1], candidate_own)
            & ~decision.close_candidate
            & ~evidence.unanswered
        )
    if not found:
        return None
    wrong = int(rows.sum())
    return Measurement(
        subject="label",
        statistic="rows whose label is not the class with the highest score",
        rows=evidence.unit_count,
        measured=float(wrong),
        limit=0.0,
        blocking=True,
        message=(
            f"In {count(wrong, 'rows')} the candidate's label is not the class with its highest score, as it is in "
            "the source: class orders differ."
            if wrong
            else None
        ),
        worst=worst_rows(evidence, rows.astype(float)) if wrong else (),
        smallest_damage="one label that contradicts its row's scores",
    )


def _batches(evidence: Evidence) -> Iterator[Measurement]:
    if not evidence.batches:
        return
    refused = [batch for batch in evidence.batches if batch.refused is not None]
    whole = next((b for b in reversed(evidence.batches) if b.refused is None), None)
    part = max(len(batch.rows) for batch in evidence.batches)
    yield Measurement(
        subject="batch sizes " + ", ".join(str(batch.size) for batch in evidence.batches),
        statistic="batch sizes refused",
        rows=part,
        measured=float(len(refused)),
        limit=0.0,
        blocking=True,
        message=f"Batches of {refused[0].size} rows are refused: {refused[0].refused}." if refused else None,
    )
    if whole is None:
        return
    numeric = evidence.policy.equivalence is Equivalence.NUMERIC
    for output in evidence.capture.signature.outputs:
        if output.name not in whole.answers:
            continue
        ratio, size = _batch_ratio(evidence, output.name, whole)
        is_label = output.role is OutputRole.LABEL or evidence.tolerance(output) is None
        limit = _flip_allowance(evidence, part) if is_label and not numeric else 0.0 if is_label else 1.0
        yield Measurement(
            subject=output.name,
            statistic=(
                "rows that differ between batch sizes" if is_label else "difference between batch sizes / tolerance"
            ),
            rows=part,
            measured=ratio,
            limit=limit,
            blocking=numeric or is_label,
            message=(
                f"{output.name}: the same rows get another answer in batches of {size}"
                + ("." if is_label else f" ({ratio:.3g} times the tolerance apart).")
                if not ratio <= limit
                else None
            ),
        )


def _flip_allowance(evidence: Evidence, part: int) -> float:
    """Rows of the fixed part that may change between batch sizes where some flips are allowed anyway; at least one."""
    return max(1.0, float(evidence.policy.validation.decisions.max_flip_rate) * part)


def _batch_ratio(evidence: Evidence, name: str, whole: BatchAnswers) -> tuple[float, int]:
    """Largest disagreement with the whole part in one batch, and the batch size that shows it."""
    output = next(one for one in evidence.capture.signature.outputs if one.name == name)
    tolerance = evidence.tolerance(output)
    settled = ~_close_rows(evidence, name)[whole.rows]
    worst, size = 0.0, whole.size
    candidates = [(b.size, b.rows, b.answers.get(name)) for b in evidence.batches if b.refused is None]
    main = evidence.candidate.get(name)
    if main is not None and not evidence.unanswered[whole.rows].any():
        candidates.append((evidence.rows, whole.rows, main[whole.rows]))
    for batch_size, rows, answered in candidates:
        if answered is None:
            return float("inf"), batch_size
        # A batch size may have been tried on some rows of the part only.
        _, place, own = np.intersect1d(whole.rows, rows, assume_unique=True, return_indices=True)
        expected, answers = whole.answers[name][place], answered[own]
        if len(own) and not same_layout(expected, answers):
            return float("inf"), batch_size
        if tolerance is None:
            found = float((different(expected, answers) & settled[place]).sum())
        else:
            found = float(row_errors(expected, answers, tolerance).ratio.max(initial=0.0))
        if found > worst:
            worst, size = found, batch_size
    return worst, size


def _close_rows(evidence: Evidence, name: str) -> Array:
    """(rows,) bool: rows whose label the source decides within its tolerance: rounding may tip them."""
    close = np.zeros(evidence.rows, dtype=bool)
    for decision in decisions_of(evidence):
        if decision.label is not None and decision.label.output.name == name:
            close |= decision.close
    return close
