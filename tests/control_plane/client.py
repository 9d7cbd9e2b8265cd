"""A plain synchronous client of the Kubernetes API, for the tests' own reading and writing.

It is not the operator's: what tests say about the operator must not rest on the operator's own client.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import httpx

from paritygate import clock

Object = dict[str, Any]

_PLURALS: Final = {
    "v1": "pods services configmaps secrets serviceaccounts persistentvolumeclaims events",
    "batch/v1": "jobs cronjobs",
    "apps/v1": "deployments replicasets statefulsets daemonsets",
    "policy/v1": "poddisruptionbudgets",
    "autoscaling/v2": "horizontalpodautoscalers",
    "discovery.k8s.io/v1": "endpointslices",
    "coordination.k8s.io/v1": "leases",
    "networking.k8s.io/v1": "networkpolicies",
    "rbac.authorization.k8s.io/v1": "roles rolebindings",
    "paritygate.dev/v1alpha1": "modelmigrations",
    "monitoring.coreos.com/v1": "servicemonitors prometheusrules",
}
_CLUSTER_PLURALS: Final = {
    "v1": "namespaces nodes persistentvolumes",
    "apiextensions.k8s.io/v1": "customresourcedefinitions",
    "rbac.authorization.k8s.io/v1": "clusterroles clusterrolebindings",
    "admissionregistration.k8s.io/v1": "validatingadmissionpolicies validatingadmissionpolicybindings",
}
_SINGULARS: Final = {
    "networkpolicies": "networkpolicy", "leases": "lease", "validatingadmissionpolicies": "validatingadmissionpolicy",
}  # fmt: skip
_JSON: Final = "application/json"
MERGE: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
APPLY: Final = "application/apply-patch+yaml"


def _kinds() -> dict[str, tuple[str, str, bool]]:
    """By kind in small letters: version of the API, plural, and whether it has a namespace."""
    found = {}
    for table, namespaced in ((_PLURALS, True), (_CLUSTER_PLURALS, False)):
        for version, plurals in table.items():
            for plural in plurals.split():
                found[_SINGULARS.get(plural, plural.removesuffix("s"))] = (version, plural, namespaced)
    return found


KINDS: Final = _kinds()


class Refused(Exception):
    """The API server's answer was an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Client:
    """Reads and writes objects, by kind and name. Refused: the server said no."""

    def __init__(
        self, url: str, authority: Path, token: str | None, certificate: tuple[Path, Path] | None = None,
        acting_as: str | None = None,
    ) -> None:  # fmt: skip
        """`acting_as`: another user's name; what we may do, this user then may."""
        context = ssl.create_default_context(cafile=str(authority))
        if certificate:
            context.load_cert_chain(*map(str, certificate))
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if acting_as:
            headers |= {"Impersonate-User": acting_as, "Impersonate-Group": "system:masters"}
        self._http = httpx.Client(base_url=url, verify=context, headers=headers, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = _JSON, accept: str = _JSON, **parameters: str
    ) -> Any:
        """One request; the answer's JSON. Further arguments become the query."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"Accept": accept} | ({} if body is None else {"Content-Type": content})
        answer = self._http.request(method, path, content=sent, headers=headers, params=parameters)
        if answer.is_error:
            told = answer.json() if "json" in answer.headers.get("content-type", "") else {}
            raise Refused(answer.status_code, told.get("reason", ""), told.get("message", answer.text))
        return answer.json() if "json" in answer.headers.get("content-type", "") else answer.text

    def create(self, obj: Mapping[str, Any], **parameters: str) -> Object:
        """Creates an object in its namespace."""
        metadata = obj["metadata"]
        return self.request("POST", path_of(obj["kind"], metadata.get("namespace")), obj, **parameters)

    def apply(self, obj: Mapping[str, Any], manager: str = "test", **parameters: str) -> Object:
        """Server-side apply."""
        path = path_of(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
        return self.request("PATCH", path, obj, content=APPLY, fieldManager=manager, **parameters)

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object:
        return self.request("GET", path_of(kind, namespace, name))

    def find(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object; None = there is none."""
        try:
            return self.get(kind, name, namespace)
        except Refused as refused:
            if refused.code == httpx.codes.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str | None = None, **parameters: str) -> list[Object]:
        """All objects of a namespace, or of all; `labelSelector` and `fieldSelector` narrow them."""
        version = KINDS[kind.lower()][0]
        items = self.request("GET", path_of(kind, namespace), **parameters)["items"]
        return [{"apiVersion": version, "kind": kind, **item} for item in items]

    def patch(
        self,
        kind: str,
        name: str,
        namespace: str | None,
        body: Any,
        *,
        content: str = MERGE,
        part: str = "",
        **parameters: str,
    ) -> Object:
        """Patches an object, or its `part`, such as `status`."""
        path = path_of(kind, namespace, name) + (f"/{part}" if part else "")
        return self.request("PATCH", path, body, content=content, **parameters)

    def delete(self, kind: str, name: str, namespace: str | None = None, policy: str = "Background") -> None:
        self.request("DELETE", path_of(kind, namespace, name), {"propagationPolicy": policy})

    def until(
        self, kind: str, name: str, namespace: str | None, holds: Callable[[Object], object], seconds: float = 30
    ) -> Object:
        """The object, as soon as something holds of it. AssertionError: it does not come to that."""
        ends = clock.monotonic() + seconds
        while True:
            found = self.find(kind, name, namespace)
            if found is not None and holds(found):
                return found
            assert clock.monotonic() < ends, f"{kind} {name} after {seconds} s: {json.dumps(found, indent=1)}"
            threading.Event().wait(0.02)

    def until_listed(
        self, kind: str, namespace: str | None, holds: Callable[[Object], object], count: int = 1, seconds: float = 30
    ) -> list[Object]:
        """All objects, as soon as there are so many and something holds of each. AssertionError: it never does."""
        ends = clock.monotonic() + seconds
        while True:
            found = self.list(kind, namespace)
            if len(found) == count and all(map(holds, found)):
                return found
            assert clock.monotonic() < ends, f"{kind}s after {seconds} s: {json.dumps(found, indent=1)}"
            threading.Event().wait(0.02)

    def until_gone(self, kind: str, name: str, namespace: str | None, seconds: float = 30) -> None:
        """Returns as soon as there is no such object."""
        ends = clock.monotonic() + seconds
        while (found := self.find(kind, name, namespace)) is not None:
            assert clock.monotonic() < ends, f"{kind} {name} after {seconds} s: {json.dumps(found, indent=1)}"
            threading.Event().wait(0.02)

    def until_served(self, kind: str, seconds: float = 30) -> None:
        """Returns as soon as the server serves a kind: it says so a moment before it does."""
        ends = clock.monotonic() + seconds
        while True:
            with contextlib.suppress(Refused):
                self.list(kind)
                return
            assert clock.monotonic() < ends, f"{kind} is not served after {seconds} s"
            threading.Event().wait(0.02)


def path_of(kind: str, namespace: str | None = None, name: str | None = None) -> str:
    """Where the API serves a kind, or one of its objects. Without namespace: everywhere."""
    version, plural, namespaced = KINDS[kind.lower()]
    head = f"/api/{version}" if "/" not in version else f"/apis/{version}"
    middle = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{head}{middle}/{plural}" + (f"/{name}" if name else "")


def condition(obj: Mapping[str, Any], kind: str) -> Object:
    """The condition of this type; empty where there is none."""
    return next((c for c in obj.get("status", {}).get("conditions", ()) if c["type"] == kind), {})


def holds(kind: str, status: str = "True") -> Callable[[Object], bool]:
    """Whether a condition has this status and speaks of this generation, as `kubectl wait` asks."""

    def judge(obj: Object) -> bool:
        found = condition(obj, kind)
        current = found.get("observedGeneration", obj["metadata"].get("generation"))
        return found.get("status") == status and current == obj["metadata"].get("generation")

    return judge
