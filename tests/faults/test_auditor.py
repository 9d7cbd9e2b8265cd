"""The auditor finds every violation: each is made in an otherwise sound history, and alone is told."""

import copy
import json

import pytest

from control_plane.migrations import migration
from faults.auditor import Auditor
from faults.world import in_thread, migrating

GOOD = ("sha256:candidate", "sha256:runtime", "sha256:report")
MESSAGE = json.dumps(
    {"receipts": [{"summary": {"verdict": "Passed", "subject": {"candidate": GOOD[0], "runtime": GOOD[1]},
                               "report": GOOD[2]}}]}
)  # fmt: skip


def child(kind, name, *, owned=True, **more):
    references = [{"kind": "ModelMigration", "uid": "uid-churn", "controller": True}] if owned else []
    metadata = {
        "name": name,
        "namespace": "here",
        "uid": f"uid-{name}",
        "labels": {"paritygate.dev/migration": "churn"},
    }
    return {"kind": kind, "metadata": {**metadata, "ownerReferences": references}, **more}


def stamped(stamps=GOOD):
    keys = ("candidate-digest", "runtime-digest", "report-digest")
    return {f"paritygate.dev/{key}": value for key, value in zip(keys, stamps, strict=True)}


def job(number=1, *, done=False, digest="sha256:1"):
    conditions = [{"type": "Complete", "status": "True"}] if done else []
    found = child("Job", f"churn-convert-{number}", spec={}, status={"conditions": conditions})
    found["metadata"]["labels"]["paritygate.dev/job"] = "convert"
    found["metadata"]["annotations"] = {"paritygate.dev/digest": digest}
    return found


def pod(message=MESSAGE):
    ended = {"name": "publish", "state": {"terminated": {"exitCode": 0, "message": message}}}
    return child("Pod", "churn-validate-1-x", status={"containerStatuses": [ended]})


def deployment(name="churn-r1", *, ready=True, stamps=GOOD):
    template = {"metadata": {"annotations": stamped(stamps)}}
    found = child("Deployment", name, spec={"replicas": 1, "template": template})
    found["status"] = {"availableReplicas": int(ready)}
    found["metadata"]["annotations"] = stamped(stamps)
    return found


def service(leads="churn-r1"):
    return child("Service", "churn", owned=False, spec={"selector": {"paritygate.dev/revision": leads}})


def churn(generation=1, observed=1, report=GOOD[2]):
    status = {"observedGeneration": observed, "verdict": {"result": "Passed", "reportDigest": report}}
    metadata = {"name": "churn", "namespace": "here", "uid": "uid-churn", "generation": generation}
    return {"kind": "ModelMigration", "metadata": metadata, "status": status}


SOUND = [
    job(),
    job(done=True),
    job(2),
    job(2, done=True),
    pod(),
    deployment(ready=False),
    deployment(),
    churn(),
    service(),
]


def judged(history, auditor=None):
    auditor = auditor or Auditor(lambda message: message == MESSAGE)
    for version, (event, item) in enumerate(history, 1):
        found = copy.deepcopy(item)
        found["metadata"]["resourceVersion"] = str(version)
        auditor.see(event, found)
    return auditor.violations("here")


def changed(instead=(), after=()):
    """The sound history with objects in the place of others, and more at its end."""
    replaced = dict(instead)
    found = [replaced.get(index, item) for index, item in enumerate(SOUND)]
    return [("MODIFIED", item) for item in found if item is not None] + list(after)


def test_nothing_is_wrong_with_a_sound_history():
    assert judged(changed()) == []


OTHER = ("sha256:other", GOOD[1], GOOD[2])
TWO_OWNERS = deployment()
TWO_OWNERS["metadata"]["ownerReferences"] *= 2
NOBODYS = job()
NOBODYS["metadata"]["ownerReferences"] = []
ALTERED = deployment()
ALTERED["spec"]["template"]["metadata"]["annotations"] = stamped(OTHER)


@pytest.mark.parametrize(
    ("history", "told"),
    [
        (changed([(1, None)]), "2 active Jobs"),
        (changed([(1, None), (2, job(2, digest="sha256:2"))]), "several digests"),
        (changed([(4, None)]), "digests without a passed report"),
        (changed([(4, pod("forged"))]), "digests without a passed report"),
        (changed([(5, deployment(stamps=OTHER))]), "digests without a passed report"),
        (changed([(6, None)]), "which is not ready"),
        (changed([(5, None), (6, None)]), "which is not there"),
        (changed([(6, deployment(stamps=OTHER))]), "which was not verified"),
        (changed([(7, None)]), "while the status does not show that it passed"),
        (changed([(7, churn(report="sha256:older"))]), "while the status does not show that it passed"),
        (changed([(7, churn(observed=2))]), "observed generation 2 of 1"),
        (changed(after=[("MODIFIED", churn(observed=0))]), "takes back"),
        (changed(after=[("DELETED", deployment())]), "taken down while Service churn leads to it"),
        (changed(after=[("MODIFIED", ALTERED)]), "is changed while Service churn leads to it"),
        (changed([(6, ALTERED)]), "runs ('sha256:other'"),
        (changed([(6, TWO_OWNERS)]), "has the owners"),
        (changed([(0, NOBODYS)]), "has the owners"),
    ],
)  # fmt: skip
def test_each_violation_is_told(history, told):
    assert any(told in wrong for wrong in judged(history)), judged(history)


def test_the_order_is_that_of_the_server_whatever_the_order_of_hearing():
    auditor = Auditor(lambda message: message == MESSAGE)
    events = []
    for version, item in enumerate(SOUND, 1):
        found = copy.deepcopy(item)
        found["metadata"]["resourceVersion"] = str(version)
        events.append(found)
    for found in [*reversed(events), events[3]]:
        auditor.see("MODIFIED", found)
    assert auditor.violations("here") == []


def test_a_deployment_that_nobody_judged_is_told_on_the_real_server(control_plane, migrations):  # noqa: ARG001
    async def work():
        async with migrating(control_plane) as world:
            namespace = await world.namespace()
            found = await world.create(
                migration(namespace) | {"spec": migration(namespace)["spec"] | {"suspend": True}}
            )
            metadata = found["metadata"]
            owner = {"apiVersion": found["apiVersion"], "kind": found["kind"], "name": "churn", "uid": metadata["uid"]}
            template = {
                "metadata": {"labels": {"app": "x"}, "annotations": stamped()},
                "spec": {"containers": [{"name": "x", "image": "x"}]},
            }
            body = deployment() | {"apiVersion": "apps/v1"}
            body["metadata"] |= {"namespace": namespace, "ownerReferences": [{**owner, "controller": True}]}
            del body["metadata"]["uid"], body["status"]
            body["spec"] = {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "template": template}
            await world.create(body)
            await world.until(namespace, "the Deployment is seen", lambda: world.of("Deployment", namespace))

    with pytest.raises(AssertionError, match="digests without a passed report"):
        in_thread(work())
