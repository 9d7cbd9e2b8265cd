"""The chart and what is made of it, installed with real helm and kubectl on a real API server, as people do it."""

import json
import re
import shutil
import subprocess

import kustomize
import pytest
import yaml

from control_plane.chart import CHART, DIGEST, PINNED, of_kind, render
from control_plane.client import Refused
from control_plane.fixtures import tool
from control_plane.migrations import migration
from paritygate.cluster.configuration import load_settings
from paritygate.errors import InvalidSettings

ROOT = CHART.parents[1]
DEPLOY = ROOT / kustomize.DEPLOY
SYSTEM = kustomize.NAMESPACE


def run(name, *arguments, given=None):
    """What it printed. AssertionError: it failed."""
    ended = subprocess.run(
        [tool(name), *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def built(folder):
    return list(yaml.safe_load_all(run("kubectl", "kustomize", str(folder))))


@pytest.fixture
def overlay(tmp_path):
    """A kustomization as an administrator would write it: own images and an own configuration."""
    shutil.copytree(DEPLOY, tmp_path / "paritygate" / "deploy")
    shutil.copytree(ROOT / "crds", tmp_path / "paritygate" / "crds")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "operator.yaml").write_text(
        (DEPLOY / "operator/configuration/operator.yaml").read_text().replace("sha256:…", DIGEST)
    )
    image = {"name": "paritygate/operator", "newName": "registry.example/paritygate/operator", "digest": DIGEST}
    generator = {"name": "paritygate", "namespace": SYSTEM, "behavior": "replace", "files": ["operator.yaml"]}
    found = {"resources": ["../paritygate/deploy"], "images": [image], "configMapGenerator": [generator]}
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(found))
    return mine


def test_what_kustomize_installs_is_what_the_chart_renders_now():
    tool("helm")
    for path, content in kustomize.files().items():
        assert (ROOT / path).read_text(encoding="utf-8") == content, f"{path}: run `make generate`"
    stated = {path for path in DEPLOY.rglob("*") if path.is_file()}
    assert stated == {ROOT / path for path in kustomize.files() if path.is_relative_to(kustomize.DEPLOY)}


def test_kustomize_and_helm_make_the_same_objects(overlay):
    ours = PINNED | {"images": {**PINNED["images"], "operator": {
        "repository": "registry.example/paritygate/operator", "digest": DIGEST}}}  # fmt: skip
    by_helm = {(one["kind"], one["metadata"]["name"]): one for one in render(ours, SYSTEM, "paritygate")}
    by_kustomize = {(one["kind"], one["metadata"]["name"].rsplit("-", 1)[0] if one["kind"] == "ConfigMap" else
                     one["metadata"]["name"]): one for one in built(overlay)}  # fmt: skip
    assert set(by_kustomize) - set(by_helm) == {("Namespace", SYSTEM)}
    assert set(by_helm) <= set(by_kustomize)
    for key, one in by_helm.items():
        there = by_kustomize[key]
        if one["kind"] == "ConfigMap":
            assert yaml.safe_load(there["data"]["operator.yaml"]) == yaml.safe_load(one["data"]["operator.yaml"])
        elif one["kind"] == "Deployment":
            (volume,) = (v for v in there["spec"]["template"]["spec"]["volumes"] if v["name"] == "config")
            assert volume["configMap"]["name"] == by_kustomize["ConfigMap", "paritygate"]["metadata"]["name"]
            volume["configMap"]["name"] = "paritygate"
            del one["spec"]["template"]["metadata"]["annotations"]
            assert there["spec"] == one["spec"]
        else:
            said = {field: value for field, value in one.items() if field != "metadata"}
            assert {field: value for field, value in there.items() if field != "metadata"} == said, key


def test_without_digests_the_operator_says_what_is_missing(tmp_path):
    (config,) = of_kind(built(DEPLOY), "ConfigMap")
    file = tmp_path / "operator.yaml"
    file.write_text(config["data"]["operator.yaml"])
    with pytest.raises(InvalidSettings, match=r"operator.yaml:5: images.worker.name"):
        load_settings(file)


def test_kubectl_applies_it_twice_and_the_second_time_changes_nothing(own_control_plane, overlay):
    command = ["--kubeconfig", str(own_control_plane.kubeconfig()), "apply", "-k", str(overlay)]
    first = run("kubectl", *command).splitlines()
    assert all(line.endswith(" created") for line in first)
    with own_control_plane.client() as api:
        before = there(api, overlay)
    run("kubectl", *command)
    dry = run("kubectl", *command, "--dry-run=server", "--server-side", "--force-conflicts", "--validate=strict")
    assert len(dry.splitlines()) == len(first)
    with own_control_plane.client() as api:
        api.until("Deployment", "paritygate", SYSTEM, lambda d: d.get("status", {}).get("replicas") == 2)
        # Whatever kubectl says: for some kinds it always claims to have changed something.
        assert there(api, overlay) == before
    assert len(before) == len(first)


def there(api, folder):
    """What tells a change of the objects that were applied: the generation, or the version of kinds that have none."""
    api.until_served("ModelMigration")
    found = {}
    for one in built(folder):
        kind, name = one["kind"], one["metadata"]["name"]
        metadata = api.get(kind, name, one["metadata"].get("namespace"))["metadata"]
        found[kind, name] = metadata.get("generation") or metadata["resourceVersion"]
    return found


def older(tmp_path):
    """The chart as it was before a field came to the definition."""
    folder = tmp_path / "older"
    shutil.copytree(CHART, folder)
    file = folder / "files" / "crd.yaml"
    definition = yaml.safe_load(file.read_text())
    for version in definition["spec"]["versions"]:
        spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        spec["jobs"]["properties"].pop("runtimeClassName")
    file.write_text(yaml.safe_dump(definition))
    return folder


def test_an_upgrade_brings_the_definition_up_to_date_and_an_uninstall_leaves_it(own_control_plane, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(json.dumps(PINNED))
    access = ["--kubeconfig", str(own_control_plane.kubeconfig()), "--namespace", "operators"]
    given = ["--values", str(values), *access]
    said = run("helm", "install", "pg", str(older(tmp_path)), "--create-namespace", *given)
    told = migration("default", jobs={"runtimeClassName": "gvisor"})
    with own_control_plane.client() as api:
        api.until_served("ModelMigration")
        with pytest.raises(Refused, match="unknown field"):
            api.create(told, fieldValidation="Strict", dryRun="All")
        kept = api.create(migration("default", "kept"))
        manifest = yaml.safe_load(re.search(r"<<MANIFEST\n(.*)\n *MANIFEST", said, re.DOTALL)[1])
        manifest["metadata"]["namespace"] = "default"
        api.create(manifest, fieldValidation="Strict", dryRun="All")
        run("helm", "upgrade", "pg", str(CHART), *given)
        api.until("CustomResourceDefinition", "modelmigrations.paritygate.dev", None, knows_runtime_classes)
        api.create(told, fieldValidation="Strict", dryRun="All")
        run("helm", "uninstall", "pg", *access)
        assert api.get("ModelMigration", "kept", "default")["metadata"]["uid"] == kept["metadata"]["uid"]
        assert api.list("ValidatingAdmissionPolicyBinding") == []
        # And it can be installed again over what was left.
        run("helm", "install", "pg", str(CHART), *given)


def knows_runtime_classes(definition):
    spec = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return "runtimeClassName" in spec["jobs"]["properties"]
