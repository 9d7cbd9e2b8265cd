"""Writes to the API server that may be repeated, and whose answers the cache takes in at once."""

from __future__ import annotations

from paritygate.cluster.cache import Cache, Object, owner_uid
from paritygate.cluster.client import SERVICES, Client, Resource
from paritygate.cluster.manifests import pods
from paritygate.errors import ConfigurationError, Conflict, Missing, Refused


class Writes:
    """Creates, changes and deletes what belongs to migrations."""

    def __init__(self, client: Client, cache: Cache) -> None:
        self.client, self._cache = client, cache

    async def create(self, resource: Resource, body: Object, owner: str | None = None) -> Object:
        """Creates, or finds what an earlier try created. ConfigurationError (NameConflict): it is somebody else's.

        `owner`: UID that must own what is found; None = the labels tell.
        """
        metadata = body["metadata"]
        try:
            there = await self.client.create(resource, body)
        except Conflict:
            there = await self.client.get(resource, metadata["namespace"], metadata["name"])
            if not is_ours(there, metadata["labels"][pods.MIGRATION]) or owner not in {None, owner_uid(there)}:
                raise taken(resource, metadata["namespace"], metadata["name"]) from None
            if "deletionTimestamp" in there["metadata"]:
                raise Conflict(
                    f"{resource.kind} {metadata['name']} is being deleted; it is made anew after that"
                ) from None
        self.seen(resource, there)
        return there

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> None:
        """Changes what is there; what is not needs no change."""
        try:
            self.seen(resource, await self.client.merge(resource, namespace, name, patch))
        except Missing:
            return

    async def own(self, resource: Resource, there: Object, body: Object) -> None:
        """Brings the owners of what is there in line with those that `body` states; stating none, it has none."""
        metadata, owners = there["metadata"], body["metadata"].get("ownerReferences")
        if (metadata.get("ownerReferences") or None) != owners:
            patch = {"metadata": {"ownerReferences": owners}}
            await self.merge(resource, metadata["namespace"], metadata["name"], patch)

    async def replace(self, resource: Resource, there: Object, part: str, body: Object) -> Object:
        """Gives one part of the spec as a whole, where a merge would keep old keys, and adds to the annotations.

        Conflict: it is not `there` any more.
        """
        metadata = there["metadata"]
        operations: list[Object] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "replace", "path": f"/spec/{part}", "value": body["spec"][part]},
            {"op": "add", "path": "/metadata/annotations", "value": {
                **metadata.get("annotations", {}), **body["metadata"]["annotations"]}},
        ]  # fmt: skip
        try:
            after = await self.client.json_patch(resource, metadata["namespace"], metadata["name"], operations)
        except Refused as error:
            raise Conflict(f"{resource.kind} {metadata['name']} changed meanwhile; it is observed again") from error
        self.seen(resource, after)
        return after

    async def delete(self, resource: Resource, item: Object) -> None:
        """Deletes this very object; another of its name is left alone."""
        metadata = item["metadata"]
        await self.client.delete(resource, metadata["namespace"], metadata["name"], uid=metadata["uid"])
        self._cache.apply("DELETED", {"apiVersion": resource.api_version, "kind": resource.kind, **item})

    def seen(self, resource: Resource, item: Object) -> None:
        """Takes in the answer to a write."""
        self._cache.apply(None, {"apiVersion": resource.api_version, "kind": resource.kind, **item})


def is_ours(item: Object, migration: str) -> bool:
    """Whether an object says that we made it, and for this migration."""
    labels = item["metadata"].get("labels", {})
    return bool(labels.get(pods.MANAGED_BY) == pods.MANAGER and labels.get(pods.MIGRATION) == migration)


def taken(resource: Resource, namespace: str, name: str) -> ConfigurationError:
    """NameConflict, with what can be done."""
    other = "state another spec.serving.serviceName" if resource is SERVICES else "rename the migration"
    return ConfigurationError(
        "NameConflict",
        f"{resource.kind} {name} exists and is not of this migration; {other}, or remove it if nobody needs it: "
        f"kubectl delete {resource.plural} -n {namespace} {name}",
    )
