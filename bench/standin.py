"""Stands in for the kubelet of a scale benchmark, in a process of its own: `standin.py SESSION`, until its input ends.

Pods end at once with the messages that real stages would publish; nothing is fetched, converted or judged. States that
no watcher could tell apart are not written, so that the stand-in takes as little of the API server as it can.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from control_plane import plane
from control_plane.kubelet import Kubelet
from control_plane.scripts import Outcome, Script
from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import Fetched, JobOrder, Published
from paritygate.api.report import CheckName, EvidenceSummary, Subject, SummaryLine, Verdict
from paritygate.api.status import InputDigests
from paritygate.core import stages
from paritygate.core.evidence import policy_digest
from paritygate.core.observed import Inputs


def script(pod: Mapping[str, Any]) -> Script:
    """What becomes of a pod: Jobs succeed with evidence that passes, servers run."""
    order = JobOrder.model_validate_json(_order(pod["spec"]))
    if order.job == "Serve" or order.spec is None:
        return Script()
    found = InputDigests(
        source=digest_of(order.spec.source.uri),
        dataset=digest_of(order.spec.validation.dataset.uri),
        environment=order.environment,
        converter=order.converter,
        runtime=order.runtime,
    )
    inputs = Inputs(**vars(found))
    outputs, receipts = {}, []
    for stage in stages.ORDER[:3]:
        digest = stages.stage_digest(stage, order.migration, order.spec, inputs, outputs, order.recipe)
        outputs[stage] = digest_of(["output", digest])
        receipts.append(Receipt(stage=stage, digest=digest, output=outputs[stage]))
    if order.job == "Validate":
        receipts = [_judged(order, inputs, outputs)]
    published = Published(inputs=found, receipts=tuple(receipts), candidate_size=1_048_576)
    ended = {"publish": Outcome(message=json.dumps(published.to_dict()))}
    if order.job == "Convert":
        ended["fetch"] = Outcome(message=json.dumps(Fetched(inputs=found).to_dict()))
    return Script(ended)


def _order(spec: Mapping[str, Any]) -> str:
    containers = [*spec.get("initContainers", ()), *spec["containers"]]
    variables = (variable for container in containers for variable in container.get("env", ()))
    return next(variable["value"] for variable in variables if variable["name"] == "PARITYGATE_ORDER")


def _judged(order: JobOrder, inputs: Inputs, outputs: Mapping[StageName, str]) -> Receipt:
    spec = order.spec
    names = (CheckName.CONTRACT, CheckName.NUMERIC, CheckName.INPUT_CONTRACT, CheckName.VACUITY)
    summary = EvidenceSummary(
        stage=order.stage,
        subject=Subject(
            source=inputs.source,
            dataset=inputs.dataset,
            capture=outputs[StageName.CAPTURE],
            candidate=outputs[StageName.CONVERT],
            runtime=inputs.runtime,
            policy=policy_digest(spec.equivalence, spec.validation),
        ),
        report=digest_of(["report", order.stage]),
        candidate="plain",
        equivalence=spec.equivalence,
        verdict=Verdict.PASSED,
        checks=tuple(
            SummaryLine(name=name, result=Verdict.PASSED, blocking=True, measured=0.25, limit=1, rows=500)
            for name in names
        ),
    )
    return Receipt(
        stage=StageName.VALIDATE, digest=order.stage, output=digest_of(["verdict", order.stage]), summary=summary
    )


def main() -> None:
    """Joins the control plane of the folder SESSION, completes its pods, and ends with whoever started it."""
    with plane.shared(Path(sys.argv[1])) as found, Kubelet(found, None, script, steps=False):
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
