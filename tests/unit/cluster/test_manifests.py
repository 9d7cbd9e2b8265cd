"""What is rendered, as golden files, and that it is no more than the restricted Pod Security Standard allows."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from paritygate.api.artifacts import StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import JobOrder
from paritygate.api.spec import DeletionPolicy, ModelMigrationSpec, Storage
from paritygate.cluster.manifests import jobs, pods, serving
from paritygate.cluster.settings import Defaults
from paritygate.core.actions import Grounds

WORKER = f"registry.example/worker@sha256:{'1' * 64}"
SERVER = f"registry.example/server@sha256:{'2' * 64}"
GOLDEN = Path(__file__).parent / "golden"
SPEC = {
    "source": {"format": "SKLearn", "uri": "s3://models/churn.pkl"},
    "target": {"format": "ONNX"},
    "validation": {"dataset": {"uri": "s3://models/holdout.parquet", "label": "churned"}},
    "storage": {"object": {"uri": "s3://artefacts/models", "secretName": "artefact-store"}},
}
OWNER = pods.Owner("models", "churn", "5f1c", 3)
IMAGE = {
    "name": "registry.example/legacy:2021",
    "command": ["python3.8"],
    "runAsUser": 1000,
    "pullSecrets": ["registry"],
}
RICH = {
    "source": {"format": "SKLearn", "uri": "s3://models/churn.pkl", "environment": {"image": IMAGE}},
    "storage": {"claimName": "shared"},
    "jobs": {"queueName": "team-a", "serviceAccountName": "migrations", "runtimeClassName": "gvisor",
             "convert": {"nodeSelector": {"disk": "ssd"}, "resources": {"limits": {"memory": "8Gi"}}}},
}  # fmt: skip


TEMPLATE = {"claimTemplate": {"accessModes": ["ReadWriteMany"], "storageClassName": "shared", "size": "5Gi"}}
IN_CLAIMS = {
    "source": {"format": "SKLearn", "uri": "pvc://models/churn/model.pkl"},
    "validation": {"dataset": {"uri": "pvc://churn-artefacts/holdout.parquet", "label": "churned"}},
    "storage": TEMPLATE,
}


def make_spec(**fields):
    return ModelMigrationSpec.model_validate({**SPEC, **fields})


DEFAULTS = Defaults()


def job_plan(kind, default=None, **fields):
    spec = make_spec(**{**fields, **({"storage": None} if default else {})})
    store = pods.store_access(spec.storage or Storage.model_validate(default), "models", "churn")
    order = JobOrder(
        job=kind,
        migration="churn",
        spec=spec,
        recipe=1,
        environment=digest_of("environment"),
        converter=digest_of("converter"),
        runtime=digest_of("runtime"),
        store=store.uri,
        stage=digest_of("stage") if kind == "Validate" else None,
        artefacts={} if kind == "Convert" else {StageName.CONVERT: digest_of("candidate")},
    )
    defaults = DEFAULTS
    return jobs.JobPlan(OWNER, spec, order, digest_of("job"), 2, WORKER, SERVER, store, defaults, {"cpu": "v4"})


def revision_plan(**fields):
    spec = make_spec(**fields)
    grounds = Grounds("5f1c", 3, digest_of("candidate"), digest_of("runtime"), digest_of("report"))
    order = JobOrder(
        job="Serve",
        migration="churn",
        store="s3://artefacts/models",
        artefacts={StageName.CONVERT: digest_of("candidate"), StageName.VALIDATE: digest_of("verdict")},
    )
    store = pods.store_access(spec.storage, "models", "churn")
    defaults = DEFAULTS
    return serving.RevisionPlan(
        OWNER, "churn-1a2b3c4d", spec, grounds, order, WORKER, SERVER, store, defaults, False, {}, 3
    )


def pointer(plan):
    return serving.service(OWNER, "churn", plan.name, plan.grounds, "2026-01-01T00:00:00Z", plan.spec.deletion_policy)


def budget(plan):
    return serving.budget(OWNER, plan.name, plan.spec.deletion_policy)


def autoscaler(plan):
    return serving.autoscaler(plan.serving.autoscaling, OWNER, plan.name, plan.spec.deletion_policy)


AUTOSCALED = {"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}
RENDERED = {
    "convert-job": lambda: [jobs.job(job_plan("Convert"))],
    "convert-job-in-its-own-image": lambda: [jobs.job(job_plan("Convert", **RICH))],
    "convert-job-of-claims": lambda: [jobs.job(job_plan("Convert", **IN_CLAIMS))],
    "convert-job-by-default": lambda: [jobs.job(job_plan("Convert", default={"object": {"uri": "gs://all/"}}))],
    "claims-by-template": lambda: [
        serving.claim(OWNER, make_spec(storage=TEMPLATE).storage.claim_template, policy) for policy in DeletionPolicy
    ],
    "validate-job": lambda: [jobs.job(job_plan("Validate"))],
    "revision": lambda: [
        serving.deployment(revision_plan()), budget(revision_plan()), pointer(revision_plan())
    ],
    "revision-autoscaled": lambda: [
        serving.deployment(revision_plan(serving=AUTOSCALED, storage={"claimName": "s"})),
        budget(revision_plan(deletionPolicy="Delete")),
        autoscaler(revision_plan(serving=AUTOSCALED)),
    ],
}  # fmt: skip


def pod_specs():
    for name, make in RENDERED.items():
        for item in make():
            template = item["spec"].get("template")
            if template:
                yield pytest.param(template["spec"], id=f"{name}-{item['kind']}")


def containers(spec):
    return [*spec.get("initContainers", ()), *spec["containers"]]


@pytest.mark.parametrize("name", RENDERED)
def test_renders_as_before(name):
    file = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump_all(RENDERED[name](), sort_keys=False, width=160)
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), "render again with UPDATE_GOLDEN=1 and read the difference"


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_pods_meet_the_restricted_standard(spec):
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all(set(volume) - {"name"} <= {"emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"])
    for one in containers(spec):
        security = one["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert security.get("runAsUser", 1) > 0
        assert not {"hostPort"} & {key for port in one.get("ports", ()) for key in port}


@pytest.mark.parametrize("spec", list(pod_specs()))
def test_pods_have_no_token_and_all_mounts_exist(spec):
    assert spec["automountServiceAccountToken"] is False
    volumes = {volume["name"] for volume in spec["volumes"]}
    assert {m["name"] for one in containers(spec) for m in one["volumeMounts"]} == volumes


@pytest.mark.parametrize("kind", ["Convert", "Validate"])
@pytest.mark.parametrize("storage", [{"claimName": "s"}, {"object": {"uri": "s3://b", "secretName": "k"}}])
def test_only_fetch_and_publish_reach_the_store(kind, storage):
    for one in containers(jobs.job(job_plan(kind, storage=storage))["spec"]["template"]["spec"]):
        reaches = "envFrom" in one or any(m["name"] == "store" for m in one["volumeMounts"])
        assert reaches == (one["name"] in {"fetch", "publish"}), one["name"]


def test_only_fetch_reads_claims_of_inputs_and_cannot_write_them():
    spec = jobs.job(job_plan("Convert", **IN_CLAIMS))["spec"]["template"]["spec"]
    for one in containers(spec):
        read = [m for m in one["volumeMounts"] if m["mountPath"].startswith("/claims/")]
        assert bool(read) == (one["name"] == "fetch")
        assert all(m["readOnly"] for m in read)
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert sorted(claims) == ["churn-artefacts", "models"], "no claim may have two volumes in a pod"


def test_migrations_share_no_folder_of_a_store():
    for storage in ({"claimName": "s"}, {"object": {"uri": "s3://b/p/"}}, TEMPLATE):
        spec = make_spec(storage=storage)
        places = {pods.store_access(spec.storage, ns, name).uri for ns in ("a", "b") for name in ("m", "n")}
        assert len(places) == 4
        assert all(place.endswith(("a/m", "a/n", "b/m", "b/n")) for place in places)


def test_what_untrusted_code_reads_it_cannot_write():
    spec = jobs.job(job_plan("Convert"))["spec"]["template"]["spec"]
    written = {
        one["name"]: {m["name"] for m in one["volumeMounts"] if not m.get("readOnly")} - {"scratch"}
        for one in containers(spec)
    }
    assert written == {"fetch": {"inputs"}, "capture": {"captured"}, "convert": {"converted"}, "publish": set()}
    scratch = [m["subPath"] for one in containers(spec) for m in one["volumeMounts"] if m["name"] == "scratch"]
    assert len(set(scratch)) == len(scratch)


@pytest.mark.parametrize("kind", ["Convert", "Validate"])
def test_the_field_that_a_container_without_memory_is_told_to_raise_is_that_containers_limit(kind):
    more = {"limits": {"memory": "8Gi"}}
    spec = jobs.job(job_plan(kind, jobs={"convert": {"resources": more}, "validate": {"resources": more}}))["spec"]
    found = {one["name"]: one["resources"]["limits"] for one in containers(spec["template"]["spec"])}
    found.pop("candidate", None)
    assert set(found) >= {"fetch", "publish"}
    assert all(one == more["limits"] for one in found.values()), found


def test_a_replica_is_promised_what_the_manifest_asks_for_and_no_more():
    asked = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    spec = serving.deployment(revision_plan(serving={"resources": asked}))["spec"]["template"]["spec"]
    assert [one["resources"] for one in containers(spec)] == [asked, asked]


def test_the_candidate_is_judged_as_it_will_serve():
    judged = next(
        c for c in containers(jobs.job(job_plan("Validate"))["spec"]["template"]["spec"]) if c["name"] == "candidate"
    )
    serves = serving.deployment(revision_plan())["spec"]["template"]["spec"]["containers"][0]
    for same in ("image", "env", "resources", "securityContext"):
        assert judged[same] == serves[same]
    shared = judged["command"][: judged["command"].index("--drain-seconds")]
    assert serves["command"][: len(shared)] == shared


def test_names_fit_and_change_with_the_uid():
    plan = job_plan("Validate")
    longest = replace(plan, owner=replace(OWNER, name="a" * 40), attempt=999)
    assert len(longest.name) <= 63
    assert replace(longest, owner=replace(longest.owner, uid="other")).name != longest.name


def test_labels_and_annotations_of_the_migration_are_not_copied():
    metadata = jobs.job(job_plan("Convert"))["metadata"]
    assert all(key.startswith(("paritygate.dev/", "app.kubernetes.io/managed-by")) for key in metadata["labels"])
    (reference,) = metadata["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == ("5f1c", True)


def test_a_revision_does_not_change_when_the_manifest_does():
    before = serving.deployment(revision_plan())["spec"]["template"]
    assert (
        serving.deployment(revision_plan(suspend=True, deletionPolicy="Delete", runID="2"))["spec"]["template"]
        == before
    )


def test_what_serves_is_owned_only_where_it_is_to_go_with_its_migration():
    assert serving.owners(OWNER, DeletionPolicy.RETAIN) == {}
    assert serving.owners(OWNER, DeletionPolicy.DELETE)["ownerReferences"][0]["uid"] == "5f1c"


@pytest.mark.parametrize(
    ("why", "change", "spec", "there"),
    [
        ("what was just brought up", {}, {}, True),
        ("another number is stated", {}, {"serving": {"replicas": 5}}, False),
        ("somebody scaled what has a stated number", {"serving": {"replicas": 3}, "scaled": 4},
         {"serving": {"replicas": 3}}, False),
        ("somebody scaled what has none", {"scaled": 4}, {}, True),
        ("an autoscaler is asked for", {}, {"serving": AUTOSCALED}, False),
        ("it is to go with its migration", {}, {"deletionPolicy": "Delete"}, False),
    ],
)  # fmt: skip
def test_a_revision_is_in_line_when_it_is_as_the_manifest_asks(why, change, spec, there):
    scaled = change.pop("scaled", None)
    deployment = serving.deployment(replace(revision_plan(**change), promoted=True))
    if scaled is not None:
        deployment["spec"]["replicas"] = scaled
    assert serving.in_line(deployment, make_spec(**spec)) is there, why


@pytest.mark.parametrize("serving_spec", [{"replicas": 5}, AUTOSCALED, {}])
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_what_is_brought_in_line_is_in_line(serving_spec, policy):
    spec = make_spec(serving=serving_spec, deletionPolicy=policy)
    deployment = serving.deployment(replace(revision_plan(), promoted=True))
    deployment["metadata"]["uid"] = "7"
    patch = serving.scale_patch(deployment, spec, OWNER)
    deployment["metadata"]["annotations"] |= patch["metadata"]["annotations"]
    deployment["metadata"]["ownerReferences"] = patch["metadata"]["ownerReferences"] or []
    deployment["spec"] |= patch.get("spec", {})
    assert serving.in_line(deployment, spec)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda pod: pod["containers"][0].update(image="other"), True),
        (lambda pod: pod["containers"][0]["command"].append("--threads=9"), True),
        (lambda pod: pod["initContainers"][0]["env"].clear(), True),
        (lambda pod: pod.update(nodeSelector={"cpu": "v3"}), True),
        (lambda pod: pod["containers"].append({"name": "proxy", "image": "proxy"}), True),
        (lambda pod: pod["containers"][0].update(args=[], envFrom=None, imagePullPolicy="Always"), False),
        (lambda pod: pod.update(schedulerName="default-scheduler", dnsPolicy="ClusterFirst"), False),
    ],
)
def test_a_change_of_what_a_revision_runs_is_seen_and_defaults_of_the_server_are_none(change, seen):
    deployment = serving.deployment(revision_plan())
    change(deployment["spec"]["template"]["spec"])
    assert serving.altered(deployment) is seen
