"""What goes wrong in real pods: the migration says what to do about it, nothing serves, and once mended it goes on."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import joblib
import numpy as np
import pytest

from control_plane.client import Object, condition, path_of
from scenes import SECONDS, STAGE, Call, Scene, at_once, upload

ABSENT = "127.0.0.1:1/paritygate-e2e/absent:1"
"""An image of a registry that refuses connections at once, on every cluster."""
OTHER = "sha256:" + 64 * "0"
MEMORY = 62_500_000
"""Doubles that a greedy model makes while it is loaded: 477 MiB."""
pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Trouble:
    """A migration that cannot go on before somebody changes something."""

    given: Object
    """Change of the example's spec."""
    reason: str
    says: tuple[str, ...]
    """Parts of the message."""
    mend: Callable[[Scene, str, str], None]
    """Does what the message says; gets the migration's name and the message."""


def named(pattern: str, message: str) -> str:
    """What a message names."""
    found = re.search(pattern, message)
    assert found is not None, message
    return found[1]


def other_image(scene: Scene, name: str, _: str) -> None:
    scene.edit(name, {"source": {"environment": None}})


def other_secret(scene: Scene, name: str, _: str) -> None:
    scene.edit(name, {"storage": {"object": {"secretName": "artefact-store"}}})


def labelled(scene: Scene, _: str, message: str) -> None:
    scene.kubectl(*named(r"kubectl (label .*=true)", message).split())


def right_digest(scene: Scene, name: str, message: str) -> None:
    scene.edit(name, {"source": {"digest": named(r"what is there has (sha256:[0-9a-f]{64})", message)}})


def more_memory(scene: Scene, name: str, message: str) -> None:
    asked = named(r"spec\.jobs\.convert\.resources\.limits\.memory: (\S+)", message)
    scene.edit(name, {"jobs": {"convert": {"resources": {"limits": {"memory": asked}}}}})


def right_credentials(scene: Scene, name: str, _: str) -> None:
    right = scene.store.secret(scene.namespace, name="wrong-credentials")
    scene.api.patch("Secret", "wrong-credentials", scene.namespace, {"stringData": right["stringData"]})
    scene.edit(name, {"runID": "with-right-credentials"})


TROUBLES = {
    "image-that-does-not-exist": Trouble(
        {"source": {"environment": {"image": {"name": ABSENT}}}},
        "ImageUnavailable", ("container capture", ABSENT, "check its name"), other_image,
    ),
    "secret-that-is-missing": Trouble(
        {"storage": {"object": {"secretName": "nobodys"}}},
        "SecretNotAllowed", ("spec.storage.object.secretName is 'nobodys'", "there is no Secret", "create it"),
        other_secret,
    ),
    "secret-that-nobody-labelled": Trouble(
        {"storage": {"object": {"secretName": "unlabelled"}}},
        "SecretNotAllowed", ("spec.storage.object.secretName is 'unlabelled'", "not labelled"), labelled,
    ),
    "credentials-that-are-wrong": Trouble(
        {"storage": {"object": {"secretName": "wrong-credentials"}}},
        "StoreRefused", ("fetch: ", "check spec.storage.object.secretName"), right_credentials,
    ),
    "digest-of-another-model": Trouble(
        {"source": {"digest": OTHER}},
        "DigestMismatch", (f"fetch: spec.source.digest is {OTHER}", "correct the digest"), right_digest,
    ),
    "source-out-of-memory": Trouble(
        {
            "source": {"uri": "s3://models/e2e/greedy.joblib"},
            "jobs": {"convert": {"resources": {**STAGE, "limits": {"memory": "500Mi"}}}},
        },
        "OutOfMemory", ("container capture needed more than its limit of 500Mi", "ask for 1000Mi"), more_memory,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def scene(cluster, store, release, shared_namespace):
    return Scene(cluster, store, shared_namespace)


@pytest.fixture(scope="module")
def stories(scene, store, trained, tmp_path_factory):
    """All of them at once: each comes into trouble, is mended, and goes on."""
    greedy, slow = (joblib.load(trained / "tumours" / "tumours.joblib") for _ in range(2))
    greedy.surprise_ = Call(operator.length_hint, Call(np.ones, MEMORY))
    slow.surprise_ = Call(time.sleep, 15)
    upload(store, tmp_path_factory.mktemp("models"), {"greedy": greedy, "slow": slow})
    scene.api.create(store.secret(scene.namespace, name="unlabelled", allowed=False))
    wrong = store.secret(scene.namespace, name="wrong-credentials", AWS_SECRET_ACCESS_KEY="of-somebody-else")
    scene.api.create(wrong)
    told = {name: lambda name=name, one=one: trouble(scene, name, one) for name, one in TROUBLES.items()}
    with at_once({**told, "evicted": lambda: evicted(scene)}) as found:
        yield found


def trouble(scene: Scene, name: str, one: Trouble) -> None:
    # Given a migration with a mistake.
    scene.apply(name, one.given)
    # When the operator comes to it.
    found = scene.until(name, one.reason)
    # Then the migration says what is wrong and what to do, and nothing can be answered by it.
    message = condition(found, "Ready")["message"]
    assert all(part in message for part in one.says), message
    assert condition(found, "Ready")["status"] == "False"
    assert scene.serving(name) == []
    # When that is done, then it goes on and serves.
    one.mend(scene, name, message)
    found = scene.until(name, "Promoted", despite=one.reason)
    assert condition(found, "ServingAvailable")["status"] == "True"


@pytest.mark.parametrize("name", TROUBLES)
def test_what_is_wrong_is_said_and_once_mended_the_migration_goes_on(stories, name):
    stories[name].result(SECONDS)


def evicted(scene: Scene) -> None:
    # Given a migration that has no second attempt, and whose source is being asked.
    scene.apply("evicted", {"source": {"uri": "s3://models/e2e/slow.joblib"}, "jobs": {"retries": 0}})
    pod = scene.running("evicted", "capture")["metadata"]
    # When its pod is evicted, as by `kubectl drain`.
    head = {"apiVersion": "policy/v1", "kind": "Eviction"}
    metadata = {"name": pod["name"], "namespace": scene.namespace}
    scene.api.request("POST", f"{path_of('Pod', scene.namespace, pod['name'])}/eviction", head | {"metadata": metadata})
    # Then another pod of the same Job takes its place, and no attempt is lost.
    found = scene.until("evicted", "Promoted")
    assert {stage["attempt"] for stage in found["status"]["stages"]} == {1}
    convert = [job for job in scene.jobs("evicted") if job["metadata"]["labels"]["paritygate.dev/job"] == "convert"]
    assert [job["metadata"]["name"] for job in convert] == [found["status"]["stages"][0]["job"]]
    assert pod["name"] not in {one["metadata"]["name"] for one in scene.pods("evicted")}


def test_an_evicted_pod_costs_no_attempt(stories):
    stories["evicted"].result(SECONDS)
