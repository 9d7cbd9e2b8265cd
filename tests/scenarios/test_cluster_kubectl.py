"""Migrations as people see them: with a real kubectl."""

import json

import pytest

from control_plane.client import condition
from control_plane.migrations import is_ready, migration
from paritygate.api.report import Verdict


@pytest.fixture
def apply(kubectl, namespace):
    """Applies a manifest as a user would, and says what kubectl answered."""

    def run(**spec):
        return kubectl("apply", "-f", "-", given=json.dumps(migration(namespace, **spec)))

    return run


def wait(kubectl, kind, seconds=40):
    return kubectl("wait", f"--for=condition={kind}", f"--timeout={seconds}s", "mm/churn")


@pytest.mark.usefixtures("scene")
def test_waiting_for_ready_ends_when_the_model_serves(kubectl, apply, api, namespace):
    assert apply().stdout == "modelmigration.paritygate.dev/churn created\n"
    assert wait(kubectl, "Ready").returncode == 0
    heads, values = kubectl("get", "mm").stdout.splitlines()
    assert heads.split() == ["NAME", "READY", "PHASE", "SOURCE", "TARGET", "VERDICT", "SERVING", "AGE"]
    (deployment,) = api.list("Deployment", namespace)
    serving = deployment["metadata"]["name"]
    assert values.split()[:-1] == ["churn", "True", "Promoted", "SKLearn", "ONNX", "Passed", serving]


def test_waiting_for_stalled_ends_when_parity_fails_and_ready_is_not_taken_from_the_model_before(kubectl, apply, scene):
    apply()
    assert wait(kubectl, "Ready").returncode == 0
    scene.verdict = Verdict.FAILED
    assert "configured" in apply(source={"format": "SKLearn", "uri": "s3://models/worse.pkl"}).stdout
    assert wait(kubectl, "Stalled").returncode == 0
    ready = wait(kubectl, "Ready", seconds=1)
    assert ready.returncode != 0
    assert "timed out" in ready.stderr


@pytest.mark.usefixtures("migrations")
def test_ready_is_not_waited_for_in_vain_before_anybody_has_seen_the_manifest(kubectl, apply):
    """Nobody must take a migration without operator for one that is finished."""
    apply()
    assert wait(kubectl, "Ready", seconds=1).returncode != 0


@pytest.mark.usefixtures("scene")
def test_describe_tells_what_happened(kubectl, apply):
    apply()
    assert wait(kubectl, "Ready").returncode == 0
    told = kubectl("describe", "mm", "churn").stdout
    events = told[told.index("Events:") :]
    reasons = [line.split()[1] for line in events.splitlines()[3:]]
    assert reasons == ["Promoted"]
    assert "4 checks passed" in events
    assert "ParityPassed" in told[: told.index("Events:")]
    assert "checks passed for candidate 'plain'" in events


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"source": {"format": "SKLearn", "url": "s3://m.pkl"}}, 'unknown field "spec.source.url"'),
        ({"source": {"format": "Sklearn", "uri": "s3://m.pkl"}}, 'Unsupported value: "Sklearn"'),
        ({"serving": {"replicas": 1, "autoscaling": {"maxReplicas": 3}}}, "replicas"),
    ],
)
@pytest.mark.usefixtures("migrations")
def test_a_manifest_with_a_mistake_is_refused_with_its_field(apply, spec, told):
    answer = apply(**spec)
    assert answer.returncode != 0
    assert told in answer.stderr


def test_nothing_holds_up_the_deletion_of_a_migration_or_its_namespace_without_operator(
    api, migrations, namespace, kubectl, apply
):
    apply(deletionPolicy="Delete")
    assert "finalizers" not in api.get("ModelMigration", "churn", namespace)["metadata"]
    assert kubectl("delete", "mm", "churn", "--timeout=10s").returncode == 0
    apply()
    migrations.delete("Namespace", namespace)
    migrations.until_gone("ModelMigration", "churn", namespace)


@pytest.mark.usefixtures("scene")
def test_the_reason_and_the_message_are_a_wide_listing_away(kubectl, apply, api, namespace, scene):
    scene.verdict = Verdict.FAILED
    apply()
    found = api.until("ModelMigration", "churn", namespace, is_ready("ParityFailed"))
    told = kubectl("get", "mm", "-o", "wide").stdout
    assert condition(found, "Stalled")["message"][:40] in told
