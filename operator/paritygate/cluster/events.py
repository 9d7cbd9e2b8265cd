"""Events: what people are told of a migration, after the status that it is of is stored, and once.

Two things stand in the way of "once": whether a status was stored is not known where its answer got lost, and an
operator that is killed forgets. So what is due is remembered until it is told, and a replica that sees a migration for
the first time tells once more what it came to lately. Names follow from what is told and since when that holds: what
was told already is then refused by the API server (409), for as long as it keeps events (an hour, as a rule).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from paritygate.api.digests import digest_of
from paritygate.api.status import ModelMigrationStatus
from paritygate.cluster.client import EVENTS, MIGRATIONS, Client, Object
from paritygate.cluster.keys import Key
from paritygate.cluster.status import merge_patch
from paritygate.core.conditions import PlannedEvent, came_to, timestamp
from paritygate.errors import ClusterError, Conflict, Throttled, Unavailable

LATELY: Final = timedelta(minutes=5)
"""For how long telling is tried again. Well below the time for which API servers keep events."""
_TELL_AGAIN: Final = timedelta(seconds=2)
"""After the first failure; doubled after each further one."""
_MOST_DOUBLED: Final = 7
"""Up to 256 s, below LATELY: whoever looks for other reasons fails as well, so failures are not bounded by time."""
_MOST_MEANT: Final = 4


@dataclass(frozen=True)
class _Telling:
    event: PlannedEvent
    at: datetime


@dataclass
class _Debt:
    """What is still to be told of one migration."""

    uid: str
    due: list[_Telling] = field(default_factory=list)
    failures: int = 0
    meant: list[tuple[Mapping[str, Any], list[_Telling]]] = field(default_factory=list)
    """Status writes of which it is not known whether they were carried out, with what is due if they were."""


class Teller:
    """Tells events. For one event loop; never twice at a time for one migration.

    Args:
        client: to tell them with.
        reporter: name of this replica.
        missed: told of events that could not be told, each time.
    """

    def __init__(self, client: Client, reporter: str, missed: Callable[[Key, Exception], None]) -> None:
        self._client, self._reporter, self._missed = client, reporter, missed
        self._debts: dict[Key, _Debt] = {}
        self._known: dict[Key, str] = {}
        """UIDs of the migrations that were seen before."""

    def forget(self, key: Key) -> None:
        """The migration is gone."""
        self._debts.pop(key, None)
        self._known.pop(key, None)

    def again(self, key: Key) -> timedelta | None:
        """When to look again for the sake of what is due; None = nothing is."""
        debt = self._debts.get(key)
        if debt is None or not debt.failures:
            return None
        return _TELL_AGAIN * (1 << min(debt.failures - 1, _MOST_DOUBLED))

    async def catch_up(self, migration: Object, before: ModelMigrationStatus | None, now: datetime) -> None:
        """Tells what is due by what is seen. Call it before the status is written.

        Args:
            migration: as it is seen.
            before: its status; None = there is none that can be read.
            now: the time.
        """
        debt = self._debt(migration)
        key = key_of(migration)
        if self._known.get(key) != debt.uid:
            self._known[key] = debt.uid
            # Whoever led before may have died between the status and the event.
            found = came_to(before.conditions, timestamp(now - LATELY)) if before else ()
            debt.due += [_Telling(event, now) for event in found]
        stored = migration.get("status") or {}
        for status, tellings in debt.meant:
            if not merge_patch(stored, status):
                debt.due += tellings
                debt.meant.clear()
                break
        await self._tell(debt, migration, now)

    def means(
        self, migration: Object, status: ModelMigrationStatus, events: tuple[PlannedEvent, ...], now: datetime
    ) -> None:
        """This status is about to be written, and the events are due once it is."""
        if events:
            debt = self._debt(migration)
            debt.meant = [*debt.meant, (status.to_dict(), [_Telling(event, now) for event in events])][-_MOST_MEANT:]

    async def stored(self, migration: Object, events: tuple[PlannedEvent, ...], now: datetime) -> None:
        """The status is as it was meant last: what else was meant before never came to be."""
        debt = self._debt(migration)
        debt.due += [_Telling(event, now) for event in events]
        debt.meant.clear()
        if events:
            await self._tell(debt, migration, now)
        if not debt.due:
            self._debts.pop(key_of(migration), None)

    def _debt(self, migration: Object) -> _Debt:
        key, uid = key_of(migration), migration["metadata"]["uid"]
        debt = self._debts.get(key)
        if debt is None or debt.uid != uid:
            debt = self._debts[key] = _Debt(uid)
        return debt

    async def _tell(self, debt: _Debt, migration: Object, now: datetime) -> None:
        """An event is for people: that it cannot be told stops nothing, since the condition says the same."""
        key = key_of(migration)
        for telling in list(debt.due):
            try:
                await self._client.create(EVENTS, self._body(migration, telling))
            except Conflict:
                pass
            except (Throttled, Unavailable) as error:
                self._missed(key, error)
                if now - telling.at < LATELY:
                    debt.failures += 1
                    return
            except ClusterError as error:
                self._missed(key, error)
            debt.due.remove(telling)
        debt.failures = 0

    def _body(self, migration: Object, telling: _Telling) -> Object:
        metadata, event = migration["metadata"], telling.event
        return {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": metadata["namespace"], "name": _name_of(migration, event, telling.at)},
            "eventTime": telling.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": event.type,
            "reason": event.reason[:128],
            "note": event.message[:1024],
            "action": "Reconcile",
            "reportingController": "paritygate.dev/operator",
            "reportingInstance": self._reporter[:128],
            "regarding": {
                "apiVersion": MIGRATIONS.api_version,
                "kind": MIGRATIONS.kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }


def key_of(migration: Object) -> Key:
    """By which it is known."""
    return Key(migration["metadata"]["namespace"], migration["metadata"]["name"])


def _name_of(migration: Object, event: PlannedEvent, at: datetime) -> str:
    """The same for the same news. Names sort by the second: kubectl shows events by name."""
    since = event.since or timestamp(at)
    second = int(datetime.fromisoformat(since).timestamp())
    metadata = migration["metadata"]
    known = digest_of([metadata["uid"], event.reason, since]).removeprefix("sha256:")
    return f"{metadata['name']}.{second:08x}{known[:12]}"
