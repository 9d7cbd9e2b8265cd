"""A source in its user's own image: an older scikit-learn, root by default, and nothing of ParityGate in it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from open_inference import asked
from scenes import Scene, manifest
from suite import pods

ABOUT = """
import importlib.util, json, os, sklearn
print(json.dumps([os.getuid(), sklearn.__version__, importlib.util.find_spec("paritygate") is not None]))
"""
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def image_itself(cluster, images):
    """Who the image runs as where nobody says, its scikit-learn, and whether it knows ParityGate."""
    with cluster.fresh_namespace("privileged") as namespace:
        pod = pods.restricted("about", namespace, images["legacy"].reference, ["python3", "-c", ABOUT])
        pod["spec"]["securityContext"] = {}
        pod["spec"]["containers"][0]["securityContext"] = {}
        cluster.api.create(pod)
        cluster.api.until("Pod", "about", namespace, lambda p: p["status"]["phase"] in {"Succeeded", "Failed"}, 60)
        return json.loads(Scene(cluster, None, namespace).log("about", "main"))


@pytest.fixture(scope="module")
def wine(cluster, store, release, shared_namespace, images, image_itself):
    """Given the example, with its image by the name that this cluster's nodes know. When it came to its end."""
    example = manifest("legacy.yaml")
    example["spec"]["source"]["environment"]["image"]["name"] = images["legacy"].tagged
    cluster.apply(example, shared_namespace)
    return Scene(cluster, store, shared_namespace).until("wine", "Promoted")


def test_the_image_is_one_that_nobody_prepared(image_itself):
    user, version, ours = image_itself
    assert user == 0
    assert version.startswith("1.2.")
    assert not ours


def test_the_source_answers_in_its_image_without_being_root(cluster, store, shared_namespace, wine, image_itself):
    bucket, _, folder = wine["status"]["verdict"]["reportURI"].removeprefix("s3://").partition("/")
    report = json.loads(store.read(bucket, f"{folder}/report.json"))
    assert report["sourceEnvironment"]["packages"]["scikit-learn"] == image_itself[1]
    assert "paritygate" not in report["sourceEnvironment"]["packages"]
    assert report["candidateEnvironment"]["packages"]["paritygate"]
    (pod,) = [
        p
        for p in Scene(cluster, store, shared_namespace).pods("wine")
        if p["metadata"]["labels"]["paritygate.dev/job"] == "convert"
    ]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["runAsUser"] != 0


def test_what_was_migrated_answers_as_the_model_did(cluster, shared_namespace, wine, trained):
    rows = pd.read_csv(trained / "wine" / "holdout.csv")
    table = rows.drop(columns="cultivar").to_numpy(np.float64)
    with cluster.forwarded(shared_namespace, "svc/wine", 80) as address:
        answers = asked(address, wine["metadata"]["name"], {"features": table})
    assert (answers["label"].ravel() == rows["cultivar"]).mean() > 0.9
