"""Input contract: the source on the original against the source on the input as cast to the wire."""

from __future__ import annotations

from paritygate.api.report import Check, CheckName, Measurement
from paritygate.api.spec import Equivalence
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.measure import check
from paritygate.worker.parity.numeric import measured


def input_contract(evidence: Evidence) -> Check:
    """Does the source still answer the same once its inputs have taken the wire's datatypes?"""
    blocking = evidence.policy.equivalence is Equivalence.NUMERIC
    if evidence.cast is None:
        exact = Measurement(
            subject="all inputs",
            statistic="values changed by the wire's datatypes",
            rows=evidence.unit_count,
            measured=0.0,
            limit=0.0,
            blocking=blocking,
        )
        return check(CheckName.INPUT_CONTRACT, [exact], "Every input value survives the cast to the wire's datatypes.")
    names = {output.name for output in evidence.capture.signature.outputs}
    recast = evidence.with_candidate({name: column for name, column in evidence.cast.items() if name in names})
    measurements = [
        m.model_copy(update={"smallest_damage": None}) for m in measured(recast, blocking=blocking, with_logs=False)
    ]
    compared = {pair.output.name for pair in recast.pairs}
    measurements += [
        Measurement(
            subject=output.name,
            statistic="largest error / tolerance",
            rows=0,
            blocking=blocking,
            unjudged="the capture holds no answers of the source to the inputs as cast; record it again",
        )
        for output in evidence.capture.signature.outputs
        if output.name not in compared
    ]
    return check(CheckName.INPUT_CONTRACT, measurements)
