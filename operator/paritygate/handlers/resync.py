"""Lists everything anew: what was deleted while no watch was looking is only found so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from paritygate.cluster.cache import Cache
from paritygate.cluster.client import DEPLOYMENTS, JOBS, MIGRATIONS, PODS, SERVICES, Client, Resource
from paritygate.cluster.keys import Key
from paritygate.cluster.manifests.pods import JOB, SELECTOR
from paritygate.cluster.slim import slim

WATCHED: Final[tuple[Resource, ...]] = (JOBS, PODS, DEPLOYMENTS, SERVICES, MIGRATIONS)
"""Children before migrations, so that a migration is never seen without what it had before."""


def selector_of(resource: Resource) -> str:
    """Labels of what is ours; empty = all. Of pods, those of Jobs: what serves is judged by its Deployment."""
    if resource == MIGRATIONS:
        return ""
    return f"{SELECTOR},{JOB}" if resource == PODS else SELECTOR


@dataclass(frozen=True)
class Listing:
    """What a listing found."""

    keys: tuple[Key, ...]
    """Migrations to look at: those that are gone, then all that are there, the oldest first."""
    changed: frozenset[Key]
    """Of which it knew something that no event had told."""


async def resync(client: Client, cache: Cache, namespaces: Iterable[str]) -> Listing:
    """Brings the cache in line with the API server."""
    changed: set[Key] = set()
    for resource in WATCHED:
        began = cache.newest()
        found = [
            slim(item)
            for namespace in tuple(namespaces) or (None,)
            async for item in client.pages(resource, namespace, selector=selector_of(resource))
        ]
        changed |= cache.replace(resource.kind, found, began)
    there = cache.keys()
    return Listing((*sorted(changed.difference(there)), *there), frozenset(changed))
