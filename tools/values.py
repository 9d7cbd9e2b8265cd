"""The reference of the chart's values, from the comments in values.yaml and the schema of what it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

_KEY: Final = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z]+):(?P<rest>.*)$")
_TRAILING: Final = re.compile(r"  # (?P<said>.*)$")
_STEP: Final = 2
"""Spaces of one level."""
HEADER: Final = """# Values of the Helm chart

Generated from `charts/paritygate/values.yaml` by `make generate`; change that. A value that is not listed is refused,
with its place. The shortest values that work:

```yaml
images:
  operator: {repository: registry.example/paritygate/operator, digest: "sha256:…"}
  worker: {repository: registry.example/paritygate/worker, digest: "sha256:…"}
  server: {repository: registry.example/paritygate/server, digest: "sha256:…"}
```
"""
_LINKS: Final = {
    "operator-configuration.md": "[Operator configuration](operator-configuration.md)",
    "admission.md": "[Admission](../explanation/admission.md)",
}


@dataclass(frozen=True)
class Value:
    """One key of the file."""

    path: tuple[str, ...]
    said: str
    """Its comment: the lines before it, and the one beside it."""
    default: Any


def read(text: str) -> list[Value]:
    """Every key that the file states or has a comment on, in order."""
    defaults, path, before, found = yaml.safe_load(text), [], [], []  # type: Any, list[str], list[str], list[Value]
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# "):
            before.append(stripped.removeprefix("# "))
            continue
        key = _KEY.match(line)
        if key is None:
            before = []  # a comment with an empty line below it speaks of no key
            continue
        beside = _TRAILING.search(key["rest"])
        path = [*path[: len(key["indent"]) // _STEP], key["key"]]
        found.append(
            Value(tuple(path), " ".join([*before, *([beside["said"]] if beside else [])]), _at(defaults, path))
        )
        before = []
    return found


def _at(value: Any, path: list[str]) -> Any:
    for key in path:
        value = value[key]
    return value


def reference(text: str, schema: Mapping[str, Any]) -> str:
    """The page."""
    known = [(one, _schema(schema, one.path)) for one in read(text)]
    top = [(one, rules) for one, rules in known if len(one.path) == 1 and "properties" not in rules]
    top += [(one, rules) for one, rules in known if one.path == ("config",)]
    lines = [HEADER, "## At the top\n", *_table(top)]
    for group, rules in known:
        if len(group.path) == 1 and "properties" in rules and group.path != ("config",):
            lines += [f"## {group.path[0]}\n"]
            lines += [f"{_sentence(group.said)}\n"] if group.said else []
            inside = [(one, its) for one, its in known if len(one.path) > 1 and one.path[0] == group.path[0]]
            lines += _table([(one, its) for one, its in inside if "properties" not in its or one.said])
    return "\n".join(lines).rstrip() + "\n"


def _schema(schema: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """What may stand at a path; what lies in an object of Kubernetes' own shape has no schema here."""
    for key in path:
        schema = schema.get("properties", {}).get(key, {})
    return schema


def _table(rows: list[tuple[Value, Mapping[str, Any]]]) -> Iterator[str]:
    yield "| value | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for one, rules in rows:
        if not rules:
            continue
        group = "properties" in rules and one.path != ("config",)
        default = "" if group else f"`{json.dumps(one.default, ensure_ascii=False)}`"
        yield f"| `{'.'.join(one.path)}` | {_type(rules)} | {default} | {_sentence(one.said)} |"
    yield ""


def _type(rules: Mapping[str, Any]) -> str:
    if "enum" in rules:
        return ", ".join(f"`{value}`" for value in rules["enum"])
    if rules.get("type") == "array":
        return f"list of {_type(rules['items'])}"
    if "minimum" in rules:
        return f"{rules['type']}, {rules['minimum']} to {rules['maximum']}"
    return {"object": "object", "string": "string", "boolean": "boolean"}[rules["type"]]


def _sentence(said: str) -> str:
    found = said[:1].upper() + said[1:]
    for page, link in _LINKS.items():
        found = found.replace(page, link)
    return found.replace("|", "\\|").rstrip(".")
