"""What actions are carried out on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from paritygate.cluster import revisions
from paritygate.cluster.cache import Object, Snapshot, owner_uid
from paritygate.cluster.manifests import pods
from paritygate.cluster.pinned import Pinned, pinned
from paritygate.cluster.settings import Settings
from paritygate.core.observed import Observed


@dataclass(frozen=True)
class Scene:
    """One migration as it was when the plan was made."""

    snapshot: Snapshot
    observed: Observed
    settings: Settings

    @cached_property
    def run(self) -> Pinned:
        """What the run goes by."""
        return pinned(self.observed.name, self.observed.spec, self.observed.status, self.settings)

    @property
    def owner(self) -> pods.Owner:
        """The migration."""
        return pods.Owner(self.snapshot.key.namespace, self.observed.name, self.observed.uid, self.observed.generation)

    @property
    def jobs(self) -> list[Object]:
        """Jobs of the migration; others may carry its label."""
        return [job for job in self.snapshot.of("Job") if owner_uid(job) == self.observed.uid]

    @property
    def pointers(self) -> list[Object]:
        """Services that lead to a revision of the migration."""
        return revisions.pointers(self.snapshot)
