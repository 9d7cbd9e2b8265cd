"""What a run goes by: images and what stands for them in digests, whatever the configuration says by now."""

import pytest

from paritygate.api.digests import digest_of, digest_of_bytes
from paritygate.api.status import ModelMigrationStatus
from paritygate.cluster.pinned import pinned
from paritygate.cluster.settings import Settings
from paritygate.core import stages

CONVERTER, SOURCE, RUNTIME = (digest_of(name) for name in ("converter", "source", "runtime"))
INPUTS = {"source": digest_of("model"), "dataset": digest_of("rows")}


def image(name, digit):
    return f"registry.example/{name}@sha256:{digit * 64}"


def configured(digit="1", **fields):
    identity = {"SKLearn": {"converter": CONVERTER, "source": SOURCE}}
    worker, server = {"name": image("worker", digit)}, {"name": image("server", digit)}
    if digit == "1":
        worker["identity"], server["identity"] = identity, RUNTIME
    return Settings.model_validate({"images": {"worker": worker, "server": server}, **fields})


def found(spec, run=None):
    return pinned("churn", spec, run, configured("1"))


@pytest.fixture
def begun(spec):
    """The status of a migration whose run began with the images of configuration 1."""
    run = found(spec())
    recorded = {
        "id": digest_of("run"), "spec": stages.spec_digest(spec()), "recipe": stages.RECIPE,
        "images": dict(run.images()), "identities": dict(run.identities()), "startedAt": "2026-01-01T00:00:00Z",
        "inputs": {**INPUTS, "environment": run.environment, "converter": run.converter, "runtime": run.runtime},
    }  # fmt: skip
    return ModelMigrationStatus.model_validate({"run": recorded})


def test_what_images_say_of_themselves_stands_in_digests(spec):
    run = found(spec())
    assert (run.converter, run.environment, run.runtime) == (CONVERTER, SOURCE, RUNTIME)


def test_a_format_that_the_image_says_nothing_of_goes_by_its_name(spec):
    run = found(spec(source={"format": "ONNX", "uri": "s3://models/churn.onnx"}))
    assert run.converter == run.environment == digest_of_bytes(image("worker", "1").encode())


def test_a_source_in_an_image_of_its_own_goes_by_that_image(spec):
    environment = {"image": {"name": "registry.example/old:1"}}
    run = found(spec(source={"format": "SKLearn", "uri": "s3://models/churn.pkl", "environment": environment}))
    assert run.converter == CONVERTER
    assert run.environment not in {CONVERTER, SOURCE}


def test_a_run_keeps_its_digests_when_the_operator_gets_other_images(spec, begun):
    before, after = pinned("churn", spec(), begun, configured("1")), pinned("churn", spec(), begun, configured("2"))
    assert after == before


def test_a_run_without_identities_keeps_its_digests_too(spec, begun):
    images = {"convert": image("worker", "2"), "candidate": image("server", "2")}
    run = begun.run.model_copy(update={"identities": {}, "images": images})
    status = begun.model_copy(update={"run": run})
    assert pinned("churn", spec(), status, configured("3")) == pinned("churn", spec(), status, configured("2"))


def test_a_new_run_takes_the_images_of_the_configuration(spec, begun):
    changed = spec(runID="again")
    run = pinned("churn", changed, begun, configured("2"))
    assert run.worker == image("worker", "2")
    assert run.converter == digest_of_bytes(run.worker.encode())


@pytest.mark.parametrize(
    "asked",
    [{"settings": {"nodeSelector": {"cpu": "v4"}}}, {"spec": {"serving": {"resources": {"limits": {"cpu": "4"}}}}}],
)
def test_other_resources_or_nodes_than_the_identity_was_told_for_are_another_runtime(spec, asked):
    wanted = spec(**asked.get("spec", {}))
    assert pinned("churn", wanted, None, configured("1", **asked.get("settings", {}))).runtime != RUNTIME
