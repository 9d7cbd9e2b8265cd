"""Observe, plan, apply, write the status once, then tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from paritygate.api.status import ModelMigrationStatus, StageState
from paritygate.cluster import status as writing
from paritygate.cluster.apply import Applier
from paritygate.cluster.attempts import SETTLING, settles
from paritygate.cluster.cache import Cache, Object, Snapshot
from paritygate.cluster.client import Client
from paritygate.cluster.events import Teller, key_of
from paritygate.cluster.keys import Key
from paritygate.cluster.observe import observe, status_of
from paritygate.cluster.scene import Scene
from paritygate.cluster.settings import Settings
from paritygate.cluster.slots import Slots
from paritygate.core.actions import StartStage
from paritygate.core.conditions import PlannedEvent, transition_events
from paritygate.core.observed import Observed
from paritygate.core.plan import Plan, plan
from paritygate.errors import ConfigurationError, Forbidden, InvalidManifest, Refused, RightsMissing

_LOOK_AGAIN: Final = 60.0
"""Seconds after which what an administrator may have mended is tried again: quotas, policies, names."""
_NEXT_STEP: Final = timedelta(seconds=0.2)
"""After which is looked again where one step was carried out and another is due."""


class Told(Protocol):
    """Hears of what happens, for logs and metrics."""

    def planned(self, key: Key, observed: Observed, made: Plan) -> None:
        """A plan was made."""

    def missed(self, key: Key, error: Exception) -> None:
        """An event could not be told this time."""

    def left(self, key: Key) -> None:
        """The migration is gone; nothing need be remembered of it."""


class Reconciler:
    """Brings one migration a step further; everything it knows is in the cluster."""

    def __init__(  # noqa: PLR0913, PLR0917 - each is a part of its own
        self, client: Client, cache: Cache, settings: Settings, slots: Slots, now: Callable[[], datetime], told: Told,
        reporter: str,
    ) -> None:  # fmt: skip
        self._client, self._cache, self._settings, self._slots = client, cache, settings, slots
        self._now, self._told = now, told
        self._applier = Applier(client, cache)
        self._teller = Teller(client, reporter, told.missed)
        self._look_again = _LOOK_AGAIN

    async def __call__(self, key: Key) -> float | None:
        """Seconds after which to look again, or None. ClusterErrors pass, and are retried by the queue."""
        snapshot = self._cache.snapshot(key)
        migration = snapshot.migration
        if migration is None or "deletionTimestamp" in migration["metadata"]:
            self._slots.release(key)
            if migration is None:
                self._told.left(key)
                self._teller.forget(key)
            return None
        now = self._now()
        try:
            scene, made = self._planned(snapshot, now)
        except InvalidManifest as error:
            self._slots.release(key)
            return await self._refuse(migration, status_of(migration), "InvalidSpec", str(error), now)
        self._told.planned(key, scene.observed, made)
        try:
            for action in made.actions:
                await self._applier.carry_out(action, scene)
        except (ConfigurationError, Forbidden, Refused) as error:
            self._slots.release(key)
            known = status_of(migration) if _starts(made) else made.status
            return await self._refuse(migration, known, *_said(error), now)
        times = [made.requeue_at]
        if made.actions:
            # What was done is in the cache by now: one write tells of it and of how things stand with it.
            snapshot = replace(self._cache.snapshot(key), migration=migration)
            _, after = self._planned(snapshot, now)
            made = after if not after.actions else made
            times = [after.requeue_at, now + _NEXT_STEP if after.actions else None]
        await self._write(migration, scene.observed.status, made.status, made.events, now)
        times.append(now + SETTLING if settles(snapshot, now) else None)
        again = self._teller.again(key)
        times.append(now + again if again else None)
        soonest = min((time for time in times if time is not None), default=None)
        return None if soonest is None else max(0.0, (soonest - self._now()) / timedelta(seconds=1))

    def _planned(self, snapshot: Snapshot, now: datetime) -> tuple[Scene, Plan]:
        queued = self._slots.ask(snapshot.key, self._cache.active())
        observed = observe(snapshot, self._settings, now, queued)
        made = plan(observed)
        works = _starts(made) or any(a.state is StageState.RUNNING for a in observed.attempts)
        if queued is None and not works:
            self._slots.release(snapshot.key)
        return Scene(snapshot, observed, self._settings), made

    async def _refuse(
        self, migration: Object, known: ModelMigrationStatus | None, reason: str, message: str, now: datetime
    ) -> float:
        """`known`: what is to stay in the status beside the refusal."""
        before = status_of(migration)
        after = writing.stalled(known, reason, message, migration["metadata"]["generation"], now)
        events = transition_events(before.conditions if before else (), after.conditions)
        await self._write(migration, before, after, events, now)
        again = self._teller.again(key_of(migration))
        return self._look_again if again is None else min(self._look_again, again.total_seconds())

    async def _write(
        self, migration: Object, before: ModelMigrationStatus | None, status: ModelMigrationStatus,
        events: tuple[PlannedEvent, ...], now: datetime,
    ) -> None:  # fmt: skip
        await self._teller.catch_up(migration, before, now)
        self._teller.means(migration, status, events, now)
        stored = await writing.write_status(self._client, migration, status)
        if stored is not None:
            self._cache.apply(None, stored)
        await self._teller.stored(stored or migration, events, now)


def _starts(made: Plan) -> bool:
    """Whether the planned status speaks of an attempt that begins only now."""
    return any(isinstance(a, StartStage) for a in made.actions)


def _said(error: ConfigurationError | Forbidden | Refused) -> tuple[str, str]:
    """Reason and message. Quotas, policies and missing rights are nobody's to see but for the status."""
    if isinstance(error, ConfigurationError):
        return error.reason, error.message
    if isinstance(error, RightsMissing):
        return "RightsMissing", f"the operator's role lacks a right: {error}; it is tried again every minute"
    return "ClusterRefused", f"the API server refuses what is due now: {error}; it is tried again every minute"
