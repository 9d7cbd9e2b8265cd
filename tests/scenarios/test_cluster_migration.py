"""Migrations on a real API server: the operator, the controllers of Kubernetes, and pods that do as a test says."""

import asyncio
import contextlib
import json
import threading

import pytest

from control_plane.client import condition, path_of
from control_plane.kubelet import Kubelet
from control_plane.scripts import OUT_OF_MEMORY, Outcome, Script
from paritygate.api import crd
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


@pytest.fixture(scope="session")
def migrations(api):
    definition = crd.crd()
    api.apply(definition, force="true")
    api.until_served("ModelMigration")
    return api


class Work:
    """Stands in for fetch, capture, convert, validate and publish: the same messages, without the work."""

    def __init__(self):
        self.verdict = Verdict.PASSED
        self.fails = {}
        self.jobs = []

    def __call__(self, pod):
        spec = pod["spec"]
        order = next((v["value"] for c in [*spec.get("initContainers", ()), *spec["containers"]]
                      for v in c.get("env", ()) if v["name"] == "PARITYGATE_ORDER"), None)  # fmt: skip
        order = JobOrder.model_validate_json(order)
        if order.job == "Serve":
            return Script()
        self.jobs.append(order.job)
        containers = {"publish": Outcome(message=self.published(order))}
        if order.job == "Convert":
            fetched = Fetched(inputs=self.inputs(order)).model_dump_json(by_alias=True, exclude_none=True)
            containers["fetch"] = Outcome(message=fetched)
        return Script(containers | self.fails.pop(order.job, {}))

    def inputs(self, order):
        return InputDigests(
            source=digest_of(order.spec.source.uri), dataset=digest_of(order.spec.validation.dataset.uri),
            environment=order.environment, converter=order.converter, runtime=order.runtime,
        )  # fmt: skip

    def published(self, order):
        inputs = Inputs(**vars(self.inputs(order)))
        outputs, receipts = {}, []
        for stage in stages.ORDER[:3]:
            digest = stages.stage_digest(stage, order.migration, order.spec, inputs, outputs, order.recipe)
            outputs[stage] = digest_of(["output", digest])
            receipts.append(Receipt(stage=stage, digest=digest, output=outputs[stage]))
        if order.job == "Validate":
            receipts = [self.judged(order, inputs, outputs)]
        found = Published(inputs=self.inputs(order), receipts=tuple(receipts), candidate_size=1234)
        return json.dumps(found.to_dict())

    def judged(self, order, inputs, outputs):
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
        return Receipt(stage=StageName.VALIDATE, digest=order.stage, output=digest_of("verdict"), summary=summary)


@contextlib.contextmanager
def operating(control_plane, namespace, **settings):
    """An operator that looks after the namespace, in a thread of its own."""
    found = Settings.model_validate({**SETTINGS, "namespaces": [namespace], **settings})
    loop = asyncio.new_event_loop()
    stop, failed = asyncio.Event(), []

    async def main():
        identity = Identity("replica-1", namespace, host="127.0.0.1", port=0)
        await Operator(found, from_kubeconfig(control_plane.kubeconfig()), identity).run(stop)

    def work():
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


def migration(namespace, name="churn", **spec):
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


@pytest.fixture
def scene(control_plane, migrations, namespace):
    work = Work()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": namespace}}
    migrations.create(secret)
    with Kubelet(control_plane, namespace, work), operating(control_plane, namespace):
        yield work


def is_ready(reason):
    def check(found):
        ready = condition(found, "Ready")
        return (ready.get("reason"), ready.get("observedGeneration")) == (reason, found["metadata"]["generation"])

    return check


def test_a_migration_that_passes_comes_to_serve(api, namespace, scene):
    api.create(migration(namespace))
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    assert scene.jobs == ["Convert", "Validate"]
    assert condition(done, "ParityVerified")["status"] == "True"
    assert done["status"]["verdict"]["result"] == "Passed"
    (deployment,) = api.list("Deployment", namespace)
    service = api.get("Service", "churn", namespace)
    assert service["spec"]["selector"] == {"paritygate.dev/revision": deployment["metadata"]["name"]}
    assert (
        deployment["metadata"]["annotations"]["paritygate.dev/report-digest"]
        == done["status"]["verdict"]["reportDigest"]
    )
    assert "ownerReferences" not in deployment["metadata"]


def test_a_model_that_failed_is_never_deployed(api, namespace, scene):
    scene.verdict = Verdict.FAILED
    api.create(migration(namespace))
    failed = api.until("ModelMigration", "churn", namespace, is_ready("ParityFailed"))
    assert condition(failed, "Stalled")["status"] == "True"
    assert api.list("Deployment", namespace) == []


def test_a_container_without_enough_memory_is_told_how_much_to_ask_for(api, namespace, scene):
    scene.fails["Convert"] = {"convert": OUT_OF_MEMORY}
    api.create(migration(namespace))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("OutOfMemory"))
    assert "spec.jobs.convert.resources.limits.memory: 8Gi" in condition(stalled, "Stalled")["message"]


def test_a_job_without_evidence_is_tried_again(api, namespace, scene):
    scene.fails["Validate"] = {"publish": Outcome(message='{"kind": "Publ')}
    api.create(migration(namespace, jobs={"retries": 0}))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("RetriesExhausted"))
    assert "EvidenceMissing" in condition(stalled, "Stalled")["message"]
    assert api.list("Deployment", namespace) == []


def selector(api, namespace):
    return api.get("Service", "churn", namespace)["spec"]["selector"]


def patch(api, namespace, spec):
    """A change of the manifest, as kubectl would make it."""
    found = api.get("ModelMigration", "churn", namespace)
    found["spec"] |= spec
    api.request("PUT", path_of("ModelMigration", namespace, "churn"), found)


def test_what_serves_stays_while_another_candidate_fails_and_while_suspended(api, namespace, scene):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    before = selector(api, namespace)
    scene.verdict = Verdict.FAILED
    patch(api, namespace, {"source": {"format": "SKLearn", "uri": "s3://models/worse.pkl"}})
    api.until("ModelMigration", "churn", namespace, is_ready("ParityFailed"))
    assert selector(api, namespace) == before
    patch(api, namespace, {"suspend": True})
    suspended = api.until("ModelMigration", "churn", namespace, is_ready("Suspended"))
    assert not condition(suspended, "Stalled")
    assert selector(api, namespace) == before
    assert len(api.list("Deployment", namespace)) == 1


@pytest.mark.usefixtures("scene")
def test_a_new_model_takes_over_and_the_old_revision_goes_last(api, namespace):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    before = selector(api, namespace)
    patch(api, namespace, {"source": {"format": "SKLearn", "uri": "s3://models/better.pkl"}})
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    after = selector(api, namespace)
    assert after != before
    api.until_gone("Deployment", before["paritygate.dev/revision"], namespace)
    assert [d["metadata"]["name"] for d in api.list("Deployment", namespace)] == list(after.values())


@pytest.mark.usefixtures("scene")
def test_nothing_is_written_at_rest_and_nothing_that_serves_goes_with_its_migration(api, namespace):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    versions = [api.get("ModelMigration", "churn", namespace)["metadata"]["resourceVersion"]]
    threading.Event().wait(6)
    versions.append(api.get("ModelMigration", "churn", namespace)["metadata"]["resourceVersion"])
    assert versions[0] == versions[1]
    api.delete("ModelMigration", "churn", namespace)
    api.until_gone("ModelMigration", "churn", namespace)
    threading.Event().wait(3)
    assert len(api.list("Deployment", namespace)) == 1
    assert selector(api, namespace)
