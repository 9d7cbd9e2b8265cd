"""Who may do what: ServiceAccounts with roles of their own."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from control_plane.client import Client, path_of

_GROUP: Final = "rbac.authorization.k8s.io"
_NAMESPACE: Final = "paritygate.dev/test-namespace"


def identity(
    api: Client, namespace: str, rules: Sequence[Mapping[str, Any]], everywhere: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The token of a new ServiceAccount with these rules in its namespace, and others in every namespace."""
    name = f"{namespace}-{secrets.token_hex(3)}"
    api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
    for prefix, granted in (("", rules), ("Cluster", everywhere)):
        if not granted:
            continue
        metadata = {"name": name, "labels": {_NAMESPACE: namespace}} | ({} if prefix else {"namespace": namespace})
        head = {"apiVersion": f"{_GROUP}/v1", "metadata": metadata}
        api.create({**head, "kind": f"{prefix}Role", "rules": list(granted)})
        api.create(
            {
                **head,
                "kind": f"{prefix}RoleBinding",
                "roleRef": {"apiGroup": _GROUP, "kind": f"{prefix}Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            }
        )
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    return str(api.request("POST", path_of("ServiceAccount", namespace, name) + "/token", asked)["status"]["token"])


def discard(api: Client, namespace: str) -> None:
    """Takes away what identities of this namespace may do everywhere: it would outlive the namespace."""
    for kind in ("ClusterRoleBinding", "ClusterRole"):
        api.request("DELETE", path_of(kind), labelSelector=f"{_NAMESPACE}={namespace}")
