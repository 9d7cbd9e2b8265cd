"""The operator comes, goes, and comes again in another version: what runs and what serves goes on meanwhile."""

from __future__ import annotations

import subprocess
import time
import warnings

import httpx
import joblib
import pytest
import yaml

from control_plane.client import condition
from scenes import Call, Scene, upload
from suite import release as releases
from suite.access import ROOT

DEFINITION = "modelmigrations.paritygate.dev"
COLUMN = "Serving"
"""A column of `kubectl get mm` that the older definition does not have yet."""
pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("default:the commit before")]


@pytest.fixture(scope="module")
def scene(cluster, store, release, shared_namespace):
    return Scene(cluster, store, shared_namespace)


@pytest.fixture(scope="module")
def slow(store, trained, tmp_path_factory):
    """Address of a model that takes its time wherever it is loaded."""
    model = joblib.load(trained / "tumours" / "tumours.joblib")
    model.surprise_ = Call(time.sleep, 12)
    upload(store, tmp_path_factory.mktemp("models"), {"lasting": model})
    return "s3://models/e2e/lasting.joblib"


@pytest.fixture(scope="module")
def earlier_chart(tmp_path_factory):
    """The chart of the commit before this one, with a definition that lacks a column.

    In a clone without history this commit's own stands in for it, which is told as a warning.
    """
    folder = tmp_path_factory.mktemp("earlier")
    commit = "HEAD^" if _git("rev-parse", "--verify", "HEAD^").returncode == 0 else "HEAD"
    if commit == "HEAD":
        warnings.warn("the commit before is not in this clone: the upgrade is from this commit's chart", stacklevel=1)
    archived = _git("archive", commit, "charts/paritygate")
    assert archived.returncode == 0, archived.stderr.decode()
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archived.stdout, check=True)
    chart = folder / "charts" / "paritygate"
    file = chart / "files" / "crd.yaml"
    definition = yaml.safe_load(file.read_text())
    (version,) = definition["spec"]["versions"]
    version["additionalPrinterColumns"] = [c for c in version["additionalPrinterColumns"] if c["name"] != COLUMN]
    file.write_text(yaml.safe_dump(definition, sort_keys=False))
    return chart


@pytest.fixture(scope="module")
def uninstalled(cluster, images, scene, slow):
    """A namespace with a migration that serves and one that is at work, and no operator any more."""
    with cluster.fresh_namespace() as namespace:
        here = Scene(cluster, scene.store, namespace)
        scene.api.create(scene.store.secret(namespace))
        here.apply("serves", {})
        here.until("serves", "Promoted")
        here.apply("works", {"source": {"uri": slow}})
        here.running("works", "capture")
        cluster.helm("uninstall", "paritygate", "--namespace", releases.NAMESPACE, "--wait")
        try:
            yield here
        finally:
            # Other scenarios need it.
            releases.install(cluster, releases.values(images))


def _git(*arguments):
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)


def columns(cluster):
    """Of `kubectl get mm`."""
    (version,) = cluster.api.get("CustomResourceDefinition", DEFINITION)["spec"]["versions"]
    return [column["name"] for column in version["additionalPrinterColumns"]]


def test_without_the_operator_what_serves_goes_on(cluster, uninstalled):
    # Given the operator was uninstalled. Then the definition and the migrations are still there,
    assert cluster.api.find("CustomResourceDefinition", DEFINITION) is not None
    found = cluster.api.get("ModelMigration", "serves", uninstalled.namespace)
    assert "finalizers" not in found["metadata"]
    # and what was promoted serves, also from a pod that begins only now.
    (revision,) = found["status"]["revisions"]
    uninstalled.kubectl("delete", "pod", "-l", f"paritygate.dev/revision={revision['name']}", "--timeout=60s")
    uninstalled.kubectl("rollout", "status", f"deployment/{revision['name']}", "--timeout=80s")
    with cluster.forwarded(uninstalled.namespace, "svc/serves", 80) as address:
        assert httpx.get(f"http://{address}/v2/models/serves/ready").status_code == httpx.codes.OK


def test_without_the_operator_a_namespace_can_be_deleted(cluster, uninstalled):
    # When somebody deletes the namespace, migrations, Jobs and all, then that ends, with nobody there to help.
    cluster.kubectl("delete", "namespace", uninstalled.namespace, "--timeout=100s", seconds=120)
    assert cluster.api.find("Namespace", uninstalled.namespace) is None


@pytest.mark.usefixtures("uninstalled")
def test_an_upgrade_restarts_nothing(cluster, images, scene, slow, earlier_chart):
    # Given the chart of the commit before, and a migration under it whose source is being asked.
    values = releases.values(images)
    releases.install(cluster, values, chart=str(earlier_chart))
    assert COLUMN not in columns(cluster)
    scene.apply("upgraded", {"source": {"uri": slow}})
    scene.running("upgraded", "capture")
    scene.until("upgraded", "Capturing")
    before = cluster.api.get("ModelMigration", "upgraded", scene.namespace)["status"]["run"]
    jobs = {job["metadata"]["uid"] for job in scene.jobs("upgraded")}
    operators = {pod["metadata"]["uid"] for pod in releases.Release(cluster, "paritygate", releases.NAMESPACE).pods()}
    # When the release is upgraded to the chart of this commit, and helm waits until that is ready.
    upgraded = releases.install(cluster, {**values, "podAnnotations": {"upgraded": "true"}})
    # Then the operator and the definition are the new ones,
    assert COLUMN in columns(cluster)
    now = [pod["metadata"] for pod in upgraded.pods()]
    assert operators.isdisjoint(one["uid"] for one in now if "deletionTimestamp" not in one)
    # and the migration goes on where it was: same run, same Job, first attempts.
    found = scene.until("upgraded", "Promoted")
    assert found["status"]["run"] == before
    convert = [j for j in scene.jobs("upgraded") if j["metadata"]["labels"]["paritygate.dev/job"] == "convert"]
    assert {job["metadata"]["uid"] for job in convert} == jobs
    assert {stage["attempt"] for stage in found["status"]["stages"]} == {1}
    assert condition(found, "ServingAvailable")["status"] == "True"


def test_both_operators_namespaces_and_migrations_are_restricted(cluster, scene, release):
    # Given Pod Security is enforced where the operator runs, and where migrations do.
    for namespace in (release.namespace, scene.namespace):
        labels = cluster.api.get("Namespace", namespace)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        # Then no pod that is there would have been refused, which the API server says when it is asked.
        level = "pod-security.kubernetes.io/enforce=restricted"
        dry = cluster.kubectl("label", "--dry-run=server", "--overwrite", "ns", namespace, level)
        assert "would violate" not in dry.stderr
    assert release.pods()
