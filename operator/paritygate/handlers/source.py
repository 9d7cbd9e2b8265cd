"""kopf as a source of events and nothing else: it stores no state on objects and remembers none of them.

kopf is made for handlers of its own kind: for every event it copies the object several times to find what changed
since a handler last ran, and it keeps a record of every object. We compare and remember in our own cache.
"""

# ruff: noqa: ARG002 - kopf passes arguments by name
from __future__ import annotations

from typing import Any

import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from paritygate.cluster.client import PAGE
from paritygate.handlers.resync import WATCHED, selector_of


class NoDifferences(kopf.DiffBaseStorage):
    """Finds nothing that changed, and stores nothing to compare with."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """An empty essence."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """There is none."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Stores nothing."""


class NoProgress(kopf.ProgressStorage):
    """Stores no progress of handlers: ours have none."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        """There is none."""
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Stores nothing."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """There is nothing to remove."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Touches nothing."""

    def clear(self, *, essence: Any) -> Any:
        """The essence as it is; there is no progress in it."""
        return essence


class Forgetful(ResourceMemories):
    """Gives every event a memory of its own, which ends with it."""

    async def recall(
        self, raw_body: Any, *, memobase: Any = None, noticed_by_listing: bool = False, ephemeral: bool = False
    ) -> ResourceMemory:
        """A new one."""
        return await super().recall(
            raw_body, memobase=memobase, noticed_by_listing=noticed_by_listing, ephemeral=True
        )  # fmt: skip


def configure(settings: kopf.OperatorSettings, *, namespaced: bool) -> None:
    """Sets kopf up as a source of events. The API server sends only what is ours."""
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = NoDifferences()
    settings.persistence.progress_storage = NoProgress()
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = 0.1
    settings.scanning.disabled = namespaced
    for resource in WATCHED:
        selector = selector_of(resource)
        if selector:
            settings.watching.label_selectors[resource.group, resource.version, resource.plural] = selector
