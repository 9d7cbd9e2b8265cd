"""From what was written to text: one line a step, and the same text for the same story.

Digests, hashes in names and times differ between runs and say nothing to a reader: each is replaced by a letter or a
number in the order in which it is met.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from string import ascii_uppercase
from typing import Any, Final

from paritygate.cluster.manifests import pods
from stories.recorder import MIGRATION, Seen

Object = Mapping[str, Any]
OPERATOR: Final = "paritygate.dev/operator"
_LEFT_OUT: Final = frozenset({"AGE", "REASON", "MESSAGE"})
_WIDTH: Final = 110
_LETTERS: Final = [*ascii_uppercase, *(f"A{letter}" for letter in ascii_uppercase)]


def told(title: str, story: Iterable[Seen], name: str) -> str:
    """The whole transcript of the migration of this name, without what others do meanwhile."""
    teller, placeholders = _Teller(), _Placeholders(name)
    lines = [title, "=" * len(title)]
    for seen in _collected(_reported(s for s in story if s.kind == "User" or _migration(s) == name)):
        for indent, text in teller.lines(seen):
            lines += _wrapped(" " * indent, placeholders.applied(text))
    return "\n".join(lines) + "\n"


def _reported(story: Iterable[Seen]) -> list[Seen]:
    """The operator's events right after the status that they are of: others may write between the two."""
    found: list[Seen] = []
    last = 0
    for seen in story:
        if seen.kind == "Event":
            found.insert(last, seen)
        else:
            found.append(seen)
        if seen.kind in {MIGRATION, "Event"}:
            last = len(found) if seen.kind == MIGRATION else last + 1
    return found


def _collected(story: Iterable[Seen]) -> list[Seen]:
    """The garbage collector takes children in any order: what goes with its migration is told in the order of birth."""
    found: list[Seen] = []
    gone: list[Seen] = []
    born: dict[tuple[str, str], int] = {}
    collecting = False
    for number, seen in enumerate(story):
        born.setdefault((seen.kind, seen.name), number)
        if seen.kind in {MIGRATION, "User"}:
            found += sorted(gone, key=lambda one: born[one.kind, one.name])
            gone, collecting = [], seen.event == "DELETED"
        if collecting and seen.kind != MIGRATION and seen.event == "DELETED":
            gone.append(seen)
        else:
            found.append(seen)
    return found + sorted(gone, key=lambda one: born[one.kind, one.name])


def _migration(seen: Seen) -> str | None:
    """Name of the migration that an object is, speaks of or belongs to."""
    if seen.kind == MIGRATION:
        return seen.name
    if seen.kind == "Event":
        return seen.item["involvedObject"]["name"] if seen.item.get("reportingComponent") == OPERATOR else None
    labels = seen.item["metadata"].get("labels", {})
    return labels.get(pods.MIGRATION) if labels.get(pods.MANAGED_BY) == pods.MANAGER else None


class _Teller:
    """Says what each write changed, against the writes before: indent and text of each line."""

    def __init__(self) -> None:
        self._row: dict[str, str] = {}
        self._conditions: dict[str, Object] = {}
        self._facts: dict[tuple[str, str], str] = {}

    def lines(self, seen: Seen) -> Iterator[tuple[int, str]]:
        """What a reader should hear of one write."""
        if seen.kind == "User":
            yield from ((0, ""), (0, f"# {seen.text}"))
        elif seen.kind == MIGRATION:
            yield from self._of_migration(seen)
        elif seen.kind == "Event":
            yield from self._of_event(seen)
        else:
            yield from self._of_child(seen)

    def _of_migration(self, seen: Seen) -> Iterator[tuple[int, str]]:
        if seen.event == "DELETED":
            self._row, self._conditions = {}, {}
            yield 2, f"{MIGRATION} {seen.name} is gone"
            return
        row, before = dict(seen.row), self._row
        self._row = row
        if not before:
            yield 2, _columns({key: key for key in row})
        if _columns(row) != _columns(before):
            yield 2, _columns(row)
        if row["MESSAGE"] not in ("", before.get("MESSAGE")):
            yield 10, row["MESSAGE"]
        yield from self._of_conditions(seen.item.get("status", {}).get("conditions", ()))

    def _of_conditions(self, conditions: Iterable[Object]) -> Iterator[tuple[int, str]]:
        now = {c["type"]: c for c in conditions}
        before, self._conditions = self._conditions, now
        for kind in (*now, *(k for k in before if k not in now)):
            then, here = before.get(kind), now.get(kind)
            if here is None:
                yield 6, f"{kind} goes"
            elif _is_news(kind, then, here):
                said = "" if here["message"] == self._row["MESSAGE"] else f": {here['message']}"
                yield 6, f"{kind}={here['status']} ({here['reason']}){said}"

    def _of_event(self, seen: Seen) -> Iterator[tuple[int, str]]:
        event = seen.item
        if seen.event == "ADDED":
            yield 2, f"event  {event['type']} {event['reason']}: {event['message']}"

    def _of_child(self, seen: Seen) -> Iterator[tuple[int, str]]:
        fact = "is deleted" if seen.event == "DELETED" else _FACTS[seen.kind](seen.item)
        if self._facts.get((seen.kind, seen.name)) != fact:
            self._facts[seen.kind, seen.name] = fact
            yield 2, f"{seen.kind} {seen.name} {fact}"


def _is_news(kind: str, before: Object | None, now: Object) -> bool:
    """Ready is printed in the row, which holds the reason and the message of Reconciling too."""
    if kind == "Ready" or (before is None and now["status"] == "Unknown"):
        return False
    if before is None or before["status"] != now["status"]:
        return True
    return kind != "Reconciling" and before["reason"] != now["reason"]


def _job(job: Object) -> str:
    ended = [c["type"] for c in job.get("status", {}).get("conditions", ()) if c["status"] == "True"]
    for kind, fact in (("Complete", "is complete"), ("Failed", "has failed")):
        if kind in ended:
            return fact
    return "is stopped" if job["spec"].get("suspend") else "is started"


def _deployment(deployment: Object) -> str:
    wanted, there = deployment["spec"].get("replicas", 1), deployment.get("status", {}).get("availableReplicas", 0)
    return "is ready" if there >= wanted else "is brought up"


def _service(service: Object) -> str:
    return f"sends traffic to {service['spec'].get('selector', {}).get(pods.REVISION, 'nothing')}"


_FACTS: Final = {"Job": _job, "Deployment": _deployment, "Service": _service}


def _columns(row: Mapping[str, str]) -> str:
    widths = {"NAME": 8, "READY": 8, "PHASE": 20, "SOURCE": 10, "TARGET": 9, "VERDICT": 14}
    return "".join(value.ljust(widths.get(key, 0)) for key, value in row.items() if key not in _LEFT_OUT).rstrip()


def _wrapped(indent: str, text: str) -> list[str]:
    if len(text) + len(indent) <= _WIDTH:
        return [indent + text]
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)


class _Placeholders:
    """Stands in for what differs between runs: the same for the same."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[str, dict[str, int]] = {}

    def applied(self, text: str) -> str:
        """The text without anything that is only of one run."""
        text = re.sub(r"([0-9]/[0-9] nodes are available:).*", r"\1 …", text)  # the scheduler's words
        text = re.sub(r"test-[0-9a-f]{10}", "default", text)
        text = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME", text)
        text = re.sub(r"\b[0-9a-f]{64}\b", lambda m: _LETTERS[self._index("digest", m[0])], text)
        text = re.sub(
            r"-(convert|validate)-([0-9a-f]{8})-([0-9]+)(-[a-z0-9]{5})?",
            lambda m: f"-{m[1]}-{_LETTERS[self._index('job', m[2])].lower()}-{m[3]}{'-pod' if m[4] else ''}",
            text,
        )
        return re.sub(
            rf"\b{self._name}-([0-9a-f]{{8}})\b",
            lambda m: f"{self._name}-r{self._index('revision', m[1]) + 1}",
            text,
        )

    def _index(self, kind: str, value: str) -> int:
        known = self._known.setdefault(kind, {})
        return known.setdefault(value, len(known))
