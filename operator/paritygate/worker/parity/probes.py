"""Probes: unusual rows, made at capture. What the source refuses, the candidate must refuse too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import Probe
from paritygate.api.report import Check, CheckName, Measurement, WorstRow
from paritygate.api.spec import Equivalence
from paritygate.worker.parity.columns import different, same_layout
from paritygate.worker.parity.evidence import Evidence, Pair, ProbeAnswer
from paritygate.worker.parity.margins import classes_array, margins, own_argmax
from paritygate.worker.parity.measure import check, count, number
from paritygate.worker.parity.rows import answers_of, input_of
from paritygate.worker.parity.tolerance import row_errors

Array = npt.NDArray[Any]
_SHOWN = 5


def probes(evidence: Evidence) -> Check:
    """Are unusual inputs treated alike? Only those inside the domain of the dataset's rows block."""
    numeric = evidence.policy.equivalence is Equivalence.NUMERIC
    measurements = []
    for inside in (True, False):
        chosen = [
            (row, probe, answer)
            for row, (probe, answer) in enumerate(zip(evidence.capture.probes, evidence.probe_answers, strict=False))
            if probe.inside_domain is inside
        ]
        if chosen:
            where = "inside the domain" if inside else "outside the domain"
            measurements += _measured(evidence, chosen, where, blocking=numeric and inside)
    unasked = len(evidence.capture.probes) - len(evidence.probe_answers)
    if unasked:
        measurements.append(
            Measurement(
                subject="all probes",
                statistic="probes that the candidate was asked",
                rows=0,
                blocking=numeric,
                unjudged=f"{unasked:,} of {len(evidence.capture.probes):,} were not put to it",
            )
        )
    answered = any(probe.refused is None and probe.kind != "empty-batch" for probe in evidence.capture.probes)
    for output in evidence.capture.signature.outputs:
        if answered and output.name not in evidence.probes_reference:
            measurements.append(
                Measurement(
                    subject=output.name,
                    statistic="answers of the source to probes",
                    rows=0,
                    blocking=numeric,
                    unjudged="the capture holds none; record it again",
                )
            )
    return check(CheckName.PROBES, measurements, "" if measurements else "There are no probe rows.")


def _measured(
    evidence: Evidence, chosen: list[tuple[int, Probe, ProbeAnswer]], where: str, *, blocking: bool
) -> list[Measurement]:
    worst_ratio, ratios, conflicts = 0.0, [], []
    for row, probe, answer in chosen:
        if probe.kind == "empty-batch" and answer.refused is None:
            continue  # an answer without rows says nothing that a source which refuses would contradict
        if (probe.refused is None) != (answer.refused is None):
            conflicts.append((row, probe, answer))
        elif probe.refused is None:
            ratio = probe_ratio(evidence, row, answer.answers)
            worst_ratio = max(worst_ratio, ratio)
            ratios.append((ratio, row, probe, answer))
    ratios.sort(key=lambda entry: (-entry[0], entry[1]))
    beyond = sum(not ratio <= 1 for ratio, *_ in ratios)
    found = []
    if ratios:
        message = (
            f"{count(len(ratios), 'probes')} {where}: the largest error is {number(worst_ratio)} of what is allowed."
        )
        if beyond:
            message = (
                f"{beyond:,} of {count(len(ratios), 'probes')} {where} get another answer, first: "
                f"{ratios[0][2].description}."
            )
        found.append(
            Measurement(
                subject=f"probes {where}",
                statistic="largest error / tolerance",
                rows=len(ratios),
                measured=worst_ratio,
                limit=1.0,
                blocking=blocking,
                message=message,
                worst=tuple(_worst(evidence, row, probe, answer) for r, row, probe, answer in ratios[:_SHOWN] if r > 1),
            )
        )
    found.append(
        Measurement(
            subject=f"probes {where}",
            statistic="probes that one side refuses and the other answers",
            rows=len(chosen),
            measured=float(len(conflicts)),
            limit=0.0,
            blocking=blocking,
            message=_conflict(conflicts) if conflicts else None,
            worst=tuple(_worst(evidence, row, probe, answer) for row, probe, answer in conflicts[:_SHOWN]),
        )
    )
    return found


def probe_ratio(evidence: Evidence, row: int, answers: Mapping[str, Any]) -> float:
    """Largest error / τ of a probe's answers; infinite where something that is no number differs and no tie."""
    worst = 0.0
    tied = _label_tied(evidence, row)
    for output in evidence.capture.signature.outputs:
        reference, candidate = evidence.probes_reference.get(output.name), answers.get(output.name)
        if reference is None:
            continue
        reference = reference[row : row + 1]
        if candidate is None or not same_layout(reference, candidate):
            return float("inf")
        tolerance = evidence.tolerance(output)
        if tolerance is not None:
            own = tolerance.with_noise(evidence.capture.probes[row].noise.get(output.name, 0.0))
            worst = max(worst, float(row_errors(reference, candidate, own).ratio.max(initial=0.0)))
        elif different(reference, candidate).any() and not tied:
            return float("inf")
    return worst


def _label_tied(evidence: Evidence, row: int) -> bool:
    for output in evidence.capture.signature.outputs:
        classes, tolerance = classes_array(output), evidence.tolerance(output)
        scores = evidence.probes_reference.get(output.name)
        if classes is None or tolerance is None or scores is None or scores.dtype == object:
            continue
        label = next(
            (c for o in evidence.capture.signature.outputs if o.role.value == "Label"
             for c in [evidence.probes_reference.get(o.name)] if c is not None), None,
        )  # fmt: skip
        one = scores[row : row + 1]
        margin, allowed = margins(one, Pair(output, one, one, tolerance))
        if label is not None and label[row : row + 1].size == 1:
            own = own_argmax(one, classes)
            return bool(margin[0] <= allowed[0]) and not different(label[row : row + 1].reshape(1), own).any()
    return False


def _conflict(conflicts: list[tuple[int, Probe, ProbeAnswer]]) -> str:
    row, probe, answer = conflicts[0]
    del row
    if probe.refused is not None:
        return (
            f"The source refuses {probe.description} ({probe.refused}), and the candidate answers it: it needs an "
            f"input guard."
        )
    return f"The source answers {probe.description}, and the candidate refuses it: {answer.refused}."


def _worst(evidence: Evidence, row: int, probe: Probe, answer: ProbeAnswer) -> WorstRow:
    empty = probe.kind == "empty-batch"
    return WorstRow(
        row=row,
        probe=probe.description,
        input={} if empty else input_of(evidence, evidence.probes, row),
        reference=f"refused: {probe.refused}"
        if probe.refused
        else {}
        if empty
        else answers_of(evidence.probes_reference, row),
        candidate=f"refused: {answer.refused}" if answer.refused else {} if empty else answers_of(answer.answers, 0),
        error=_absolute(evidence, row, answer) if not (empty or probe.refused or answer.refused) else None,
    )


def _absolute(evidence: Evidence, row: int, answer: ProbeAnswer) -> float | None:
    found = []
    for output in evidence.capture.signature.outputs:
        tolerance, candidate = evidence.tolerance(output), answer.answers.get(output.name)
        reference = evidence.probes_reference.get(output.name)
        if tolerance is None or candidate is None or reference is None:
            continue
        if same_layout(reference[row : row + 1], candidate):
            found.append(float(row_errors(reference[row : row + 1], candidate, tolerance).absolute.max(initial=0.0)))
    worst = max(found, default=0.0)
    return worst if np.isfinite(worst) else None
