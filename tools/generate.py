"""Writes everything that is generated from the models: the CRD, JSON schemas, the reference of the resource and the
chart's share; and what pages show of the transcripts of tests.

`make generate` runs it; continuous integration runs it and refuses a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import chart
import transcripts

from paritygate.api import crd
from paritygate.report import schema

ROOT = Path(__file__).resolve().parent.parent
HEADER = """# ModelMigration

Generated from the models in `paritygate.api` by `make generate`; change those. A field with `*` is required. The
shortest manifest stands in the [README](../../README.md), and `paritygate crd` prints the CustomResourceDefinition.

A manifest that breaks a rule below is refused with file, line, field, what was found and what would work, every
problem at once, by `paritygate run` as well as by a cluster.
"""


def generated() -> dict[Path, str]:
    """Path relative to the repository → content."""
    schemas = {Path("docs/reference/schemas") / name: content for name, content in schema.documents().items()}
    return {
        Path("crds") / crd.FILE_NAME: crd.crd_yaml(),
        Path("docs/reference/modelmigration.md"): reference(),
        **schemas,
        **chart.files(),
        **transcripts.files(),
    }


def reference() -> str:
    """The reference of the resource in Markdown, one section for each object."""
    properties = crd.crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    lines = [HEADER]
    for field in ("spec", "status"):
        lines += _section(field, properties[field])
    return "\n".join(lines)


def _section(path: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {path}\n"
    yield f"{schema.get('description', '')}\n"
    yield "| field | type | default | meaning |"
    yield "| --- | --- | --- | --- |"
    inner: list[tuple[str, Mapping[str, Any]]] = []
    for name, field in schema.get("properties", {}).items():
        required = "*" if name in schema.get("required", ()) else ""
        default = "" if "default" not in field or isinstance(field["default"], dict) else _default(field["default"])
        yield f"| `{name}`{required} | {_type(field)} | {default} | {field.get('description', '')} |"
        item = field.get("items", field)
        if "properties" in item:
            inner.append((f"{path}.{name}" + ("[]" if "items" in field else ""), item))
    yield ""
    rules = schema.get("x-kubernetes-validations", ())
    if rules:
        yield "Rules:\n"
        yield from (f"- {rule['message']}." for rule in rules)
        yield ""
    for below, item in inner:
        yield from _section(below, item)


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    if "minimum" in field or "maximum" in field:
        bounds = [str(field[bound]) for bound in ("minimum", "maximum") if bound in field]
        return f"{field['type']}, {' to '.join(bounds)}"
    if "pattern" in field:
        return f"{field['type']} like `{field['pattern'].replace('|', chr(92) + '|')}`"
    return str(field["type"])


def _default(value: object) -> str:
    return "none" if value == [] else f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    for path, content in generated().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content, encoding="utf-8")
