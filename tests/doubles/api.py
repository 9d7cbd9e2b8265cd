"""An API server in memory, with the methods and errors of the operator's client.

It knows resourceVersions, generations, preconditions, JSON patches, status as a subresource and dry runs, and nothing
of schemas, defaults, admission or garbage collection. tests/contract/test_api_double.py asks the real server the same.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from paritygate.cluster.client import Object, Resource
from paritygate.errors import Conflict, Missing, Refused

_UNCOUNTED = {"status", "metadata", "apiVersion", "kind"}


class Request(NamedTuple):
    """A request that was made."""

    verb: str
    kind: str
    name: str
    body: Any = None

    @property
    def said(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


class MemoryApi:
    """Objects, and every request that was made."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.interfere: Callable[[Request], None] = lambda _: None
        """Called before each request is carried out: changes something in between, or raises what is answered."""
        self.afterwards: Callable[[Request], None] = lambda _: None
        """Called after each request was carried out: what it raises is an answer that got lost."""
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._counter = 100

    def writes(self) -> list[str]:
        """Requests that changed something, or tried to, without dry runs; in order."""
        return [r.said for r in self.requests if r.verb not in {"GET", "LIST", "DRY-RUN"}]

    def sent(self, said: str) -> list[Any]:
        """Bodies of the requests of this verb, kind and name."""
        return [r.body for r in self.requests if r.said == said]

    def put(self, item: Object) -> Object:
        """An object as others left it, status and all; no request."""
        metadata = item["metadata"]
        there = self._objects.get((item["kind"], metadata["namespace"], metadata["name"]))
        return self._store(item, there)

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """A copy of what is stored; no request."""
        return copy.deepcopy(self._objects.get((kind, namespace, name)))

    def all(self, kind: str) -> list[Object]:
        """Copies of all of a kind, by name; no request."""
        return [copy.deepcopy(item) for (k, _, _), item in sorted(self._objects.items()) if k == kind]

    def drop(self, kind: str, namespace: str, name: str) -> None:
        """Takes an object away; no request."""
        del self._objects[kind, namespace, name]

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self._asked("GET", resource, name)
        return copy.deepcopy(self._there(resource, namespace, name))

    async def metadata(self, resource: Resource, namespace: str, name: str) -> Object:
        self._asked("GET", resource, name)
        there = self._there(resource, namespace, name)
        return {"kind": "PartialObjectMetadata", "metadata": copy.deepcopy(there["metadata"])}

    async def pages(self, resource: Resource, namespace: str | None, *, selector: str = "") -> AsyncIterator[Object]:
        self._asked("LIST", resource, namespace or "")
        wanted = [part.partition("=") for part in selector.split(",") if part]
        for item in self.all(resource.kind):
            labels = item["metadata"].get("labels", {})
            fits = all(key in labels and (not equal or labels[key] == value) for key, equal, value in wanted)
            if fits and namespace in {None, item["metadata"]["namespace"]}:
                yield item

    async def create(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        metadata = body["metadata"]
        request = self._asked("DRY-RUN" if dry_run else "CREATE", resource, metadata["name"], body)
        if (resource.kind, metadata["namespace"], metadata["name"]) in self._objects:
            raise Conflict(f"{resource.plural} {metadata['name']!r} already exists", status=409)
        if dry_run:
            return copy.deepcopy(body)
        clean = {**body, "kind": resource.kind, "apiVersion": resource.api_version}
        clean = {k: v for k, v in clean.items() if k != "status"}
        return self._answered(request, self._store(clean, None))

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str | None = None
    ) -> Object:
        request = self._asked(f"PATCH/{subresource}" if subresource else "PATCH", resource, name, body)
        there = self._there(resource, namespace, name)
        stated = body.get("metadata", {})
        self._hold(there, {k: v for k, v in stated.items() if k != "uid" or not subresource})
        if subresource == "status":
            after = {**there, "status": _merged(there.get("status", {}), body.get("status", {}))}
        else:
            after = {**_merged(there, body), **({"status": there["status"]} if "status" in there else {})}
        return self._answered(request, self._store(after, there))

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: list[Object]) -> Object:
        request = self._asked("JSON-PATCH", resource, name, operations)
        there = self._there(resource, namespace, name)
        after = copy.deepcopy(there)
        for one in operations:
            *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
            holder = after
            for part in parents:
                holder = holder[part]
            if one["op"] == "test" and holder.get(last) != one["value"]:
                raise Refused(f"testing value {one['path']} failed", status=422)
            if one["op"] == "replace" and last not in holder:
                raise Refused(f"{one['path']} is missing", status=422)
            if one["op"] in {"add", "replace"}:
                holder[last] = one["value"]
        return self._answered(request, self._store(after, there))

    async def replace(self, resource: Resource, body: Object) -> Object:
        metadata = body["metadata"]
        request = self._asked("PUT", resource, metadata["name"], body)
        there = self._there(resource, metadata["namespace"], metadata["name"])
        self._hold(there, metadata)
        return self._answered(request, self._store(body, there))

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        request = self._asked("DELETE", resource, name, uid)
        there = self._objects.get((resource.kind, namespace, name))
        if there is None or there["metadata"]["uid"] != uid:
            return False
        del self._objects[resource.kind, namespace, name]
        self.afterwards(request)
        return True

    def _asked(self, verb: str, resource: Resource, name: str, body: Any = None) -> Request:
        request = Request(verb, resource.kind, name, copy.deepcopy(body))
        self.requests.append(request)
        self.interfere(request)
        return request

    def _answered(self, request: Request, item: Object) -> Object:
        self.afterwards(request)
        return copy.deepcopy(item)

    def _there(self, resource: Resource, namespace: str, name: str) -> Object:
        try:
            return self._objects[resource.kind, namespace, name]
        except KeyError:
            raise Missing(f"{resource.plural} {name!r} not found", status=404) from None

    @staticmethod
    def _hold(there: Object, stated: Object) -> None:
        for key in ("uid", "resourceVersion"):
            if key in stated and stated[key] != there["metadata"][key]:
                raise Conflict(f"the object has been modified: {key}", status=409)

    def _store(self, item: Object, there: Object | None) -> Object:
        item = copy.deepcopy(item)
        metadata = item["metadata"]
        key = item["kind"], metadata["namespace"], metadata["name"]
        if there is None:
            self._counter += 1
            fresh = {"uid": f"uid-{self._counter}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
            item["metadata"] = {**fresh, **metadata}
        else:
            known = there["metadata"]
            changed = any(item.get(k) != there.get(k) for k in {*item, *there} - _UNCOUNTED)
            item["metadata"] = {
                **metadata, "uid": metadata.get("uid", known["uid"]), "resourceVersion": known["resourceVersion"],
                "creationTimestamp": known["creationTimestamp"], "generation": known["generation"] + changed,
            }  # fmt: skip
            if item == there:
                return there  # nothing was changed, and no version is made
        self._counter += 1
        item["metadata"]["resourceVersion"] = str(self._counter)
        self._objects[key] = item
        return copy.deepcopy(item)


def _merged(before: Any, patch: Any) -> Any:
    """RFC 7386, written apart from the operator's."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    found = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key), value)
    return found
