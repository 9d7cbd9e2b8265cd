"""Says in a sentence what is wrong with a value of a manifest, what was found, and what would work."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel, StringConstraints
from pydantic_core import ErrorDetails

from paritygate.api.base import (
    DecimalString,
    Digest,
    DurationString,
    MigrationName,
    Namespace,
    PinnedImage,
    ProbabilityString,
    Registry,
)
from paritygate.api.located import did_you_mean
from paritygate.api.rules import Place
from paritygate.api.spec import (
    ENVIRONMENT_VARIABLE,
    OBJECT_STORE,
    Callable_,
    Confidence,
    ImageName,
    Method,
    ObjectName,
    PythonVersion,
    Quantity,
    Requirement,
    RunID,
    ServiceName,
)

_LONGEST: Final = 60
_MAX_NAME: Final = 40


def _pattern(annotated: Any) -> str:
    constraints = next(item for item in get_args(annotated) if isinstance(item, StringConstraints))
    return str(constraints.pattern)


WANTED: Final[Mapping[str, str]] = {
    _pattern(DecimalString): "a decimal of at least 0 in quotes, e.g. '1e-4' or '0.005'",
    _pattern(ProbabilityString): "a decimal from 0 to 1 in quotes, e.g. '0.01'",
    _pattern(DurationString): "a duration, e.g. 300ms, 5m or 1h30m",
    _pattern(Digest): "sha256: and 64 hexadecimal digits in lower case",
    _pattern(MigrationName): f"at most {_MAX_NAME} lower-case letters, digits and hyphens",
    _pattern(Callable_): "module:callable, e.g. model:build",
    _pattern(Method): "the name of one method, e.g. predict_proba",
    _pattern(PythonVersion): "a Python version in quotes, e.g. '3.11'",
    _pattern(Requirement): "a package with its version, e.g. 'scikit-learn==1.2.2'",
    _pattern(Confidence): "a decimal from 0.5 to below 1 in quotes, e.g. '0.95'",
    _pattern(ObjectName): "the name of an object in the cluster: lower-case letters, digits, hyphens and dots",
    _pattern(ServiceName): "lower-case letters, digits and hyphens, beginning with a letter",
    _pattern(ImageName): "an image without spaces, e.g. registry.example/model:1.2",
    _pattern(Quantity): "a quantity, e.g. 500m or 2Gi",
    _pattern(PinnedImage): "an image with its digest, e.g. registry.example/worker@sha256:… with 64 hexadecimal digits",
    _pattern(Namespace): "the name of a namespace: at most 63 lower-case letters, digits and hyphens",
    _pattern(Registry): "a registry, with or without a folder, e.g. registry.example/team",
    ENVIRONMENT_VARIABLE: "the name of an environment variable, e.g. LANG",
    OBJECT_STORE: "a bucket with a prefix, e.g. s3://bucket/prefix",
    _pattern(RunID): "letters, digits, dots, underscores and hyphens",
}
"""Pattern → what it asks for."""

EXAMPLES: Final[Mapping[str, str]] = {
    "metadata": "metadata: {name: churn}",
    "spec": "spec: {source: …, target: …, validation: …}",
    "source": "source: {format: SKLearn, uri: churn.pkl}",
    "target": "target: {format: ONNX}",
    "validation": "validation: {dataset: {uri: holdout.parquet, label: churned}}",
    "dataset": "dataset: {uri: holdout.parquet, label: churned}",
    "uri": "uri: churn.pkl",
    "name": "name: churn",
    "column": "column: country",
    "shape": "shape: [-1, 30]",
    "inputs": "inputs: [{name: features, datatype: FP32, shape: [-1, 30]}]",
    "outputs": "outputs: [{name: probabilities}]",
    "virtualenv": "virtualenv: {requirements: ['scikit-learn==1.2.2', 'numpy<2']}",
    "requirements": "requirements: ['scikit-learn==1.2.2', 'numpy<2']",
    "environment": "environment: {virtualenv: {requirements: ['scikit-learn==1.2.2']}}",
    "capture": "capture: {uri: answers}",
    "candidate": "candidate: {uri: exported.onnx, equivalence: Numeric}",
    "slices": "slices: [{column: country}]",
    "metrics": "metrics: [{name: accuracy}]",
    "numeric": "numeric: {rtol: '1e-4', atol: '1e-5'}",
    "decisions": "decisions: {maxFlipRate: '0.01'}",
    "thresholds": "thresholds: ['0.5']",
    "jobs": "jobs: {deadline: 1h}",
    "image": "image: {name: 'registry.example/model:1.2', command: [python3]}",
    "storage": "storage: {claimName: models}",
    "serving": "serving: {replicas: 2}",
}
"""Field → how it may look."""


def path(place: Place) -> str:
    """A place as people write it: spec.metrics[0].name."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a list or optionally; None = it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((found for found in map(model_of, arguments) if found), None)


def model_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model that stands at a place; None = a scalar, or nothing known."""
    for part in place:
        if isinstance(part, int):
            continue
        field = next((f for name, f in model.model_fields.items() if (f.alias or name) == part), None)
        inner = model_of(field.annotation) if field else None
        if inner is None:
            return None
        model = inner
    return model


def fields_of(model: type[BaseModel]) -> list[str]:
    """The names of a model's fields, as manifests write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def explained(error: ErrorDetails, root: type[BaseModel], written: str | None) -> str:
    """What pydantic found wrong, for the author of a manifest. `written`: the scalar as it stands in the file."""
    place, kind, found = error["loc"], error["type"], error["input"]
    last = next((str(part) for part in reversed(place) if isinstance(part, str)), "")
    if kind == "extra_forbidden":
        return _unknown(model_at(root, place[:-1]), last)
    if kind == "missing":
        return _missing(root, place, last)
    if kind == "string_type":
        return _not_text(found, written, last)
    return (
        _out_of_range(kind, error.get("ctx", {}), last, found)
        or _wrong_type(kind, root, place, last, found)
        or f"{error['msg']}; found {found_as(found)}"
    )


def _out_of_range(kind: str, context: Mapping[str, Any], last: str, found: object) -> str | None:
    said = None
    match kind:
        case "enum" | "literal_error":
            said = _choice(found, [item.strip().strip("'") for item in re.split(r", | or ", context["expected"])])
        case "string_pattern_mismatch":
            name = context["pattern"] == _pattern(MigrationName)
            suggestion = f", e.g. {_slug(str(found))}" if name else ""
            said = f"must be {WANTED.get(context['pattern'], context['pattern'])}{suggestion}; found {found_as(found)}"
        case "string_too_short" | "too_short":
            said = f"is empty; {_such_as(last)}"
        case "string_too_long":
            said = f"is longer than {context['max_length']} characters; found {len(str(found))}"
        case "too_long":
            said = f"holds {context['actual_length']} items; at most {context['max_length']} are taken"
        case "greater_than_equal":
            said = f"must be at least {context['ge']}; found {found}"
        case "less_than_equal":
            said = f"must be at most {context['le']}; found {found}"
    return said


def found_as(value: object) -> str:
    """A value for a message: its kind, and itself where it is short."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{value}'" if len(value) <= _LONGEST else f"'{value[:_LONGEST]}…'"
        case list() | tuple():
            return "a list" if value else "an empty list"
    return "a mapping of fields"


def _unknown(model: type[BaseModel] | None, name: str) -> str:
    possible = fields_of(model) if model else []
    close = did_you_mean(name, possible)
    return f"unknown field; did you mean '{close}'?" if close else f"unknown field; known are {', '.join(possible)}"


def _missing(root: type[BaseModel], place: Place, last: str) -> str:
    model = model_at(root, place[:-1])
    field = next((f for name, f in model.model_fields.items() if (f.alias or name) == last), None) if model else None
    if field and isinstance(field.annotation, type) and issubclass(field.annotation, Enum):
        return f"is required; one of {', '.join(item.value for item in field.annotation)}"
    return f"is required; {_such_as(last)}"


def _choice(found: object, possible: list[str]) -> str:
    close = did_you_mean(found, possible) if isinstance(found, str) else None
    if close:
        return f"found {found_as(found)}; did you mean {close}?"
    return f"found {found_as(found)}; must be {'one of ' if len(possible) > 1 else ''}{', '.join(possible)}"


def _not_text(found: object, written: str | None, last: str) -> str:
    if isinstance(found, int | float) and written is not None:
        return f"must be text; found {found_as(found).replace(str(found), written)}; write '{written}' in quotes"
    return f"must be text; found {found_as(found)}; {_such_as(last)}"


def _wrong_type(kind: str, root: type[BaseModel], place: Place, last: str, found: object) -> str | None:
    if kind in {"model_type", "model_attributes_type", "dict_type"}:
        model = model_at(root, place)
        known = f"the fields {', '.join(fields_of(model))}" if model else "fields"
        example = f"; {_such_as(last)}" if place and isinstance(place[-1], str) else ""
        return f"must hold {known}; found {found_as(found)}{example}"
    if kind in {"tuple_type", "list_type"}:
        return f"must be a list; found {found_as(found)}; {_such_as(last)}"
    if kind in {"int_type", "int_parsing", "int_from_float"}:
        return f"must be a whole number without quotes; found {found_as(found)}"
    return f"must be true or false; found {found_as(found)}" if kind in {"bool_type", "bool_parsing"} else None


def _such_as(field: str) -> str:
    return f"e.g. {EXAMPLES[field]}" if field in EXAMPLES else "give it a value or remove the field"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:_MAX_NAME].strip("-") or "churn"
