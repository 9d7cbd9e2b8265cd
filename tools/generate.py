"""Writes everything that is generated from the models: the CRD, JSON schemas, the reference of the resource and the
chart's share; what `kubectl apply -k` installs; and what pages show of the transcripts of tests.

`make generate` runs it; continuous integration runs it and refuses a difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import chart
import kustomize
import transcripts

from paritygate.api import crd
from paritygate.cluster.settings import Settings
from paritygate.report import schema

ROOT = Path(__file__).resolve().parent.parent
HEADER = """# ModelMigration

Generated from the models in `paritygate.api` by `make generate`; change those. A field with `*` is required. The
shortest manifest stands in the [README](../../README.md), and `paritygate crd` prints the CustomResourceDefinition.

A manifest that breaks a rule below is refused with file, line, field, what was found and what would work, every
problem at once, by `paritygate run` as well as by a cluster.
"""

CONFIGURATION = """# Operator configuration

Generated from the models in `paritygate.cluster.settings` by `make generate`; change those. `paritygate operator
--config FILE` reads it once, at the start; the Helm chart writes it from `images`, `namespaces` and `config`. A field
with `*` is required.

The shortest file:

```yaml
images:
  worker: {name: "registry.example/paritygate/worker@sha256:…"}
  server: {name: "registry.example/paritygate/server@sha256:…"}
```

A file that is wrong ends the operator with exit status 64 and every problem at once: line, field, what was found and
what would work. Beside what the tables say it must hold that:

- `caps.activeRunsPerNamespace`, where it is stated, is at most `caps.activeRuns`;
- `caps.deadline` is at least 1m and `resync` at least 30s;
- no request under `defaults` is above its limit.

**Floors** and **caps** bound what manifests may state: a manifest can tighten and not loosen. One that does is
`Stalled` with reason `InvalidSpec`, and the message names each field, what it states and what this cluster takes;
what serves stays. Where the default of a field is looser than the floor, manifests must state it.

Beyond `activeRuns` and `activeRunsPerNamespace` migrations wait, the oldest first, with reason `Queued`; the message
names the cap, and how many asked before. To have Jobs wait in a queue of Kueue, state `jobs.queueName` in the
manifest.

Images are pinned by a migration when it starts. A new version of the operator, or other images here, change nothing
for migrations that run or serve until their spec, or `runID`, changes. `defaults.serving` and `nodeSelector` are part
of what is judged: changing them has models judged anew.

`defaults.storage` is [`spec.storage`](modelmigration.md#specstorage) of a manifest that states none; absent = every
manifest must state its own.
"""


def generated() -> dict[Path, str]:
    """Path relative to the repository → content, of all that Python alone can make."""
    schemas = {Path("docs/reference/schemas") / name: content for name, content in schema.documents().items()}
    return {
        Path("crds") / crd.FILE_NAME: crd.crd_yaml(),
        Path("docs/reference/modelmigration.md"): reference(),
        Path("docs/reference/operator-configuration.md"): configuration(),
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


def configuration() -> str:
    """The reference of the operator's configuration in Markdown."""
    schema = crd.structural_schema(_without_names(Settings.model_json_schema(by_alias=True)), "Settings")
    schema["properties"]["defaults"]["properties"].pop("storage")  # a manifest's own, described there
    for field in schema["properties"]["defaults"]["properties"].values():
        if isinstance(field.get("default"), dict):
            field["description"] += f" Default: `{json.dumps(field['default'])}`."
    return "\n".join([CONFIGURATION, *_section("The file", schema, "")]).rstrip() + "\n"


def _without_names(schema: Any) -> Any:
    """Without `propertyNames`, which no structural schema has: descriptions say what keys are."""
    if isinstance(schema, dict):
        return {key: _without_names(value) for key, value in schema.items() if key != "propertyNames"}
    return [_without_names(one) for one in schema] if isinstance(schema, list) else schema


def _section(title: str, schema: Mapping[str, Any], path: str | None = None) -> Iterator[str]:
    """`path`: how its fields are named from the top; None = like the title."""
    yield f"## {title}\n"
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
            inner.append(
                (
                    ".".join(filter(None, (title if path is None else path, name)))
                    + ("[]" if "items" in field else ""),
                    item,
                )
            )
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
    for path, content in {**generated(), **kustomize.files()}.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(content, encoding="utf-8")
