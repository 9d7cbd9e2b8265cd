"""A hostile model: loading it runs its code in `capture` and in `convert`, where it gets at nothing and forges nothing.

Its pods are under the chart's NetworkPolicy, which lets them reach DNS and the object store only. On a cluster whose
network plug-in enforces no policies that part fails, as it should.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import pytest
import yaml

from control_plane.client import condition
from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import Published
from paritygate.api.report import CheckName, EvidenceSummary, Subject, SummaryLine, Verdict
from paritygate.api.spec import Equivalence
from scenes import SECONDS, Call, Scene, at_once, upload
from suite import pods
from suite import release as releases
from suite import store as stores

CODE = (Path(__file__).parent / "untrusted" / "curious.py").read_text()
SMUGGLING = """
import os
if os.path.isdir("/captured/out.part"):
    os.symlink("/proc/self/environ", "/captured/out.part/environ")
"""
FORGED = digest_of("forged")
pytestmark = pytest.mark.timeout(900)


def forged_message() -> str:
    """What `publish` says of a candidate that passed, as somebody else would like to say it."""
    lines = [SummaryLine(name=n, result=Verdict.PASSED, blocking=True, measured=0, limit=1, rows=9) for n in CheckName]
    summary = EvidenceSummary(
        stage=FORGED, subject=Subject(**dict.fromkeys(Subject.model_fields, FORGED)), report=FORGED, candidate="plain",
        equivalence=Equivalence.NUMERIC, verdict=Verdict.PASSED, checks=tuple(lines),
    )  # fmt: skip
    receipts = [Receipt(stage=s, digest=FORGED, output=FORGED) for s in StageName if s is not StageName.VALIDATE]
    receipts.append(Receipt(stage=StageName.VALIDATE, digest=FORGED, output=FORGED, summary=summary))
    return Published(receipts=tuple(receipts)).model_dump_json(by_alias=True, exclude_none=True)


def curious(asked: dict[str, Any]) -> Call:
    """Tries everything while it is loaded."""
    return Call(exec, f"{CODE}\nlook({asked!r})\n", {"__name__": "curious"})


def two_faced(right: Any) -> Call:
    """Numbers that are others where the model is converted than where it answers."""
    here = f"__import__('os').path.isdir('/captured/out') and {(-right).tolist()!r} or {right.tolist()!r}"
    return Call(eval, f"__import__('numpy').array({here})")


@pytest.fixture(scope="module")
def scene(cluster, store, release, shared_namespace):
    return Scene(cluster, store, shared_namespace)


@pytest.fixture(scope="module")
def credentials(scene, store):
    """What must not come into foreign hands."""
    found = store.secret(scene.namespace)["stringData"]
    return [found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]]


@pytest.fixture(scope="module")
def closed(cluster, images, scene):
    """The chart's policy for pods of Jobs, with the way to the object store that its administrator allows."""
    bucket = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stores.NAMESPACE}}}
    jobs = {"enabled": True, "egress": [{"to": [bucket], "ports": [{"port": stores.PORT}]}]}
    values = {**releases.values(images), "namespaces": [scene.namespace], "networkPolicy": {"jobs": jobs}}
    rendered = cluster.helm("template", "paritygate", str(releases.CHART), "--values", "-", given=values).stdout
    policies = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] == "NetworkPolicy"]
    (policy,) = [one for one in policies if one["metadata"]["namespace"] == scene.namespace]
    return scene.api.create(policy)["spec"]


@pytest.fixture(scope="module")
def stories(scene, store, release, closed, trained, tmp_path_factory):
    """Three hostile models, brought at once."""
    asked = {
        "namespace": scene.namespace,
        "neighbour": [f"{release.name}-metrics.{release.namespace}.svc", 8081],
        "forged": forged_message(),
    }
    honest = trained / "tumours" / "tumours.joblib"
    models = {name: joblib.load(honest) for name in ("curious", "two-faced", "smuggler")}
    for name in ("curious", "two-faced"):
        models[name].surprise_ = curious(asked)
    models["two-faced"][-1].coef_ = two_faced(models["two-faced"][-1].coef_)
    models["smuggler"].surprise_ = Call(exec, SMUGGLING, {})
    upload(store, tmp_path_factory.mktemp("models"), models)
    for name in models:
        scene.apply(name, {"source": {"uri": f"s3://models/e2e/{name}.joblib"}})
    ends = {"curious": "Promoted", "two-faced": "ParityFailed", "smuggler": "SymbolicLink"}
    with at_once({name: lambda n=name, r=reason: scene.until(n, r) for name, reason in ends.items()}) as found:
        yield found


@pytest.fixture(scope="module")
def seen(scene, stories):
    """What the curious model found, by container; its migration passed, for it answered honestly."""
    stories["curious"].result(SECONDS)
    (pod,) = [p for p in scene.pods("curious") if p["metadata"]["labels"]["paritygate.dev/job"] == "convert"]
    found = {}
    for container in ("capture", "convert"):
        lines = [
            line.removeprefix("CURIOUS ")
            for line in scene.log(pod["metadata"]["name"], container).splitlines()
            if line.startswith("CURIOUS ")
        ]
        assert lines, f"its code did not run in {container}"
        found[container] = json.loads(lines[-1])
    return found


@pytest.fixture(params=["capture", "convert"])
def found(request, seen):
    return seen[request.param]


def test_it_has_no_rights(found):
    uid, effective, gid, _ = found["ids"]
    assert 0 not in {uid, effective, gid}
    assert found["root"].startswith("PermissionError")
    assert int(found["rights"]["CapEff"], 16) == int(found["rights"]["CapBnd"], 16) == 0
    assert (found["rights"]["NoNewPrivs"], found["rights"]["Seccomp"]) == ("1", "2")


def test_it_finds_no_credentials(found, credentials):
    assert found["tokens"].startswith("FileNotFoundError")
    assert not [name for name in found["environment"] if name.startswith(("AWS_", "PARITYGATE_ORDER"))]
    everything = json.dumps(found)
    for secret in credentials:
        assert secret not in everything
    assert "kubernetes.io/serviceaccount" not in found["mounts"]


def test_it_sees_no_other_containers_processes(found):
    commands = {command.replace("\0", " ") for command, _ in found["processes"].values()}
    assert not [command for command in commands if "fetch" in command or "publish" in command]
    assert len(commands) == 1, commands


def test_the_api_server_tells_it_nothing(found):
    for asked in ("secrets", "pods"):
        status = found[asked][0] if isinstance(found[asked], list) else None
        # Without a token it is nobody; where the network is closed to it, there is no answer at all.
        assert status in {None, 401, 403}, found[asked]


def test_the_metadata_address_gives_it_nothing(found):
    # True on a cluster without a way out whatever the pod may do, and elsewhere where policies are enforced.
    assert not isinstance(found["metadata"], list), found["metadata"]


@pytest.mark.parametrize(("container", "own"), [("capture", "/captured"), ("convert", "/converted")])
def test_it_writes_to_its_own_volume_and_nowhere_else(seen, container, own):
    written = {place for place, what in seen[container]["writes"].items() if what == "written"}
    assert written == {own, "/tmp"}  # noqa: S108 - a volume of its own
    for target in ("orders", "done"):
        assert "Read-only file system" in seen[container][target]


def test_what_it_says_in_anothers_name_is_not_heard(scene, stories):
    # Given a model that is another one where it is converted, and that left a forged verdict as its own last word.
    found = stories["two-faced"].result(SECONDS)
    (pod,) = [p for p in scene.pods("two-faced") if p["metadata"]["labels"]["paritygate.dev/job"] == "convert"]
    last = {s["name"]: s["state"]["terminated"].get("message", "") for s in pod["status"]["initContainerStatuses"]}
    assert FORGED in last["capture"]
    assert FORGED in last["convert"]
    # Then the verdict is that of what was measured, and nothing serves.
    assert found["status"]["verdict"]["result"] == "Failed"
    assert FORGED not in json.dumps(found["status"])
    assert scene.serving("two-faced") == []


def test_what_it_links_to_is_not_published(scene, store, stories, credentials):
    # Given a model that leaves a link to the environment of whoever publishes its answers.
    found = stories["smuggler"].result(SECONDS)
    # Then nothing is published, and the migration says why.
    assert "/captured/out/environ: is a symbolic link" in condition(found, "Stalled")["message"]
    assert scene.serving("smuggler") == []
    there = {n: store.read("artefacts", n) for n in store.listed("artefacts", f"migrations/{scene.namespace}/smuggler")}
    assert not [name for name in there if "environ" in name]
    assert not [name for name, content in there.items() for secret in credentials if secret.encode() in content]


def test_the_charts_policy_lets_the_work_pass_and_nothing_else(cluster, images, scene, release, found, closed):
    # Given the policy, under which the model was migrated all the same.
    # Then a Service of another namespace, which answers everybody else, is out of its reach,
    address = f"{release.name}-metrics.{release.namespace}.svc"
    with cluster.fresh_namespace() as elsewhere:
        script = f"import socket; socket.create_connection(('{address}', 8081), 10); print('connected')"
        pod = pods.restricted("asks", elsewhere, images["base"].reference, ["python3", "-c", script])
        cluster.api.create(pod)
        ended = {"Succeeded", "Failed"}
        done = cluster.api.until("Pod", "asks", elsewhere, lambda p: p["status"]["phase"] in ended, 60)
        assert done["status"]["phase"] == "Succeeded"
    assert found["neighbour"] != "connected"
    # and so is the API server.
    for asked in ("secrets", "pods"):
        assert not isinstance(found[asked], list), found[asked]


def test_the_charts_policy_holds_for_pods_that_load_models_and_for_no_other(scene, stories, closed):
    stories["curious"].result(SECONDS)
    (chosen,) = closed["podSelector"]["matchExpressions"]
    assert (chosen["key"], chosen["operator"]) == ("paritygate.dev/job", "Exists")
    assert "matchLabels" not in closed["podSelector"]
    for pod in scene.pods("curious"):
        assert chosen["key"] in pod["metadata"]["labels"]
    assert sorted(closed["policyTypes"]) == ["Egress", "Ingress"]
    assert "ingress" not in closed
