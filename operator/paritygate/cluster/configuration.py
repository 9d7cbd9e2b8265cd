"""Reads the operator's configuration, and says everything that is wrong with it at once."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from paritygate.api.explain import explained, fields_of, found_as, path
from paritygate.api.located import Located, Problem, Unreadable, documents
from paritygate.api.rules import Place
from paritygate.cluster.settings import Settings, Unchecked, contradictions
from paritygate.errors import InvalidSettings

_NO_IMAGE: Final = {"name": f"unknown@sha256:{'0' * 64}"}


def load_settings(file: Path) -> Settings:
    """The configuration in a file. InvalidSettings: every problem with it, with line and field."""
    document = _document(file)
    problems = list(document.problems)
    settings = None
    try:
        settings = _validated(document.value)
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if detail["type"] != "contradiction"]
        for detail in details:
            place = detail["loc"]
            said = explained(detail, Settings, document.texts.get(place))
            problems.append(Problem(document.line_of(place), place, said))
        problems += _contradictions(document, [detail["loc"] for detail in details])
    if problems or settings is None:
        ordered = sorted(problems, key=lambda problem: (problem.line, path(problem.place)))
        raise InvalidSettings(
            [f"{file}:{p.line}: {path(p.place)}{': ' if p.place else ''}{p.message}" for p in ordered]
        )
    return settings


def _document(file: Path) -> Located:
    try:
        found = list(documents(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings([f"{file}: cannot be read ({error})"]) from error
    except Unreadable as error:
        raise InvalidSettings([f"{file}:{error.line}: {error}"]) from error
    if len(found) != 1 or not isinstance(found[0].value, dict):
        what = found_as(found[0].value) if len(found) == 1 else f"{len(found)} documents"
        raise InvalidSettings([f"{file}: must hold the fields {', '.join(fields_of(Settings))}; found {what}"])
    return found[0]


def _validated(data: Any) -> Settings:
    # Through JSON: lists are then tuples, and nothing else is taken for what it is not.
    return Settings.model_validate_json(json.dumps(data), strict=True)


def _contradictions(document: Located, wrong: list[Place]) -> list[Problem]:
    """Between values that are right in themselves; for the others stand defaults."""
    data = copy.deepcopy(document.value)
    for place in wrong:
        _remove(data, place)
    images = data.get("images")
    known = images if isinstance(images, dict) else {}
    data["images"] = {
        use: one if "name" in (one := known.get(use) or {}) else _NO_IMAGE for use in ("worker", "server")
    }
    try:
        settings = Unchecked.model_validate_json(json.dumps(data), strict=True)
    except ValidationError:
        return []  # a value and what holds it are wrong; said already
    return [
        Problem(document.line_of(one.place), one.place, one.message)
        for one in contradictions(settings)
        if not any(bad == place[: len(bad)] for place in (one.place, *one.others) for bad in wrong)
    ]


def _remove(data: dict[str, Any], place: Place) -> None:
    """Takes a value out, or the list that holds it."""
    fields = list(itertools.takewhile(lambda part: isinstance(part, str), place))
    holder: Any = data
    for field in fields[:-1]:
        holder = holder.get(field) if isinstance(holder, dict) else None
    if isinstance(holder, dict) and fields:
        holder.pop(fields[-1], None)
