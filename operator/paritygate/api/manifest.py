"""Reads ModelMigration manifests and reports everything that is wrong with one, with file, line and field, at once."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import BaseModel, ValidationError

from paritygate.api.base import API_VERSION, Model
from paritygate.api.explain import explained, found_as, model_of, path
from paritygate.api.located import Located, Problem, Unreadable, did_you_mean, documents
from paritygate.api.migration import ModelMigration
from paritygate.api.rules import Partial, Place, broken_places
from paritygate.errors import InvalidManifest

KIND: Final = "ModelMigration"
MAX_BYTES: Final = 1 << 20
"""Kubernetes takes no larger objects."""
_SHORTEST: Final = f"{{apiVersion: {API_VERSION}, kind: {KIND}, metadata: {{name: …}}, spec: {{…}}}}"
_FOREIGN: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x80", "a pickle"),
    (b"PAR1", "a parquet table"),
    (b"PK\x03\x04", "a ZIP archive, such as torch.save and numpy.savez write"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x08", "an ONNX model"),
)

_FOREIGN_NAMES: Final = {".ipynb": "a notebook", ".py": "a Python script", ".csv": "a CSV table"}


def load_manifest(file: Path) -> ModelMigration:
    """The migration that a file describes.

    Raises:
        InvalidManifest: the file is missing or no manifest, or something in it is wrong; all problems are named.
    """
    name = str(file)
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        _refuse(name, f"does not exist{_instead(file)}")
    except IsADirectoryError:
        _refuse(name, f"is a folder; name the manifest in it{_manifests(file)}")
    except OSError as error:
        _refuse(name, f"cannot be read: {error.strerror}")
    return parse_manifest(_decoded(content, name), name)


def parse_manifest(text: str, name: str) -> ModelMigration:
    """The migration that a text describes; `name` stands for the file in messages. InvalidManifest: as above."""
    try:
        document = _migration(list(documents(text)), name)
    except Unreadable as error:
        raise InvalidManifest([f"{name}:{error.line}: {error}"]) from error
    data = {field: value for field, value in document.value.items() if field != "status"}
    problems = [*document.problems, *_head(document, data), *_nulls(data, document)]
    migration = None
    try:
        migration = ModelMigration.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        empty = {problem.place for problem in problems}
        problems += (problem for problem in _wrong_values(error, document) if problem.place not in empty)
    problems += _broken_rules(document, data, {problem.place for problem in problems})
    if problems or migration is None:
        raise InvalidManifest(_lines(name, problems))
    return migration


def _decoded(content: bytes, name: str) -> str:
    foreign = next((what for magic, what in _FOREIGN if content.startswith(magic)), None)
    foreign = foreign or _FOREIGN_NAMES.get(Path(name).suffix.lower())
    if foreign:
        _refuse(name, f"is {foreign}, not a manifest; for a model and its dataset: paritygate run MODEL DATASET")
    if len(content) > MAX_BYTES:
        _refuse(name, f"is larger than {MAX_BYTES >> 20} MiB, so it is not a manifest")
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidManifest([f"{name}:{line}: is not UTF-8 text; a manifest is YAML or JSON in UTF-8"]) from error


def _migration(found: list[Located], name: str) -> Located:
    """The one document that is a migration, by its kind or, where it stands alone, by its position."""
    if not found:
        _refuse(name, f"is empty; a manifest is {_SHORTEST}")
    alone = found[0] if len(found) == 1 else None
    if alone and not isinstance(alone.value, dict):
        raise InvalidManifest([f"{name}:{alone.line}: a manifest is {_SHORTEST}; found {found_as(alone.value)}"])
    objects = [document for document in found if isinstance(document.value, dict)]
    if alone and _may_be_migration(alone.value):
        return alone
    chosen = [document for document in objects if document.value.get("kind") == KIND]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise InvalidManifest(
            [
                f"{name}:{document.line}: the file holds {len(chosen)} {KIND}s, and one run takes one; split the file"
                for document in chosen[1:]
            ]
        )
    raise InvalidManifest(
        [
            f"{name}:{document.line_of(('kind',))}: kind: found {found_as(document.value.get('kind'))}; "
            f"ParityGate takes kind {KIND}"
            for document in objects
        ]
        or [f"{name}:{found[0].line}: a manifest is {_SHORTEST}"]
    )


def _may_be_migration(value: Mapping[str, Any]) -> bool:
    kind = value.get("kind", KIND)
    return isinstance(kind, str) and (did_you_mean(kind, [KIND]) is not None or "spec" not in value)


def _head(document: Located, data: dict[str, Any]) -> Iterator[Problem]:
    """What is wrong with apiVersion and kind, which are then taken for right."""
    for field, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        if field not in data:
            yield Problem(document.line, (field,), f"is required; write {field}: {wanted}")
        elif data[field] != wanted:
            found = found_as(data[field])
            yield Problem(document.line_of((field,)), (field,), f"found {found}; write {field}: {wanted}")
        data[field] = wanted


def _nulls(data: dict[str, Any], document: Located) -> Iterator[Problem]:
    """Fields of the spec that are there without a value: pydantic takes them for absent, Kubernetes does not."""

    def walk(value: object, place: Place) -> Iterator[Place]:
        if value is None:
            yield place
        elif isinstance(value, dict):
            for field, inner in value.items():
                yield from walk(inner, (*place, field))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from walk(inner, (*place, index))

    for place in walk(data.get("spec", {}), ("spec",)):
        yield Problem(document.line_of(place), place, "has no value; give it one or remove the field")


def _wrong_values(error: ValidationError, document: Located) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        if detail["type"] != "rule":  # rules are judged on their own, and all of them
            place = detail["loc"]
            yield Problem(document.line_of(place), place, explained(detail, ModelMigration, document.texts.get(place)))


def _broken_rules(document: Located, data: dict[str, Any], wrong: set[Place]) -> Iterator[Problem]:
    def within(model: type[BaseModel], value: object, place: Place) -> Iterator[Problem]:
        if not isinstance(value, dict) or place in wrong:
            return
        for name, field in model.model_fields.items():
            inner, at = model_of(field.annotation), (*place, field.alias or name)
            held = value.get(field.alias or name)
            if inner:
                for index, item in enumerate(held) if isinstance(held, list) else ((None, held),):
                    yield from within(inner, item, at if index is None else (*at, index))
        if issubclass(model, Model):
            stated = _partial(value, place, wrong)
            for rule in model.RULES:
                for inside in broken_places(rule, stated):
                    related = "".join(_said(document, data, (*place, *other)) for other in rule.related)
                    where = (*place, *inside)
                    yield Problem(document.line_of(where), where, rule.message + related)

    yield from within(ModelMigration, data, ())


def _partial(value: Any, place: Place, wrong: set[Place]) -> Any:
    """The value with everything marked that is wrong in itself or lacks a required field."""
    if isinstance(value, list):
        return [_partial(item, (*place, index), wrong) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    inner = {field: _partial(item, (*place, field), wrong) for field, item in value.items()}
    spoilt = {field for field, item in value.items() if _is_spoilt(item, (*place, field), wrong)}
    absent = {str(bad[-1]) for bad in wrong if bad[:-1] == place and bad[-1:] and bad[-1] not in value}
    return Partial(inner, frozenset(spoilt | absent))


def _is_spoilt(value: object, place: Place, wrong: set[Place]) -> bool:
    items = len(value) if isinstance(value, list) else 0
    return place in wrong or any((*place, index) in wrong for index in range(items))


def _said(document: Located, data: Mapping[str, Any], place: Place) -> str:
    value: Any = data
    for part in place:
        value = value[part]
    shown = found_as(value) if not isinstance(value, dict | list) else "stated"
    return f" ({path(place)} is {shown} on line {document.line_of(place)})"


def _lines(name: str, problems: list[Problem]) -> list[str]:
    ordered = sorted(problems, key=lambda problem: (problem.line, path(problem.place)))
    lines = [f"{name}:{p.line}: {path(p.place)}{': ' if p.place else ''}{p.message}" for p in ordered]
    return list(dict.fromkeys(lines))


def _instead(file: Path) -> str:
    folder = file.parent
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    close = did_you_mean(file.name, names)
    if close:
        return f"; did you mean {folder / close}?"
    return "" if folder.is_dir() else f", nor does the folder {folder}"


def _manifests(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix in {".yaml", ".yml"})
    return f": {', '.join(names)}" if names else ""


def _refuse(name: str, message: str) -> NoReturn:
    raise InvalidManifest([f"{name}: {message}"])
