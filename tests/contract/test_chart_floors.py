"""What an administrator forbids is said when a manifest is applied, in the operator's words; nothing else is."""

import pytest

from control_plane.chart import PINNED, of_kind, render, until_refused
from control_plane.client import Refused
from control_plane.fixtures import started
from control_plane.migrations import SETTINGS, migration
from paritygate.api.spec import ModelMigrationSpec
from paritygate.cluster import references
from paritygate.cluster.floors import violations
from paritygate.cluster.settings import Settings

STRICT = {
    "floors": {
        "loosestEquivalence": "Decision", "maxFlipRate": "0.02", "maxTieRate": "2e-2", "maxDrop": "0.01",
        "rtol": "1e-3", "atol": "0.0001", "minConfidence": "0.95",
        "registries": ["registry.example/team", "other.example:5000/"],
    },
    "caps": {"deadline": "1h30m", "retries": 3, "replicas": 4},
}  # fmt: skip
STRICTEST = {"floors": {"loosestEquivalence": "Numeric", "maxFlipRate": "0.005"}, "caps": {"replicas": 1, "retries": 0}}
STORED = {"defaults": {"storage": {"claimName": "models"}}}
CONFIGURATIONS = {"unstated": {}, "strict": STRICT, "strictest": STRICTEST, "stored": STORED}
DATASET = {"uri": "s3://models/holdout.parquet", "label": "churned"}
SOURCE = {"format": "SKLearn", "uri": "s3://models/churn.pkl"}
METRIC = {"equivalence": "Metric", "uri": "s3://models/candidate.onnx"}
MARGIN = {"dataset": DATASET, "metrics": [{"name": "accuracy", "maxDrop": "0.01"}]}


def image(name):
    return {"source": {**SOURCE, "environment": {"image": {"name": name}}}}


def judged(**fields):
    return {"validation": {"dataset": DATASET, **fields}}


SPECS = {
    "the shortest": {},
    "a path": {"source": {**SOURCE, "uri": "churn.pkl"}},
    "a file": judged(dataset={**DATASET, "uri": "file:///data/holdout.parquet"}),
    "a claim": {"source": {**SOURCE, "uri": "pvc://models/churn#1.pkl"}},
    "a signed link": {"source": {**SOURCE, "uri": "https://models.example/churn.pkl?signature=1"}},
    "answers on one machine": {"source": {**SOURCE, "capture": {"uri": "captured"}}},
    "a candidate on one machine": {
        "target": {"format": "ONNX", "candidate": {**METRIC, "uri": "c.onnx"}},
        **judged(**MARGIN),
    },
    "no storage": {"storage": None},
    "a virtual environment": {"source": {**SOURCE, "environment": {"virtualenv": {"requirements": ["numpy<2"]}}}},
    "an image of the registry": image("registry.example/team/churn:1"),
    "an image of another team": image("registry.example/team-b/churn:1"),
    "an image of a registry with a port": image("other.example:5000/churn:1"),
    "an image from anywhere": image("python:3.8"),
    "decisions": {"target": {"format": "ONNX", "equivalence": "Decision"}},
    "a metric": {"target": {"format": "ONNX", "equivalence": "Metric"}, **judged(**MARGIN)},
    "a brought candidate": {"target": {"format": "ONNX", "candidate": METRIC}, **judged(**MARGIN)},
    "many flips": judged(decisions={"maxFlipRate": "0.05"}),
    "as many flips as can be": judged(decisions={"maxFlipRate": "2e-2"}),
    "many ties": judged(decisions={"maxTieRate": "0.021"}),
    "a large drop": judged(metrics=[{"name": "accuracy"}, {"name": "f1", "maxDrop": "0.011"}]),
    "a large drop of a slice": judged(dataset={**DATASET, "slices": [{"column": "country", "maxDrop": "0.5"}]}),
    "many flips of a slice": judged(
        dataset={**DATASET, "slices": [{"column": "a"}, {"column": "b", "maxFlipRate": "1"}]}
    ),
    "a wide tolerance": judged(numeric={"rtol": "1e-2", "atol": "1e-4"}),
    "a wide absolute tolerance": judged(numeric={"atol": "1e-3"}),
    "a wide tolerance of an output": judged(numeric={"outputs": [{"name": "p", "rtol": "1e-4", "atol": "1"}]}),
    "little confidence": judged(confidence="0.9"),
    "much confidence": judged(confidence="0.99"),
    "many retries": {"jobs": {"retries": 4}},
    "a long deadline": {"jobs": {"deadline": "91m"}},
    "a deadline of a day": {"jobs": {"deadline": "1d1ms"}},
    "a deadline that fits": {"jobs": {"deadline": "1h29m60s"}},
    "many replicas": {"serving": {"replicas": 5}},
    "many replicas that never serve": {"serving": {"replicas": 5}, "rollout": {"strategy": "ValidateOnly"}},
    "replicas that grow": {"serving": {"replicas": None, "autoscaling": {"maxReplicas": 5}}},
    "replicas by default": {"serving": {"replicas": None}},
}


def manifest(namespace, fields):
    """The fields replace those of an ordinary manifest; None takes one away."""
    found = migration(namespace, **fields)
    spec = {key: value for key, value in found["spec"].items() if value is not None}
    spec["serving"] = {key: value for key, value in spec["serving"].items() if value is not None}
    return found | {"spec": spec}


def by_the_operator(spec, config):
    """What the operator says of a spec as the API server stores it."""
    settings = Settings.model_validate({**SETTINGS, **config})
    read = ModelMigrationSpec.model_validate(spec)
    return violations(read, settings) + references.problems(read, settings.defaults.storage, ())


def refusal(api, body):
    """What the API server says against it; None = it takes it."""
    try:
        api.create(body, dryRun="All")
    except Refused as refused:
        return refused
    return None


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A client of a control plane where each configuration holds in the namespace of its name, and none in `free`."""
    with started(tmp_path_factory.mktemp("floors")) as plane, plane.client() as found:
        for name in ("free", *CONFIGURATIONS):
            found.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name, config in CONFIGURATIONS.items():
            objects = render(PINNED | {"config": config, "namespaces": [name]}, release=name)
            if name == "unstated":
                found.apply(*of_kind(objects, "CustomResourceDefinition"))
            for one in of_kind(objects, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
                found.apply(one)
        found.until_served("ModelMigration")
        for name in CONFIGURATIONS:
            in_force(found, name)
        yield found


def in_force(api, namespace):
    """Waits until the API server has taken a namespace's policies in."""
    body = manifest(namespace, SPECS["a path"])
    body["metadata"]["name"] = "unsound"
    until_refused(lambda: api.create(body, dryRun="All"))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_admission_says_what_the_operator_would_say(api, configuration, name):
    stored = api.create(manifest("free", SPECS[name]), dryRun="All")["spec"]
    problems = by_the_operator(stored, CONFIGURATIONS[configuration])
    refused = refusal(api, manifest(configuration, SPECS[name]))
    if not problems:
        assert refused is None
        return
    assert refused is not None, problems
    assert refused.code == 422
    assert refused.message.split("denied request: ")[1] in problems


def test_what_was_there_before_a_floor_can_be_suspended_and_deleted_but_not_loosened(api):
    (binding,) = (
        b for b in api.list("ValidatingAdmissionPolicyBinding") if b["metadata"]["name"] == "strict-paritygate-floors"
    )
    body = manifest("free", SPECS["many retries"])
    api.create(body)
    binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"][0]["values"] += ["free"]
    api.patch("ValidatingAdmissionPolicyBinding", binding["metadata"]["name"], None, {"spec": binding["spec"]})
    in_force(api, "free")
    api.patch("ModelMigration", "churn", "free", {"spec": {"suspend": True, "runID": "2"}})
    api.patch("ModelMigration", "churn", "free", {"metadata": {"finalizers": ["example.dev/kept"]}})
    api.patch("ModelMigration", "churn", "free", {"metadata": {"finalizers": []}})
    with pytest.raises(Refused, match="this cluster takes at most 3"):
        api.patch("ModelMigration", "churn", "free", {"spec": {"jobs": {"retries": 5}}})
    api.patch("ModelMigration", "churn", "free", {"spec": {"jobs": {"retries": 3}}})
    api.delete("ModelMigration", "churn", "free")
