"""What a manifest names outside itself: whether pods can reach it, and whether it may be named at all."""

import asyncio
import re

import pytest

from paritygate.api.spec import Storage
from paritygate.cluster import references
from paritygate.cluster.client import ACCOUNTS, SECRETS
from paritygate.errors import ConfigurationError, Forbidden, Missing

TEMPLATE = {"accessModes": ["ReadWriteOnce"], "size": "5Gi"}
LABELLED = {"metadata": {"labels": {"paritygate.dev/allowed": "true"}}}


class Metadata:
    """Answers with the metadata of what it knows, as the API server would."""

    def __init__(self, **known):
        self.known, self.asked = known, []

    async def metadata(self, resource, namespace, name):
        self.asked.append((resource.kind, namespace, name))
        found = self.known.get(name, Missing("404"))
        if isinstance(found, Exception):
            raise found
        return found


def problems(spec, default=None, node_local=(), **fields):
    return references.problems(spec(**fields), default, node_local)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": {"format": "SKLearn", "uri": "churn.pkl"}},
         "spec.source.uri is 'churn.pkl', a path on one machine; in a cluster use s3://"),
        ({"source": {"format": "SKLearn", "uri": "file:///proc/self/environ"}}, "spec.source.uri is 'file:///proc"),
        ({"source": {"format": "SKLearn", "uri": "https://models.example/churn.pkl?signature=x"}},
         "what follows [?] or # would not be read"),
        ({"validation": {"dataset": {"uri": "holdout.csv"}}}, "spec.validation.dataset.uri is 'holdout.csv'"),
        ({"source": {"format": "SKLearn", "uri": "s3://m", "capture": {"uri": "recorded"}}},
         "spec.source.capture.uri is 'recorded'"),
        ({"target": {"format": "ONNX", "candidate": {"uri": "m.onnx", "equivalence": "Numeric"}}},
         "spec.target.candidate.uri is 'm.onnx'"),
        ({"storage": None}, "spec.storage is missing and this cluster has no default"),
        ({"storage": {"claimTemplate": TEMPLATE}},
         r"spec.storage.claimTemplate.accessModes is \[ReadWriteOnce\], and 2 replicas serve: .* \[ReadWriteMany\]"),
        ({"storage": {"claimTemplate": TEMPLATE}, "serving": {"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}},
         "and 4 replicas serve"),
    ],
)  # fmt: skip
def test_what_pods_could_not_reach_is_told_before_anything_starts(spec, fields, said):
    (found,) = problems(spec, **fields)
    assert re.search(said, found), found


@pytest.mark.parametrize(
    "fields",
    [
        {"storage": {"claimTemplate": {**TEMPLATE, "accessModes": ["ReadWriteMany"]}}},
        {"storage": {"claimTemplate": TEMPLATE}, "serving": {"replicas": 1}},
        {"storage": {"claimTemplate": TEMPLATE}, "rollout": {"strategy": "ValidateOnly"}},
        {"storage": {"claimTemplate": {**TEMPLATE, "storageClassName": "local-disks"}}},
        {"source": {"format": "SKLearn", "uri": "pvc://models/churn.pkl"}},
        {"source": {"format": "SKLearn", "uri": "https://models.example/churn.pkl"}},
    ],
)
def test_what_pods_can_reach_is_taken(spec, fields):
    assert problems(spec, node_local=("local-disks",), **fields) == []


def test_a_default_is_held_to_the_same_rule_and_named_as_such(spec):
    default = Storage.model_validate({"claimTemplate": TEMPLATE})
    (found,) = problems(spec, default, ("local-disks", "nvme"), storage=None)
    assert found.startswith("defaults.storage.claimTemplate.accessModes")
    assert "class (local-disks, nvme)" in found


def allowed(named, **known):
    client = Metadata(**known)
    asyncio.run(references.require_allowed(client, "models", iter(named)))
    return client.asked


def test_everything_that_a_job_uses_is_looked_at_and_only_its_metadata(spec):
    image = {"name": "registry.example/old:1", "pullSecrets": ["registry"]}
    found = spec(
        source={"format": "SKLearn", "uri": "s3://m", "environment": {"image": image}},
        jobs={"serviceAccountName": "migrations"},
    )
    named = list(references.of_jobs(found, found.storage, "spec.storage"))
    assert allowed(named, **{one.name: LABELLED for one in named}) == [
        ("Secret", "models", "artefact-store"), ("Secret", "models", "registry"),
        ("ServiceAccount", "models", "migrations"),
    ]  # fmt: skip
    assert [one.name for one in references.of_serving(found.storage, "spec.storage")] == ["artefact-store"]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "there is no Secret of this name in namespace models; create it, labelled paritygate.dev/allowed=true"),
        ({"store": {"metadata": {}}}, "kubectl label -n models secret store paritygate.dev/allowed=true"),
        ({"store": {"metadata": {"labels": {"paritygate.dev/allowed": "yes"}}}}, "is not labelled for ParityGate"),
        ({"store": Forbidden("403")}, "let its role get secrets in namespace models"),
    ],
)
def test_a_secret_that_may_not_be_named_is_refused_with_what_to_do(known, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        allowed([references.Named(SECRETS, "store", "spec.storage.object.secretName")], **known)
    assert caught.value.reason == "SecretNotAllowed"
    assert caught.value.message.startswith("spec.storage.object.secretName is 'store': ")


def test_a_service_account_has_a_reason_of_its_own():
    with pytest.raises(ConfigurationError) as caught:
        allowed([references.Named(ACCOUNTS, "admin", "spec.jobs.serviceAccountName")], admin={"metadata": {}})
    assert caught.value.reason == "ServiceAccountNotAllowed"
