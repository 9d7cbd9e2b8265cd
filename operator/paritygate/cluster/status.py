"""The one status write of a reconcile."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from paritygate.api.status import ConditionType, ModelMigrationStatus
from paritygate.cluster.client import MIGRATIONS, Client, Object
from paritygate.core.conditions import Standing, conditions


def stalled(
    before: ModelMigrationStatus | None, reason: str, message: str, generation: int, now: datetime
) -> ModelMigrationStatus:
    """The status as it was, but for what cannot go on; for what the planner cannot see."""
    status = before or ModelMigrationStatus()
    kept = {c.type: Standing(c.status, c.reason, c.message) for c in status.conditions}
    for gone in (ConditionType.RECONCILING, ConditionType.SUSPENDED):
        kept.pop(gone, None)
    kept[ConditionType.READY] = Standing("False", reason, message)
    kept[ConditionType.STALLED] = Standing("True", reason, message)
    found = conditions(status.conditions, kept, generation, now)
    return status.model_copy(update={"observed_generation": generation, "phase": reason, "conditions": found})


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) from one object to another; empty = they are equal. Lists are replaced whole."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        there = before.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            inner = merge_patch(there, value)
            if inner:
                patch[key] = inner
        elif key not in before or there != value:
            patch[key] = value
    return patch


async def write_status(client: Client, migration: Object, status: ModelMigrationStatus) -> Object | None:
    """Stores the status; the migration as it is then, None = nothing changed and nothing was written.

    Conflict: the migration changed since it was observed, so that the status would speak of what is no more. This is
    what fences off stale caches and deposed replicas.
    """
    patch = merge_patch(migration.get("status") or {}, status.to_dict())
    if not patch:
        return None
    metadata = migration["metadata"]
    body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]}, "status": patch}
    return await client.merge(MIGRATIONS, metadata["namespace"], metadata["name"], body, subresource="status")
