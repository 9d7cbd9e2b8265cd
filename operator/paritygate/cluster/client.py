"""A thin asynchronous client of the Kubernetes API: the verbs that we use, with preconditions and typed errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import quote

import aiohttp

from paritygate.cluster.connection import Connection
from paritygate.errors import (
    ClusterError,
    Conflict,
    Deposed,
    Forbidden,
    Gone,
    Missing,
    Refused,
    RightsMissing,
    Throttled,
    Unavailable,
)

Object = dict[str, Any]
"""A Kubernetes object as plain data."""
FIELD_MANAGER: Final = "paritygate"
PAGE: Final = 100
"""Objects in one answer to a listing. Decoded they are large, and several kinds are listed at once."""
_KINDS: Final[Mapping[int, type[ClusterError]]] = {
    400: Refused, 401: Forbidden, 403: Forbidden, 404: Missing, 409: Conflict, 410: Gone, 413: Refused, 415: Refused,
    422: Refused, 429: Throttled,
}  # fmt: skip
_UNAUTHORISED: Final = re.compile(r'\bUser ".*" cannot \w+ resource "')
"""How authorizers word it; admission has other words for the same status.
https://github.com/kubernetes/kubernetes/blob/v1.34.0/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go"""
_JSON: Final = "application/json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True)
class Resource:
    """A kind of object and where the API server keeps it."""

    group: str
    """Empty for the core group."""
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """As objects state it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """The address below the server; `namespace` None = all namespaces."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, *(("namespaces", namespace) if namespace else ()), self.plural]
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


MIGRATIONS: Final = Resource("paritygate.dev", "v1alpha1", "modelmigrations", "ModelMigration")
JOBS: Final = Resource("batch", "v1", "jobs", "Job")
PODS: Final = Resource("", "v1", "pods", "Pod")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment")
SERVICES: Final = Resource("", "v1", "services", "Service")
CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
BUDGETS: Final = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALERS: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
SECRETS: Final = Resource("", "v1", "secrets", "Secret")
ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount")
REVIEWS: Final = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")
_NEVER_FENCED: Final = frozenset({LEASES, REVIEWS})
"""By which a replica comes to lead, and what changes nothing."""


class Watcher(Protocol):
    """Told of every request, for metrics."""

    def asked(self, verb: str, resource: str, status: int) -> None:
        """A request ended with an HTTP status; 0 = without an answer."""


class Nobody:
    """Is told of requests and does nothing."""

    def asked(self, verb: str, resource: str, status: int) -> None:
        """Does nothing."""


class RateLimit:
    """A token bucket: `rate` requests a second, and `burst` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._free = float(burst)
        self._last = 0.0
        self._turn = asyncio.Lock()

    async def take(self) -> None:
        """Waits until a request is allowed; in the order of asking."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            self._free = min(self._burst, self._free + (now - self._last) * self._rate)
            self._last = now
            if self._free < 1:
                wait = (1 - self._free) / self._rate
                await asyncio.sleep(wait)
                self._free, self._last = 1.0, now + wait
            self._free -= 1


class Client:
    """The API server. Every method raises the ClusterErrors of `paritygate.errors`; use it as a context.

    Args:
        connection: where and as whom.
        rate: requests a second that we allow ourselves.
        burst: requests that may go at once.
        timeout: seconds that a request may take.
        watcher: told of every request.
        may_write: asked before every write; False = another replica leads, and the write is refused.
    """

    def __init__(  # noqa: PLR0913 - each is independent of the others
        self, connection: Connection, *, rate: float = 50.0, burst: int = 100, timeout: float = 15.0,
        watcher: Watcher | None = None, may_write: Callable[[], bool] = lambda: True,
    ) -> None:  # fmt: skip
        self._connection = connection
        self._limit = RateLimit(rate, burst)
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._watcher: Watcher = watcher or Nobody()
        self._may_write = may_write
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        tls = self._connection.tls()
        connector = aiohttp.TCPConnector(ssl=tls) if tls else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object as it is now, not as a cache has it."""
        return await self._ask("GET", resource, resource.path(namespace, name))

    async def metadata(self, resource: Resource, namespace: str, name: str) -> Object:
        """The object's metadata alone: what else it holds, such as a Secret's data, does not leave the server."""
        return await self._ask("GET", resource, resource.path(namespace, name), accept=_METADATA)

    async def pages(self, resource: Resource, namespace: str | None, *, selector: str = "") -> AsyncIterator[Object]:
        """Every object, in pages. Gone: the listing took longer than the server remembers; begin anew."""
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self._ask("GET", resource, resource.path(namespace), query=query)
            for item in page["items"]:
                # Items of a list do not say what they are.
                yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            more = page["metadata"].get("continue")
            if not more:
                return
            query["continue"] = more

    async def create(self, resource: Resource, body: Object, *, dry_run: bool = False) -> Object:
        """A new object. Conflict: the name is taken."""
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        return await self._ask("POST", resource, resource.path(body["metadata"].get("namespace")), query, body)

    async def apply(self, resource: Resource, body: Object) -> Object:
        """Server-side apply: what `body` states is ours, whoever changed it; what we no longer state goes."""
        metadata = body["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"])
        return await self._ask(
            "PATCH", resource, path, {"fieldManager": FIELD_MANAGER, "force": "true"}, body, content_type=_APPLY
        )

    async def merge(
        self, resource: Resource, namespace: str, name: str, body: Object, *, subresource: str | None = None
    ) -> Object:
        """A JSON merge patch. With `metadata.resourceVersion` or `.uid` in it, Conflict where these are others now.

        Of a status the server holds to the version only.
        """
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        try:
            return await self._ask("PATCH", resource, path, query, body, content_type=_MERGE)
        except Refused as error:
            # The server takes another UID for an attempt to change it.
            if "uid" in body.get("metadata", {}) and "metadata.uid" in str(error):
                raise Conflict(str(error), status=error.status) from error
            raise

    async def json_patch(self, resource: Resource, namespace: str, name: str, operations: list[Object]) -> Object:
        """A JSON patch. Refused: a `test` in it does not hold."""
        path = resource.path(namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._ask("PATCH", resource, path, query, operations, content_type=_JSON_PATCH)

    async def replace(self, resource: Resource, body: Object) -> Object:
        """The object as a whole. Conflict: its resourceVersion is not the one that `body` states."""
        metadata = body["metadata"]
        return await self._ask("PUT", resource, resource.path(metadata["namespace"], metadata["name"]), body=body)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str) -> bool:
        """Deletes the object with this UID; its own children follow in the background. False = it was gone already.

        An object of the same name with another UID is left alone and counts as gone. Conflict: it is still there.
        """
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._ask("DELETE", resource, resource.path(namespace, name), body=body)
        except Missing:
            return False
        except Conflict:
            # Another object has the name by now; or it is still there, and whoever takes it for gone would leave it.
            try:
                there = await self.get(resource, namespace, name)
            except Missing:
                return False
            if there["metadata"]["uid"] == uid:
                raise
            return False
        return True

    async def _ask(  # noqa: PLR0913, PLR0917 - a request has these parts
        self, verb: str, resource: Resource, path: str, query: Mapping[str, str] | None = None, body: Any = None,
        content_type: str = _JSON, accept: str = _JSON,
    ) -> Object:  # fmt: skip
        if self._session is None:
            raise RuntimeError("the client is used outside of its context")
        await self._limit.take()
        # The Lease keeps two replicas from working side by side; what fences a late write is its precondition.
        if verb != "GET" and resource not in _NEVER_FENCED and not self._may_write():
            raise Deposed(f"{verb} {path}: not sent, since another replica may lead by now")
        headers = {"Accept": accept, "Content-Type": content_type, **self._connection.authorization()}
        data = None if body is None else json.dumps(body).encode()
        status = 0
        try:
            async with self._session.request(
                verb, self._connection.server + path, params=query, data=data, headers=headers
            ) as answer:
                status = answer.status
                text = await answer.read()
                wait = answer.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"{verb} {path}: {type(error).__name__} {error}".rstrip()) from error
        finally:
            self._watcher.asked(verb, resource.plural, status)
        return _parsed(f"{verb} {path}", status, text, wait)


def _parsed(request: str, status: int, text: bytes, wait: str | None) -> Object:
    try:
        content = json.loads(text) if text else {}
    except ValueError:
        content = {"message": text[:200].decode("utf-8", "replace")}
    if 200 <= status < 300 and isinstance(content, dict):  # noqa: PLR2004 - success, says HTTP
        return content
    said = content.get("message") if isinstance(content, dict) else None
    retry_after = float(wait) if wait and wait.isdigit() else None
    kind = _KINDS.get(status, Unavailable)
    if kind is Forbidden and _UNAUTHORISED.search(str(said)):
        kind = RightsMissing
    raise kind(f"{request}: HTTP {status}: {said or 'no message'}", status=status, retry_after=retry_after)
