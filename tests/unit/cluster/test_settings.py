"""What an administrator may configure, and what is said of a configuration that is wrong."""

from decimal import Decimal

import pytest
import yaml

from paritygate.cluster.configuration import load_settings
from paritygate.cluster.settings import Settings, amount
from paritygate.errors import InvalidSettings

IMAGES = {name: {"name": f"registry.example/{name}@sha256:{'a' * 64}"} for name in ("worker", "server")}


def written(tmp_path, **fields):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({"images": IMAGES, **fields}, sort_keys=False))
    return file


def refused(file):
    """What is said of it, without the file's name."""
    with pytest.raises(InvalidSettings) as caught:
        load_settings(file)
    assert all(line.startswith(f"{file}:") for line in caught.value.problems)
    return [line.removeprefix(f"{file}:") for line in caught.value.problems]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cap": {}}, "cap: unknown field; did you mean 'caps'?"),
        ({"caps": {"parallel": 3}}, "caps.parallel: unknown field; known are activeRuns,"),
        ({"caps": {"activeRuns": "many"}}, "caps.activeRuns: must be a whole number without quotes; found 'many'"),
        ({"caps": {"activeRuns": "20"}}, "caps.activeRuns: must be a whole number without quotes; found '20'"),
        ({"caps": {"workers": 0}}, "caps.workers: must be at least 1; found 0"),
        ({"caps": {"deadline": "2 hours"}}, "caps.deadline: must be a duration, e.g. 300ms, 5m or 1h30m"),
        ({"floors": {"maxFlipRate": 0.01}}, "floors.maxFlipRate: must be text; found the number 0.01; write '0.01'"),
        ({"floors": {"maxFlipRate": "1.5"}}, "floors.maxFlipRate: must be a decimal from 0 to 1"),
        ({"floors": {"minConfidence": "2"}}, "floors.minConfidence: must be a decimal from 0.5 to below 1"),
        ({"floors": {"loosestEquivalence": "numeric"}},
         "floors.loosestEquivalence: found 'numeric'; did you mean Numeric?"),
        ({"floors": {"registries": ["https://registry.example"]}}, "floors.registries[0]: must be a registry"),
        ({"namespaces": ["team-*"]}, "namespaces[0]: must be the name of a namespace"),
        ({"namespaces": "team-a"}, "namespaces: must be a list; found 'team-a'"),
        ({"images": {"worker": {"name": "registry.example/worker:latest"}, "server": IMAGES["server"]}},
         "images.worker.name: must be an image with its digest"),
        ({"images": {"server": IMAGES["server"]}}, "images.worker: is required"),
        ({"defaults": {"scratch": "10 GB"}}, "defaults.scratch: must be a quantity"),
        ({"defaults": {"storage": {}}}, "defaults.storage: "),
    ],
)  # fmt: skip
def test_a_value_that_is_wrong_is_told_with_line_field_and_what_would_work(tmp_path, fields, said):
    (line,) = refused(written(tmp_path, **fields))
    number, told = line.split(": ", 1)
    assert told.startswith(said)
    assert int(number) >= 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"caps": {"activeRuns": 2, "activeRunsPerNamespace": 3}},
         "caps.activeRunsPerNamespace: is 3, above caps.activeRuns, 2; lower it"),
        ({"resync": "29s"}, "resync: is 29s; every listing loads the API server: use at least 30s"),
        ({"caps": {"deadline": "59s"}}, "caps.deadline: is 59s, in which no stage ends"),
        ({"defaults": {"convert": {"requests": {"memory": "5Gi"}, "limits": {"memory": "4000Mi"}}}},
         "defaults.convert.requests.memory: is 5Gi, above the limit, 4000Mi"),
    ],
)  # fmt: skip
def test_values_that_contradict_each_other_are_told(tmp_path, fields, said):
    (line,) = refused(written(tmp_path, **fields))
    assert line.split(": ", 1)[1].startswith(said)


def test_a_cap_below_the_default_of_another_asks_for_no_second_one(tmp_path):
    assert load_settings(written(tmp_path, caps={"activeRuns": 2})).caps.active_runs == 2


def test_values_at_their_bounds_are_taken(tmp_path):
    load_settings(
        written(
            tmp_path, resync="30s",
            caps={"activeRuns": 3, "activeRunsPerNamespace": 3, "deadline": "1m"},
            defaults={"serving": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m"}}},
            floors={"registries": ["registry.example:5000/team", "registry.example"]}, namespaces=["team-a", "9"],
        )
    )  # fmt: skip


def test_every_problem_is_said_at_once_in_the_order_of_the_file(tmp_path):
    caps = {"workers": 0, "activeRuns": 2, "activeRunsPerNamespace": 3}
    found = refused(written(tmp_path, resync="1s", caps=caps, floors={"rtol": "loose"}, namespace=["a"]))
    assert [line.split(": ")[1] for line in found] == [
        "resync", "caps.workers", "caps.activeRunsPerNamespace", "floors.rtol", "namespace",
    ]  # fmt: skip


def test_nothing_is_said_to_contradict_a_value_that_is_wrong_in_itself(tmp_path):
    found = refused(written(tmp_path, caps={"activeRuns": 0, "activeRunsPerNamespace": 5}))
    assert [line.split(": ")[1] for line in found] == ["caps.activeRuns"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold the fields images, floors"),
        ("- a", "must hold the fields images"),
        ("a: 1\n---\nb: 2", "found 2 documents"),
        ("images: {", "1: "),
        ("resync: 10m\nresync: 5m", "2: resync: stands twice, first on line 1"),
    ],
    ids=["empty", "a list", "two documents", "no YAML", "a field that stands twice"],
)
def test_a_file_that_is_no_configuration_is_told_as_such(tmp_path, text, said):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert any(said in line for line in refused(file))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidSettings, match=r"gone\.yaml: cannot be read"):
        load_settings(tmp_path / "gone.yaml")
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSettings, match=r"binary\.yaml: cannot be read"):
        load_settings(file)


def test_a_configuration_in_code_is_held_to_the_same():
    with pytest.raises(ValueError, match=r"above caps\.activeRuns, 2; lower it; is 1s"):
        Settings.model_validate(
            {"images": IMAGES, "resync": "1s", "caps": {"activeRuns": 2, "activeRunsPerNamespace": 3}}
        )


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        ("1", 1),
        ("500m", "0.5"),
        ("1.5k", 1500),
        ("2M", 2_000_000),
        ("1Ki", 1024),
        ("1.5Gi", 1_610_612_736),
        ("1E", 10**18),
    ],
)
def test_a_quantity_is_a_number(quantity, number):
    assert amount(quantity) == Decimal(number)
