"""Lists everything anew: what was deleted while no watch was looking is only found so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from paritygate.cluster.cache import Cache
from paritygate.cluster.client import DEPLOYMENTS, JOBS, MIGRATIONS, PODS, SERVICES, Client, Resource
from paritygate.cluster.keys import Key
from paritygate.cluster.manifests.pods import SELECTOR

WATCHED: Final[tuple[Resource, ...]] = (JOBS, PODS, DEPLOYMENTS, SERVICES, MIGRATIONS)
"""Children before migrations, so that a migration is never seen without what it had before."""


async def resync(client: Client, cache: Cache, namespaces: Iterable[str]) -> set[Key]:
    """Brings the cache in line with the API server; the migrations to look at: all, and those that are gone."""
    touched: set[Key] = set()
    for resource in WATCHED:
        began = cache.newest()
        selector = "" if resource is MIGRATIONS else SELECTOR
        found = [
            item
            for namespace in tuple(namespaces) or (None,)
            async for item in client.pages(resource, namespace, selector=selector)
        ]
        touched |= cache.replace(resource.kind, found, began)
    return touched | set(cache.keys())
