"""What we have been told of the cluster: migrations and their children, by the migration that they belong to.

Events may come late, twice or not at all. An older version never replaces a newer one, the answers to our own writes
are taken in at once, and a listing (`replace`) removes what was deleted without an event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from paritygate.cluster.keys import Key
from paritygate.cluster.manifests.pods import MIGRATION
from paritygate.cluster.slim import slim

Object = dict[str, Any]


_MOST_GONE: Final = 10_000
"""UIDs of deleted objects that are remembered; far more than are deleted while an answer or a listing is under way."""


@dataclass(frozen=True)
class Snapshot:
    """One migration and everything that carries its name, at one moment. Objects must not be changed."""

    key: Key
    migration: Object | None
    children: Mapping[str, tuple[Object, ...]]
    """By kind, in the order of their names."""

    def of(self, kind: str) -> tuple[Object, ...]:
        """Children of one kind."""
        return self.children.get(kind, ())


def owner_uid(item: Object) -> str | None:
    """UID of the controller that owns an object; None = nobody does."""
    references = item["metadata"].get("ownerReferences", ())
    return next((r["uid"] for r in references if r.get("controller")), None)


class Cache:
    """Objects by the key of their migration. For one event loop."""

    def __init__(self) -> None:
        self._migrations: dict[Key, Object] = {}
        self._children: dict[Key, dict[tuple[str, str], Object]] = defaultdict(dict)
        self._unended: dict[Key, set[str]] = defaultdict(set)
        self._gone: dict[str, int] = {}
        """UIDs that were deleted -> the version by then, the latest last.

        An answer or a listing may come later than the word of deletion. So may the object itself, newer: losing our
        label is a deletion to a watch that selects by it, and getting the label back an addition.
        """

    def apply(self, event: str | None, item: Object) -> Key | None:
        """Takes in an event ('DELETED', anything else = it exists).

        The key to look at; None = it is none of ours, or nothing that matters is other than it was.
        """
        key = _key_of(item)
        if key is None:
            return None
        if event == "DELETED":
            self._bury(item)
            changed = self._remove(key, item)
        else:
            changed = self._put(key, slim(item))
        return key if changed else None

    def replace(self, kind: str, items: Iterable[Object], began: int) -> set[Key]:
        """Takes a complete listing of one kind, of `slim` objects; keys of which something came, changed or went.

        `began`: the newest resourceVersion known when the listing began. What is newer than that and not listed was
        made since, and stays.
        """
        touched: set[Key] = set()
        listed: set[str] = set()
        for item in items:
            listed.add(item["metadata"]["uid"])
            key = _key_of(item)
            if key is not None and self._put(key, item):
                touched.add(key)
        for key, known in self._known(kind):
            metadata = known["metadata"]
            if metadata["uid"] not in listed and _version_of(known) <= began:
                self._remove(key, known)
                touched.add(key)
        return touched

    def newest(self) -> int:
        """Newest resourceVersion seen; 0 = nothing was."""
        versions = [_version_of(item) for item in self._migrations.values()]
        versions += [_version_of(item) for children in self._children.values() for item in children.values()]
        return max(versions, default=0)

    def snapshot(self, key: Key) -> Snapshot:
        """Everything of one migration."""
        found: dict[str, list[Object]] = defaultdict(list)
        for (kind, _), item in sorted(self._children.get(key, {}).items()):
            found[kind].append(item)
        return Snapshot(key, self._migrations.get(key), {kind: tuple(items) for kind, items in found.items()})

    def keys(self) -> list[Key]:
        """Every migration that is there, the oldest first."""
        return sorted(self._migrations, key=lambda k: (self._migrations[k]["metadata"].get("creationTimestamp", ""), k))

    def observed(self, key: Key) -> bool:
        """Whether the status speaks of the manifest as it is; of what is gone nothing needs to be said."""
        there = self._migrations.get(key)
        if there is None:
            return True
        return bool((there.get("status") or {}).get("observedGeneration") == there["metadata"].get("generation"))

    def migrations(self) -> list[Object]:
        """Every migration that is there."""
        return list(self._migrations.values())

    def active(self) -> AbstractSet[Key]:
        """Migrations with a Job that has not ended; changes with the cache."""
        return self._unended.keys()

    def _known(self, kind: str) -> list[tuple[Key, Object]]:
        if kind == "ModelMigration":
            return list(self._migrations.items())
        return [(key, item) for key, all_ in self._children.items() for (k, _), item in list(all_.items()) if k == kind]

    def _bury(self, item: Object) -> None:
        uid = item["metadata"]["uid"]
        self._gone.pop(uid, None)
        self._gone[uid] = _version_of(item)
        if len(self._gone) > _MOST_GONE:
            del self._gone[next(iter(self._gone))]

    def _put(self, key: Key, item: Object) -> bool:
        """Whether anything but its version is other than before."""
        if _version_of(item) <= self._gone.get(item["metadata"]["uid"], -1):
            return False
        there = self._find(key, item)
        same = there is not None and there["metadata"]["uid"] == item["metadata"]["uid"]
        if same and there is not None and _version_of(there) >= _version_of(item):
            return False
        if not same and there is not None and _version_of(there) > _version_of(item):
            return False  # a late word of an object that was replaced under its name
        if item["kind"] == "ModelMigration":
            self._migrations[key] = item
        else:
            self._children[key][item["kind"], item["metadata"]["name"]] = item
        if item["kind"] == "Job":
            self._count(key, item["metadata"]["name"], unended=not ended(item))
        return there is None or _without_version(there) != _without_version(item)

    def _remove(self, key: Key, item: Object) -> bool:
        """Whether it was there."""
        there = self._find(key, item)
        if there is None or there["metadata"]["uid"] != item["metadata"]["uid"]:
            return False
        if item["kind"] == "ModelMigration":
            del self._migrations[key]
            return True
        del self._children[key][item["kind"], item["metadata"]["name"]]
        if not self._children[key]:
            del self._children[key]
        if item["kind"] == "Job":
            self._count(key, item["metadata"]["name"], unended=False)
        return True

    def _count(self, key: Key, job: str, *, unended: bool) -> None:
        if unended:
            self._unended[key].add(job)
            return
        self._unended[key].discard(job)
        if not self._unended[key]:
            del self._unended[key]

    def _find(self, key: Key, item: Object) -> Object | None:
        if item["kind"] == "ModelMigration":
            return self._migrations.get(key)
        return self._children.get(key, {}).get((item["kind"], item["metadata"]["name"]))


def ended(job: Object) -> bool:
    """Whether a Job has ended, in whatever way, or was stopped by us."""
    done = any(
        c["type"] in {"Complete", "Failed"} and c["status"] == "True"
        for c in job.get("status", {}).get("conditions", ())
    )
    return done or bool(job.get("spec", {}).get("suspend") and CANCELLED in job["metadata"].get("annotations", {}))


CANCELLED = "paritygate.dev/cancelled"
"""Annotation of a Job that we stopped: why, as a StageFailure."""


def _key_of(item: Object) -> Key | None:
    metadata = item["metadata"]
    if item["kind"] == "ModelMigration":
        return Key(metadata["namespace"], metadata["name"])
    name = metadata.get("labels", {}).get(MIGRATION)
    return Key(metadata["namespace"], name) if name else None


def _without_version(item: Object) -> Object:
    metadata = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    return {**item, "metadata": metadata}


def _version_of(item: Object) -> int:
    """Versions of Kubernetes ≥ 1.35 are numbers that grow, as all before were in fact (KEP-5504)."""
    text = item["metadata"].get("resourceVersion", "0")
    return int(text) if text.isdigit() else 0
