"""The CustomResourceDefinition: what Kubernetes demands of it, and that it agrees with the models."""

from pathlib import Path
from typing import Annotated

import cel
import jsonschema
import pytest
import yaml
from pydantic import Field

from paritygate.api import crd
from paritygate.api.base import Model
from paritygate.api.located import documents

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).parent / "manifests"
OUTSIDE_THE_SCHEMA = {"wrong-head", "no-head"}
"""A cluster refuses these before it looks at the schema."""
VERSION = crd.crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema, path=""):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


def defaulted(schema, value):
    """The value as the API server completes it before it judges."""
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name not in value and "default" in inner:
                value[name] = inner["default"]
            if name in value:
                value[name] = defaulted(inner, value[name])
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    return value


def broken(schema, value):
    """What a cluster would refuse: unknown fields (as kubectl asks for), list types and rules."""
    if isinstance(value, dict):
        known = schema.get("properties", {})
        if known:
            yield from (f"unknown {name}" for name in value if name not in known)
        for rule in schema.get("x-kubernetes-validations", ()):
            if cel.evaluate(rule["rule"], {"self": value}) is not True:
                yield rule["message"]
        for name, inner in value.items():
            if name in known:
                yield from broken(known[name], inner)
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        found = [tuple(item[key] for key in keys) for item in value] if keys else value
        if schema.get("x-kubernetes-list-type") and len({str(item) for item in found}) < len(found):
            yield "duplicates"
        for item in value:
            yield from broken(schema["items"], item)


def refused(file):
    (document,) = (d for d in documents(file.read_text()) if d.value.get("kind") == "ModelMigration")
    value = {key: item for key, item in document.value.items() if key != "status"}
    value = defaulted({"properties": {"spec": SCHEMA["properties"]["spec"]}}, value)
    wrong = [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(value)]
    if wrong:
        return wrong
    names = SCHEMA["x-kubernetes-validations"]
    said = [rule["message"] for rule in names if cel.evaluate(rule["rule"], {"self": value}) is not True]
    return said + list(broken(SCHEMA["properties"]["spec"], value["spec"]))


@pytest.mark.parametrize("file", sorted((CORPUS / "accepted").glob("*.yaml")), ids=lambda file: file.stem)
def test_accepts_what_the_models_accept(file):
    assert refused(file) == []


@pytest.mark.parametrize(
    "file",
    sorted(file for file in (CORPUS / "refused").glob("*.yaml") if file.stem not in OUTSIDE_THE_SCHEMA),
    ids=lambda file: file.stem,
)
def test_refuses_what_the_models_refuse(file):
    assert refused(file)


def test_is_committed_as_it_is_generated():
    assert (ROOT / "crds" / crd.FILE_NAME).read_text(encoding="utf-8") == crd.crd_yaml()


def test_survives_yaml():
    assert yaml.safe_load(crd.crd_yaml()) == crd.crd()


def test_every_node_has_one_type_and_is_described_or_plain():
    for path, node in nodes(SCHEMA):
        assert isinstance(node["type"], str), path


def test_everything_that_a_user_writes_is_bounded():
    for path, node in nodes(SCHEMA["properties"]["spec"], "spec"):
        if node["type"] == "string" and "enum" not in node:
            assert "maxLength" in node, path
        if node["type"] == "array":
            assert "maxItems" in node, path
        if node["type"] == "integer":
            assert {"minimum", "maximum"} <= set(node), path


def test_lists_in_the_status_are_bounded():
    for path, node in nodes(SCHEMA["properties"]["status"], "status"):
        assert node["type"] != "array" or "maxItems" in node, path


def test_no_float_in_the_spec():
    assert not [path for path, node in nodes(SCHEMA["properties"]["spec"]) if node["type"] == "number"]


def test_keys_of_map_lists_are_required():
    for path, node in nodes(SCHEMA):
        for key in node.get("x-kubernetes-list-map-keys", ()):
            assert key in node["items"]["required"], path


def test_defaults_fulfil_the_schema():
    for path, node in nodes(SCHEMA):
        if "default" in node:
            assert not list(jsonschema.Draft7Validator(node).iter_errors(node["default"])), path


def test_an_unseen_resource_does_not_count_as_done():
    assert SCHEMA["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_columns_for_people():
    wide = [column["name"] for column in VERSION["additionalPrinterColumns"] if column.get("priority")]
    narrow = [column["name"] for column in VERSION["additionalPrinterColumns"] if not column.get("priority")]
    assert narrow == ["Ready", "Phase", "Source", "Target", "Verdict", "Serving", "Age"]
    assert wide == ["Reason", "Message"]


def test_delete_all_does_not_reach_migrations():
    names = crd.crd()["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["mm"], ["ml"])


class Tree(Model):
    children: tuple["Tree", ...] = ()


class Several(Model):
    value: int | str


class Anything(Model):
    value: object


class Multiple(Model):
    value: Annotated[int, Field(multiple_of=3)]


@pytest.mark.parametrize(
    ("model", "why"),
    [(Tree, "holds itself"), (Several, "one of 2 types"), (Anything, "has no type"), (Multiple, "has no multipleOf")],
)
def test_refuses_models_that_kubernetes_cannot_hold(model, why):
    with pytest.raises(crd.NotStructural, match=why):
        crd.structural(model)
