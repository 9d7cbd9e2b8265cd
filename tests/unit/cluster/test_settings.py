"""What an administrator may configure, and what that forbids."""

import pytest
import yaml

from paritygate.cluster.settings import load_settings, violations
from paritygate.errors import InvalidSettings

IMAGES = {name: {"name": f"registry.example/{name}@sha256:{'a' * 64}"} for name in ("worker", "server")}


def written(tmp_path, **fields):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"images": IMAGES, **fields}))
    return file


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"images": {**IMAGES, "worker": {"name": "registry.example/worker:latest"}}}, "images.worker.name"),
        ({"caps": {"activeRuns": 2, "activeRunsPerNamespace": 3}}, "above caps.activeRuns, 2; lower it"),
        ({"resync": "1s"}, "use at least 30s"),
        ({"cap": {}}, "cap: Extra inputs are not permitted"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused_at_start(tmp_path, fields, said):
    with pytest.raises(InvalidSettings, match=said):
        load_settings(written(tmp_path, **fields))


def test_every_problem_is_said_at_once(tmp_path):
    with pytest.raises(InvalidSettings) as caught:
        load_settings(written(tmp_path, resync=5, caps={"workers": 0}))
    assert len(caught.value.problems) == 2


def test_a_configuration_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidSettings, match=r"gone\.yaml: cannot be read"):
        load_settings(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("floors", "spec_fields", "said"),
    [
        ({"floors": {"loosestEquivalence": "Numeric"}}, {"target": {"format": "ONNX", "equivalence": "Decision"}},
         "Numeric or stricter"),
        ({"floors": {"maxFlipRate": "0.001"}}, {}, "maxFlipRate is 0.01; this cluster takes at most 0.001"),
        ({"floors": {"minConfidence": "0.99"}}, {}, "at least 0.99"),
        ({"caps": {"deadline": "30m"}}, {}, "spec.jobs.deadline is 1h; at most 30m"),
        ({"caps": {"retries": 0}}, {}, "spec.jobs.retries is 2; at most 0"),
        ({"caps": {"replicas": 2}}, {"serving": {"replicas": 3}}, "3 replicas; at most 2"),
        ({"floors": {"registries": ["registry.example/"]}},
         {"source": {"format": "SKLearn", "uri": "m", "environment": {"image": {"name": "evil/x"}}}},
         "registry.example/"),
        ({}, {"source": {"format": "SKLearn", "uri": "m", "environment": {"virtualenv": {"requirements": ["numpy"]}}}},
         "in a cluster state environment.image"),
    ],
)  # fmt: skip
def test_a_manifest_can_tighten_and_not_loosen(settings, spec, floors, spec_fields, said):
    (found,) = violations(spec(**spec_fields), settings(**floors))
    assert said in found


def test_a_manifest_within_the_floors_is_taken(settings, spec):
    assert violations(spec(), settings()) == []
