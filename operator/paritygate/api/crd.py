"""The CustomResourceDefinition of ModelMigration, generated from the models.

Kubernetes takes a part of JSON Schema only, so every key that pydantic writes is carried over, translated or refused:
nothing is lost in silence. See the structural schema rules in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel

from paritygate.api.base import GROUP, VERSION
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import ModelMigrationStatus

PLURAL: Final = "modelmigrations"
FILE_NAME: Final = f"{GROUP}_{PLURAL}.yaml"

_CARRIED: Final = frozenset(
    {
        "type", "description", "default", "enum", "format", "pattern", "minimum", "maximum", "minLength", "maxLength",
        "minItems", "maxItems", "minProperties", "maxProperties", "required",
        "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
    }
)  # fmt: skip
_TRANSLATED: Final = frozenset({"properties", "items", "additionalProperties", "anyOf", "$ref", "const", "title"})
_NAME_RULES: Final = [
    {
        "rule": "size(self.metadata.name) <= 40",
        "message": "metadata.name must be at most 40 characters, so that the names of Jobs and revisions fit 63",
        "fieldPath": ".metadata.name",
    },
    {
        "rule": "!self.metadata.name.contains('.')",
        "message": "metadata.name must hold no dots, since it becomes the name of a Service",
        "fieldPath": ".metadata.name",
    },
]


class NotStructural(ValueError):
    """A model holds what a CustomResourceDefinition cannot say. Raised when the CRD is generated, never in use."""


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "ModelMigration",
                "listKind": "ModelMigrationList",
                "plural": PLURAL,
                "singular": "modelmigration",
                "shortNames": ["mm"],
                "categories": ["ml"],  # not `all`: `kubectl delete all` must not reach migrations
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": _columns(),
                    "selectableFields": [{"jsonPath": ".spec.source.format"}],
                    "schema": {"openAPIV3Schema": _resource()},
                }
            ],
        },
    }


def crd_yaml() -> str:
    """The CustomResourceDefinition as it is committed and printed."""
    return str(yaml.safe_dump(crd(), sort_keys=False, allow_unicode=True, width=120))


def _columns() -> list[dict[str, Any]]:
    ready = ".status.conditions[?(@.type=='Ready')]"
    columns: list[dict[str, Any]] = [
        {"name": name, "type": "string", "jsonPath": path}
        for name, path in (
            ("Ready", f"{ready}.status"),
            ("Phase", ".status.phase"),
            ("Source", ".spec.source.format"),
            ("Target", ".spec.target.format"),
            ("Verdict", ".status.verdict.result"),
            ("Serving", ".status.revisions[?(@.role=='Stable')].name"),
        )
    ]
    columns.append({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
    columns += [
        {"name": name.capitalize(), "type": "string", "jsonPath": f"{ready}.{name}", "priority": 1}
        for name in ("reason", "message")
    ]
    return columns


def _resource() -> dict[str, Any]:
    status = structural(ModelMigrationStatus)
    # Without it a resource that nobody has looked at would count as done: kstatus compares generations.
    status["default"] = {"observedGeneration": -1}
    return {
        "type": "object",
        "description": "Moves one model, and proves that nothing was lost.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            # A rule may point only at what the schema names.
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": structural(ModelMigrationSpec),
            "status": status,
        },
        "x-kubernetes-validations": _NAME_RULES,
    }


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema as Kubernetes takes it. NotStructural: it cannot be said."""
    return structural_schema(model.model_json_schema(mode="validation", by_alias=True), model.__name__)


def structural_schema(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A JSON schema of pydantic's as Kubernetes takes it; messages call it `name`. NotStructural: it cannot be said."""
    return _node(schema, schema.get("$defs", {}), name, ())


def _node(schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str, seen: tuple[str, ...]) -> dict[str, Any]:
    schema = {key: value for key, value in schema.items() if key != "$defs"}
    if "$ref" in schema:
        name = schema.pop("$ref").rsplit("/", 1)[-1]
        if name in seen:
            raise NotStructural(f"{at}: {name} holds itself, which no structural schema can")
        # What stands beside a reference speaks of this use and wins.
        return _node({**definitions[name], **schema}, definitions, at, (*seen, name))
    if "anyOf" in schema:
        return _node(_optional(schema, at), definitions, at, seen)
    unknown = set(schema) - _CARRIED - _TRANSLATED
    if unknown:
        raise NotStructural(f"{at}: a CustomResourceDefinition has no {', '.join(sorted(unknown))}")
    node = {key: value for key, value in schema.items() if key in _CARRIED}
    if node.get("default") is None:
        node.pop("default", None)
    else:
        node["default"] = _without_none(node["default"])
    if "description" in node:
        node["description"] = " ".join(node["description"].replace("None = ", "absent = ").split())
    if "const" in schema:
        node["enum"] = [schema["const"]]
    node.update(_children(schema, definitions, at, seen))
    if "type" not in node:
        raise NotStructural(f"{at}: has no type")
    return node


def _children(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str, seen: tuple[str, ...]
) -> dict[str, Any]:
    children: dict[str, Any] = {}
    if "properties" in schema:
        children["properties"] = {
            name: _node(inner, definitions, f"{at}.{name}", seen) for name, inner in schema["properties"].items()
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        children["additionalProperties"] = _node(schema["additionalProperties"], definitions, f"{at}{{}}", seen)
    if "items" in schema:
        children["items"] = _node(schema["items"], definitions, f"{at}[]", seen)
    return children


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def _optional(schema: dict[str, Any], at: str) -> dict[str, Any]:
    """`T | None` as T that may be absent."""
    options = [option for option in schema.pop("anyOf") if option != {"type": "null"}]
    if len(options) != 1:
        raise NotStructural(f"{at}: is one of {len(options)} types, and a structural schema has one")
    return {**options[0], **schema}
