"""The Helm chart, rendered by a real helm and judged by a real API server."""

import json
import subprocess

import pytest
import yaml

from control_plane import definitions, plane, volumes
from control_plane.chart import CHART, DIGEST, JOBS_CLOSED, MATRIX, PINNED, of_kind, render, until_refused
from control_plane.client import condition, path_of
from control_plane.fixtures import tool
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, is_ready, migration, operating
from control_plane.scripts import Outcome
from paritygate import __version__
from paritygate.cluster.configuration import load_settings


def test_helm_finds_nothing_to_complain_about():
    settings = [f"--set=images.{one}.digest={DIGEST}" for one in ("worker", "server")]
    subprocess.run([tool("helm"), "lint", "--strict", "--quiet", str(CHART), *settings], check=True, timeout=60)


def test_what_artifact_hub_is_told_holds(migrations, namespace):
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    told = {key.removeprefix("artifacthub.io/"): value for key, value in chart["annotations"].items()}
    assert chart["appVersion"] == chart["version"] == __version__.partition(".dev")[0]
    assert {change["kind"] for change in yaml.safe_load(told["changes"])} <= {
        "added", "changed", "deprecated", "removed", "fixed", "security"}  # fmt: skip
    (definition,) = of_kind(render(PINNED), "CustomResourceDefinition")
    (described,) = yaml.safe_load(told["crds"])
    assert described["name"] == definition["metadata"]["name"]
    assert described["version"] == definition["spec"]["versions"][0]["name"]
    (example,) = yaml.safe_load(told["crdsExamples"])
    example["metadata"]["namespace"] = namespace
    migrations.create(example, fieldValidation="Strict", dryRun="All")


@pytest.fixture(scope="module")
def monitoring(api):
    definitions.prometheus(api)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_what_is_rendered_is_taken_by_the_api_server(migrations, monitoring, namespace, values):  # noqa: ARG001
    for one in render(values, namespace):
        metadata = one["metadata"]
        path = path_of(one["kind"], metadata.get("namespace"), metadata["name"])
        query = {"fieldManager": "test", "dryRun": "All", "fieldValidation": "Strict", "force": "true"}
        migrations.request("PATCH", path, one, content="application/apply-patch+yaml", **query)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_operator_can_read_its_configuration(values, tmp_path):
    config = next(one for one in of_kind(render(values), "ConfigMap") if "operator.yaml" in one["data"])
    file = tmp_path / "operator.yaml"
    file.write_text(config["data"]["operator.yaml"])
    settings = load_settings(file)
    assert settings.images.worker.name.endswith(DIGEST)
    assert list(settings.namespaces) == [n.replace("NAMESPACE", "paritygate") for n in values.get("namespaces", ())]
    assert settings.caps.active_runs == values.get("config", {}).get("caps", {}).get("activeRuns", 20)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "images.worker.digest is required"),
        (PINNED | {"replica": 2}, "additional properties 'replica' not allowed"),
        (PINNED | {"config": {"caps": {"activeRun": 2}}}, "additional properties 'activeRun' not allowed"),
        (PINNED | {"images": {"worker": {"digest": "latest"}}}, "'latest' does not match pattern"),
        (PINNED | JOBS_CLOSED, "networkPolicy.jobs needs namespaces"),
        (PINNED | {"admissionPolicy": {"actions": ["Deny", "Warn"]}}, "at '/admissionPolicy/actions': 'not' failed"),
        (PINNED | {"admissionPolicy": {"exempt": {"users": ["o'neill"]}}}, "does not match pattern"),
        (PINNED | {"metrics": {"dashboards": {}}}, "additional properties 'dashboards' not allowed"),
        (PINNED | {"metrics": {"alerts": {"labels": {"a": 1}}}}, "got number, want string"),
        (
            PINNED | {"metrics": {"service": False, "serviceMonitor": {"enabled": True}}},
            "metrics.serviceMonitor needs metrics.service",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_with_their_place(values, told):
    with pytest.raises(ValueError, match=told.replace(".", r"\.")):
        render(values)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_the_operator_is_restricted_and_is_given_no_wildcard(values):
    objects = render(values)
    (deployment,) = of_kind(objects, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    for role in (*of_kind(objects, "Role"), *of_kind(objects, "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            assert "secrets" not in rule["resources"] or rule["verbs"] == ["get"]
    bound = [subject for one in objects for subject in one.get("subjects", ())]
    account = pod["serviceAccountName"]
    assert bound
    assert all((s["name"], s["namespace"]) == (account, "paritygate") for s in bound)


def test_migrations_outlive_the_release():
    (definition,) = of_kind(render(PINNED), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (definition,) = of_kind(render(PINNED | {"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in definition["metadata"]


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "one namespace"])
def test_the_operator_needs_all_that_it_is_granted_and_no_more(tmp_path, everywhere):
    """Whole migrations with the chart's own roles, and with its admission policies in force.

    What was asked of the API server stands in its audit log.
    """
    audit = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
             "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:models"]}]}  # fmt: skip
    with plane.shared(tmp_path, audit) as cluster, cluster.client() as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "models"}})
        api.until("ServiceAccount", "default", "models", lambda _: True)
        objects = render(PINNED | ({} if everywhere else {"namespaces": ["models"]}), "models")
        admitted = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        for kind in ("CustomResourceDefinition", "ServiceAccount", "Role", "RoleBinding", *admitted):
            for one in of_kind(objects, kind, f"Cluster{kind}"):
                api.apply(one)
        api.until_served("ModelMigration")
        _until_guarded(api)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        account = path_of("ServiceAccount", "models", "pg-paritygate")
        token = api.request("POST", f"{account}/token", asked)["status"]["token"]
        work = Work()
        namespaces = [] if everywhere else ["models"]
        with Kubelet(cluster, "models", work), operating(cluster, "models", token, namespaces=namespaces):
            _live_through(api, work)
        granted = {
            (group, resource, verb)
            for role in of_kind(objects, "Role") + of_kind(objects, "ClusterRole")
            for rule in role["rules"] if not role["metadata"]["name"].endswith(("-edit", "-view"))
            for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
        }  # fmt: skip
        used, refused = _asked(cluster.folder)
    assert refused == set()
    # Asked for only when the answer to its creation was lost.
    assert granted - used == {("batch", "jobs", "get")}, "granted, and never asked for in whole migrations"


def _until_guarded(api):
    """Returns as soon as an administrator may not make what is the operator's."""
    forged = {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}, "metadata": {
        "name": "forged", "namespace": "models", "labels": {"paritygate.dev/migration": "churn"}}}  # fmt: skip
    until_refused(lambda: api.create(forged, dryRun="All"))


def _live_through(api, work):
    """Everything that an operator ever does for migrations."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "store", "namespace": "models", "labels": {"paritygate.dev/allowed": "true"}}}  # fmt: skip
    api.create(secret)
    claim = {"claimTemplate": {"accessModes": ["ReadWriteMany"], "size": "1Gi"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**secret["metadata"], "name": "jobs"}}
    api.create(account)
    scaled = {"autoscaling": {"minReplicas": 1, "maxReplicas": 3}}
    first = migration("models", serving=scaled, storage=claim, jobs={"serviceAccountName": "jobs"})
    api.create(first)
    volumes.provide(api, "models", "churn-artefacts")
    api.create(migration("models", "other"))
    promoted = is_ready("Promoted")
    for name in ("churn", "other"):
        api.until("ModelMigration", name, "models", promoted, 60)
    api.patch("ModelMigration", "churn", "models", {"spec": {"deletionPolicy": "Delete"}})
    api.until("Service", "churn", "models", lambda s: s["metadata"].get("ownerReferences"))
    before = api.get("Service", "other", "models")["spec"]["selector"]
    api.patch("ModelMigration", "churn", "models", {"spec": {"serving": {"autoscaling": {"maxReplicas": 4}}}})
    api.patch("ModelMigration", "other", "models", {"spec": {"source": {"uri": "s3://models/better.pkl"}}})
    api.until("Service", "other", "models", lambda s: s["spec"]["selector"] != before)
    api.until_gone("Deployment", before["paritygate.dev/revision"], "models")
    api.patch("ModelMigration", "churn", "models", {"spec": {"serving": {"autoscaling": None}}})
    selector = api.get("Service", "churn", "models")["spec"]["selector"]
    api.until_gone("HorizontalPodAutoscaler", selector["paritygate.dev/revision"], "models")
    work.fails["Convert"] = {"fetch": Outcome(waiting=("InvalidImageName", "no such name"))}
    api.create(migration("models", "unknown"))
    api.until("ModelMigration", "unknown", "models", lambda m: condition(m, "Stalled"))
    # A Job that hangs is cancelled where it is, and removed where its migration is suspended.
    held = work.hold()
    api.patch("ModelMigration", "other", "models", {"spec": {"runID": "2"}})
    api.until("ModelMigration", "other", "models", is_ready("Capturing"))
    api.patch("ModelMigration", "other", "models", {"spec": {"suspend": True}})
    api.until("ModelMigration", "other", "models", is_ready("Suspended"))
    held.set()


def _asked(folder):
    """Verbs that the API server recorded: those that it allowed, and those that it refused."""
    used, refused = set(), set()
    for log in folder.glob("audit*.log"):
        for line in log.read_text().splitlines():
            event = json.loads(line)
            reference = event.get("objectRef")
            if not reference or event["user"]["username"] != "system:serviceaccount:models:pg-paritygate":
                continue
            resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
            one = (reference.get("apiGroup", ""), resource, event["verb"])
            (refused if event["annotations"]["authorization.k8s.io/decision"] == "forbid" else used).add(one)
    return used, refused
