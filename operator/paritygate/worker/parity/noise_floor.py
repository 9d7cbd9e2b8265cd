"""Noise floor: how far the source is from itself."""

from __future__ import annotations

from paritygate.api.artifacts import Noise
from paritygate.api.report import Check, CheckName, Measurement
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.measure import check
from paritygate.worker.parity.tolerance import NOISE_FACTOR


def noise_floor(evidence: Evidence) -> Check:
    """Does the source repeat itself closely enough for a comparison to mean something?"""
    measurements = []
    for noise in evidence.capture.noise:
        output = next((one for one in evidence.capture.signature.outputs if one.name == noise.output), None)
        tolerance = evidence.tolerance(output) if output is not None else None
        if tolerance is None:
            if noise.stochastic:
                measurements.append(_stochastic(noise.output, noise.rows))
            continue
        default = (tolerance.rtol + tolerance.atol) * float(tolerance.scale.mean()) if tolerance.scale.size else 1.0
        ratio = noise.floor / tolerance.typical if tolerance.stated else noise.floor / default
        measurements.append(
            Measurement(
                subject=noise.output,
                statistic="p99.9 of repeats / default tolerance",
                rows=noise.rows,
                measured=ratio,
                limit=None if tolerance.stated else NOISE_FACTOR,
                blocking=tolerance.noisy,
                unjudged=(
                    "the source answers differently when asked again; state validation.numeric to say what counts "
                    "as equal"
                    if tolerance.noisy
                    else None
                ),
                message=_message(noise, stated=tolerance.stated),
            )
        )
    return check(CheckName.NOISE_FLOOR, measurements, "" if measurements else _nothing(evidence))


def _nothing(evidence: Evidence) -> str:
    if evidence.capture.noise:
        return "No output holds numbers with rounding: answers compare exactly."
    return "The source was not asked again."


def _message(noise: Noise, *, stated: bool) -> str:
    if noise.floor == 0:
        return f"{noise.output}: the source repeats itself exactly."
    asked = "asked again, or answering in double precision" if noise.finer else "asked again"
    suffix = "; the tolerance is the one that you state" if stated else ""
    return f"{noise.output}: the source is up to {noise.floor:.2g} from itself when {asked}{suffix}."


def _stochastic(output: str, rows: int) -> Measurement:
    return Measurement(
        subject=output,
        statistic="repeats that differ",
        rows=rows,
        blocking=True,
        unjudged="the source answers at random, and so no candidate can be compared with it",
    )
