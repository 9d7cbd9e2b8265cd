"""Where the artefacts of a migration are kept, and the claim that a template asks for."""

from __future__ import annotations

from paritygate.api.spec import ClaimTemplate, Storage
from paritygate.cluster.cache import owner_uid
from paritygate.cluster.client import CLAIMS
from paritygate.cluster.manifests import pods, serving
from paritygate.cluster.scene import Scene
from paritygate.cluster.writes import Writes
from paritygate.errors import ConfigurationError, Conflict


def storage_of(scene: Scene) -> tuple[Storage, str]:
    """Where artefacts are kept, and where that is stated. ConfigurationError: nowhere."""
    stated, default = scene.observed.spec.storage, scene.settings.defaults.storage
    if stated is not None:
        return stated, "spec.storage"
    if default is None:
        raise ConfigurationError("InvalidSpec", "spec.storage is missing and this cluster has no default")
    return default, "defaults.storage"


async def access(writes: Writes, storage: Storage, scene: Scene) -> pods.StoreAccess:
    """How pods reach the store, which is there from then on."""
    if storage.claim_template is not None:
        await _claim(writes, storage.claim_template, scene)
    return pods.store_access(storage, scene.owner.namespace, scene.owner.name)


async def _claim(writes: Writes, template: ClaimTemplate, scene: Scene) -> None:
    """Makes the claim of a template, or takes over the one that an earlier migration of the name left."""
    body = serving.claim(scene.owner, template, scene.observed.spec.deletion_policy)
    there = await writes.create(CLAIMS, body)
    if owner_uid(there) not in {None, scene.owner.uid}:
        raise Conflict(
            f"claim {there['metadata']['name']} goes with an earlier migration; it is made anew when it is gone"
        )
    await writes.own(CLAIMS, there, body)
