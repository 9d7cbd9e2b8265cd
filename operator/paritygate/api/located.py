"""YAML (and so JSON) as plain data that knows on which line each value stands.

Values are read as Kubernetes reads them, so that a manifest means the same here and in a cluster: `1e-4` is a number,
`2024-01-01` is text. What a manifest must not hold is reported with its line: keys that stand twice, nulls, tags.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from paritygate.api.rules import Place

MAX_VALUES: Final = 20_000
"""Values of one document, counted after aliases are followed: more is an alias bomb, not a manifest."""
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_NUMBER: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CLOSE: Final = 0.65


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a document."""

    line: int
    """From 1."""
    place: Place
    message: str


@dataclass
class Located:
    """A document as plain data, with the lines of its values and what was wrong with it as YAML."""

    line: int
    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    """Place → line of the key or list item that the value belongs to."""
    texts: dict[Place, str] = field(default_factory=dict)
    """Place → a scalar as it is written."""
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, place: Place) -> int:
        """The line of a value, or of what should hold it."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, self.line)


class Unreadable(ValueError):
    """The text is not YAML. `line`: from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def documents(text: str) -> Iterator[Located]:
    """The documents of a text, without empty ones. Unreadable: it is not YAML."""
    if text.lstrip().startswith("{"):
        text = text.replace("\t", " ")  # JSON may be indented with tabs, and has none inside strings
    try:
        for node in yaml.compose_all(text, Loader=yaml.SafeLoader):
            if node is not None and not _is_empty(node):
                yield _Reader(Located(node.start_mark.line + 1)).read(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"holds the character {chr(error.character)!r}, which no YAML may hold") from error
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error) from error
    except RecursionError as error:
        raise Unreadable(1, "is nested too deeply") from error


def did_you_mean(found: str, possible: list[str]) -> str | None:
    """The likeliest of `possible`, where one is likely."""
    lowered = {name.lower(): name for name in possible}
    close = difflib.get_close_matches(found.lower(), list(lowered), n=1, cutoff=_CLOSE)
    return lowered[close[0]] if close else None


def _unreadable(error: yaml.MarkedYAMLError) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    what = error.problem or error.context or "cannot be read"
    if "'\\t'" in what:
        what = "a tab stands where YAML wants spaces; indent with spaces"
    elif error.context and error.problem:
        what = f"{error.problem} ({error.context})"
    return Unreadable(mark.line + 1 if mark else 1, f"not YAML: {what}")


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _TAG + "null"


class _Reader:
    def __init__(self, document: Located) -> None:
        self.document = document
        self.open: list[Node] = []
        self.count = 0

    def read(self, node: Node) -> Located:
        self.document.value = self._value(node, ())
        return self.document

    def _problem(self, node: Node, place: Place, message: str) -> None:
        self.document.problems.append(Problem(node.start_mark.line + 1, place, message))

    def _value(self, node: Node, place: Place) -> Any:
        self.count += 1
        if node in self.open:
            raise Unreadable(node.start_mark.line + 1, "holds an alias (*) of something that it is itself a part of")
        if self.count > MAX_VALUES:
            raise Unreadable(1, f"holds more than {MAX_VALUES} values")
        if isinstance(node, ScalarNode):
            self.document.texts[place] = node.value
            return self._scalar(node, place)
        if node.tag not in {_TAG + "map", _TAG + "seq"}:
            self._problem(node, place, f"tag {node.tag.replace(_TAG, '!!')} is not taken; write plain values")
        self.open.append(node)
        try:
            if isinstance(node, SequenceNode):
                return [self._item(child, (*place, index)) for index, child in enumerate(node.value)]
            return self._mapping(node, place) if isinstance(node, MappingNode) else None
        finally:
            self.open.pop()

    def _item(self, node: Node, place: Place) -> Any:
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        return self._value(node, place)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                for source in child.value if isinstance(child, SequenceNode) else [child]:
                    value = self._value(source, place)
                    merged = {**(value if isinstance(value, dict) else {}), **merged}
                continue
            name = key.value if isinstance(key, ScalarNode) else None
            if name is None or key.tag != _TAG + "str":
                self._problem(key, place, f"a field's name must be text; put {name or 'it'} in quotes")
                continue
            inner = (*place, name)
            if name in values:
                first = self.document.lines[inner]
                self._problem(key, inner, f"stands twice, first on line {first}; remove one of the two")
                continue
            self.document.lines[inner] = key.start_mark.line + 1
            values[name] = self._value(child, inner)
        return {**merged, **values}

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind == "str" and node.style is None and _NUMBER.fullmatch(node.value):
            return _number(node.value)  # PyYAML reads 1e-4 as text, Kubernetes as a number
        if kind in {"str", "timestamp"}:
            return node.value
        if kind == "bool":
            return node.value.lower() in {"yes", "true", "on"}
        if kind in {"int", "float"}:
            return _number(node.value)
        if kind != "null":
            self._problem(node, place, f"tag {node.tag.replace(_TAG, '!!')} is not taken; write plain values")
        return None


def _number(text: str) -> int | float | str:
    """The number; text that only YAML 1.1 takes for one, such as 1:30, stays text as in Kubernetes."""
    plain = text.replace("_", "").lower()
    try:
        return int(plain, 8 if re.fullmatch(r"[-+]?0[0-7]+", plain) else 0)
    except ValueError:
        pass
    try:
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text
