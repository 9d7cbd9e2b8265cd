"""Migrations under the operator: an operator in a thread, Jobs that hand in evidence without the work, manifests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from control_plane.client import condition
from control_plane.plane import ControlPlane
from control_plane.scripts import RUNS, Outcome, Script
from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import Fetched, JobOrder, Published
from paritygate.api.report import CheckName, EvidenceSummary, Subject, SummaryLine, Verdict
from paritygate.api.status import InputDigests
from paritygate.cluster.connection import from_kubeconfig
from paritygate.cluster.settings import Settings
from paritygate.core import stages
from paritygate.core.evidence import policy_digest
from paritygate.core.observed import Inputs
from paritygate.handlers.operator import Identity, Operator

SETTINGS = {
    "images": {
        "worker": {"name": f"registry.example/worker@sha256:{'1' * 64}"},
        "server": {"name": f"registry.example/server@sha256:{'2' * 64}"},
    },
}


class Work:
    """Stands in for fetch, capture, convert, validate and publish: the same messages, without the work."""

    def __init__(self) -> None:
        self.verdict = Verdict.PASSED
        self.fails: dict[str, dict[str, Outcome]] = {}
        """Outcomes of containers of the next Job of a kind, `Convert` or `Validate`."""
        self.jobs: list[str] = []
        """Kinds of the Jobs that ran, in order."""
        self.server = RUNS
        """What becomes of servers."""
        self._held: threading.Event | None = None

    def hold(self) -> threading.Event:
        """Jobs from now on hang in their second container until the event is set."""
        self._held = threading.Event()
        return self._held

    def __call__(self, pod: Mapping[str, Any]) -> Script:
        spec = pod["spec"]
        order = next(v["value"] for c in [*spec.get("initContainers", ()), *spec["containers"]]
                      for v in c.get("env", ()) if v["name"] == "PARITYGATE_ORDER")  # fmt: skip
        order = JobOrder.model_validate_json(order)
        if order.job == "Serve":
            return Script({"server": self.server})
        self.jobs.append(order.job)
        containers = {"publish": Outcome(message=self.published(order))}
        if order.job == "Convert":
            fetched = Fetched(inputs=self.inputs(order)).model_dump_json(by_alias=True, exclude_none=True)
            containers["fetch"] = Outcome(message=fetched)
        if self._held is not None:
            containers["capture" if order.job == "Convert" else "validate"] = Outcome(until=self._held)
        return Script(containers | self.fails.pop(order.job, {}))

    def inputs(self, order: JobOrder) -> InputDigests:
        """Digests that follow from the addresses."""
        assert order.spec is not None
        return InputDigests(
            source=digest_of(order.spec.source.uri), dataset=digest_of(order.spec.validation.dataset.uri),
            environment=order.environment, converter=order.converter, runtime=order.runtime,
        )  # fmt: skip

    def published(self, order: JobOrder) -> str:
        """The termination message of `publish`."""
        assert order.spec is not None
        inputs = Inputs(**vars(self.inputs(order)))
        outputs: dict[StageName, str] = {}
        receipts = []
        for stage in stages.ORDER[:3]:
            digest = stages.stage_digest(stage, order.migration, order.spec, inputs, outputs, order.recipe)
            outputs[stage] = digest_of(["output", digest])
            receipts.append(Receipt(stage=stage, digest=digest, output=outputs[stage]))
        if order.job == "Validate":
            receipts = [self.judged(order, inputs, outputs)]
        found = Published(inputs=self.inputs(order), receipts=tuple(receipts), candidate_size=1234)
        return json.dumps(found.to_dict())

    def judged(self, order: JobOrder, inputs: Inputs, outputs: Mapping[StageName, str]) -> Receipt:
        """Evidence of `verdict` that counts."""
        assert order.spec is not None
        assert order.stage is not None
        measured = 0.5 if self.verdict is Verdict.PASSED else 2
        lines = [
            SummaryLine(name=name, result=Verdict.PASSED, blocking=True, measured=0, limit=0, rows=90)
            for name in (CheckName.CONTRACT, CheckName.INPUT_CONTRACT, CheckName.VACUITY)
        ]
        lines.append(
            SummaryLine(name=CheckName.NUMERIC, result=self.verdict, blocking=True, measured=measured, limit=1, rows=90)
        )
        policy = policy_digest(order.spec.equivalence, order.spec.validation)
        summary = EvidenceSummary(
            stage=order.stage,
            subject=Subject(
                source=inputs.source, dataset=inputs.dataset, capture=outputs[StageName.CAPTURE],
                candidate=outputs[StageName.CONVERT], runtime=inputs.runtime, policy=policy,
            ),
            report=digest_of(["report", order.stage]), candidate="plain", equivalence=order.spec.equivalence,
            verdict=self.verdict, checks=tuple(lines),
        )  # fmt: skip
        return Receipt(
            stage=StageName.VALIDATE, digest=order.stage, output=digest_of(["verdict", order.stage]), summary=summary
        )


@contextlib.contextmanager
def operating(control_plane: ControlPlane, namespace: str, token: str | None = None, **settings: Any) -> Iterator[None]:
    """An operator that looks after the namespace, in a thread of its own, as administrator or as whom `token` names."""
    found = Settings.model_validate({**SETTINGS, "namespaces": [namespace], **settings})
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    failed: list[BaseException] = []

    async def main() -> None:
        identity = Identity("replica-1", namespace, host="127.0.0.1", port=0)
        await Operator(found, from_kubeconfig(control_plane.kubeconfig(token)), identity).run(stop)

    def work() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(main())
        except BaseException as error:  # noqa: BLE001 - told to the thread that waits
            failed.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)
    if failed:
        raise failed[0]


def migration(namespace: str, name: str = "churn", **spec: Any) -> dict[str, Any]:
    """A manifest; `spec` replaces fields of its spec."""
    return {
        "apiVersion": "paritygate.dev/v1alpha1",
        "kind": "ModelMigration",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "source": {"format": "SKLearn", "uri": "s3://models/churn.pkl"},
            "target": {"format": "ONNX"},
            "validation": {"dataset": {"uri": "s3://models/holdout.parquet", "label": "churned"}},
            "storage": {"object": {"uri": "s3://artefacts/models", "secretName": "store"}},
            "serving": {"replicas": 1},
            **spec,
        },
    }


def is_ready(reason: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether `Ready` has this reason and speaks of this generation."""

    def check(found: Mapping[str, Any]) -> bool:
        ready = condition(found, "Ready")
        return (ready.get("reason"), ready.get("observedGeneration")) == (reason, found["metadata"]["generation"])

    return check
