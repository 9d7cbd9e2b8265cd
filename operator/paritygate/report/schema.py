"""JSON Schemas of what ParityGate publishes. `python -m paritygate.report.schema DIR` writes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from paritygate.api.artifacts import CandidateManifest, CaptureManifest
from paritygate.api.base import VERSION, Model
from paritygate.api.report import EvidenceSummary, ParityReport

PUBLISHED: Final[tuple[type[Model], ...]] = (CandidateManifest, CaptureManifest, EvidenceSummary, ParityReport)


class _Schema(GenerateJsonSchema):
    """Draft 2020-12, where a number may also be one of the words that stand for NaN and the infinities."""

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["NaN", "Infinity", "-Infinity"]}]}


def schema_of(model: type[Model]) -> dict[str, object]:
    """The JSON Schema that every JSON document of `model` fulfils."""
    body = model.model_json_schema(by_alias=True, schema_generator=_Schema)
    return {
        "$schema": _Schema.schema_dialect,
        "$id": f"urn:paritygate:{VERSION}:{model.__name__}",
        **body,
    }


def documents() -> dict[str, str]:
    """File name → content of each published schema."""
    return {
        f"{model.__name__}.json": json.dumps(schema_of(model), indent=2, ensure_ascii=False) + "\n"
        for model in PUBLISHED
    }


def main(arguments: list[str]) -> int:
    """Writes the schemas to the folder that is named; exit status 64 when none is."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m paritygate.report.schema DIR\n")
        return 64
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in documents().items():
        (folder / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
