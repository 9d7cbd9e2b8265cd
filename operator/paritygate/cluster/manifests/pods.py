"""What all our pods share: labels, security, volumes and containers. They meet the `restricted` Pod Security Standard.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paritygate.api.addresses import in_claim
from paritygate.api.base import GROUP, VERSION
from paritygate.api.digests import digest_of
from paritygate.api.orders import JobOrder
from paritygate.api.spec import Resources, Storage

Object = dict[str, Any]
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "paritygate"
MIGRATION: Final = f"{GROUP}/migration"
REVISION: Final = f"{GROUP}/revision"
JOB: Final = f"{GROUP}/job"
ATTEMPT: Final = f"{GROUP}/attempt"
DIGEST: Final = f"{GROUP}/digest"
GENERATION: Final = f"{GROUP}/generation"
ALLOWED: Final = f"{GROUP}/allowed"
"""Label that a Secret or ServiceAccount must carry, as 'true', before a manifest may name it."""
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
USER: Final = 65532
PORT: Final = 8080
DRAIN_SECONDS: Final = 5
"""How long what serves goes on to answer when it is told to stop: load balancers learn late."""
GRACE_SECONDS: Final = 75
"""The drain, the 60 s in which the server finishes what is under way, and a little more."""
STORE_MOUNT: Final = "/store"
CLAIMS_MOUNT: Final = "/claims"
"""Holds a folder for each claim that inputs lie in, by its name."""
ORDER: Final = "PARITYGATE_ORDER"
TERMINATION: Final = "/dev/termination-log"
DONE: Final = "/inputs/done.json"
"""Written by `fetch` when nothing is left to do; the containers after it then end at once."""


@dataclass(frozen=True)
class Owner:
    """The migration that objects belong to."""

    namespace: str
    name: str
    uid: str
    generation: int

    def reference(self) -> Object:
        """As the only controller of a child. It does not hold back the migration's own deletion."""
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "ModelMigration",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def labels(self) -> dict[str, str]:
        """Ours only: the migration's own would make Argo CD and Helm take the child for theirs."""
        return {MANAGED_BY: MANAGER, MIGRATION: self.name}


def child_name(owner: Owner, stage: str, digest: str, attempt: int) -> str:
    """At most 63 characters; another for a migration that was deleted and made anew under its name."""
    short = digest_of([owner.uid, digest]).removeprefix("sha256:")[:8]
    return f"{owner.name}-{stage}-{short}-{attempt}"


def template_claim(name: str) -> str:
    """Name of the claim that a template makes for a migration."""
    return f"{name}-artefacts"


def pod_security() -> Object:
    """Security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,  # files of one user are then readable for the next, whatever its id
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container(  # noqa: PLR0913 - a container has these parts
    name: str,
    image: str,
    command: Sequence[str],
    *,
    mounts: Sequence[Object],
    resources: Resources,
    env: Sequence[Object] = (),
    user: int | None = None,
) -> Object:
    """A container without rights, whose root is read-only and whose /tmp is its own."""
    security: Object = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if user is not None:
        security["runAsUser"] = user
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of the container's own
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            {"name": "PYTHONHASHSEED", "value": "0"},
            {"name": "PYTHONNOUSERSITE", "value": "1"},
            *env,
        ],
        "resources": resources.to_dict(),
        "securityContext": security,
        "terminationMessagePath": TERMINATION,
        "terminationMessagePolicy": "File",
        "volumeMounts": [*mounts, {"name": "scratch", "mountPath": "/tmp", "subPath": name}],  # noqa: S108 - the same
    }


def mount(volume: str, *, read_only: bool = False) -> Object:
    """A volume at the folder of its name."""
    return {"name": volume, "mountPath": f"/{volume}", **({"readOnly": True} if read_only else {})}


def empty(volume: str, limit: str) -> Object:
    """A volume that lives as long as the pod."""
    return {"name": volume, "emptyDir": {"sizeLimit": limit}}


def order_variable(order: JobOrder) -> Object:
    """The order as a variable of a container."""
    return {"name": ORDER, "value": order.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)}


@dataclass(frozen=True)
class StoreAccess:
    """How `fetch` and `publish`, and no other container, reach the store."""

    uri: str
    volumes: tuple[Object, ...]
    mounts: tuple[Object, ...]
    env_from: tuple[Object, ...]

    def given_to(self, one: Object) -> Object:
        """The container with access."""
        found = {**one, "volumeMounts": [*one["volumeMounts"], *self.mounts]}
        return {**found, "envFrom": list(self.env_from)} if self.env_from else found


def store_access(storage: Storage, namespace: str, name: str) -> StoreAccess:
    """Access to where a migration's artefacts are kept."""
    folder = store_folder(namespace, name)
    if storage.object is not None:
        secret = storage.object.secret_name
        uri = f"{storage.object.uri.rstrip('/')}/{folder}"
        return StoreAccess(uri, (), (), ({"secretRef": {"name": secret}},) if secret else ())
    volume = {"name": "store", "persistentVolumeClaim": {"claimName": storage.claim_name or template_claim(name)}}
    mounts = ({"name": "store", "mountPath": STORE_MOUNT},)
    return StoreAccess(f"file://{STORE_MOUNT}/{folder}", (volume,), mounts, ())


def store_folder(namespace: str, name: str) -> str:
    """Where a migration's artefacts lie below the address that is stated.

    Each has a folder of its own: no other migration's Job can answer for its receipts, nobody else writes to it while
    its own Job sweeps, and it can be removed as a whole. A claim's volume may be another namespace's as well.
    """
    return f"{namespace}/{name}"


def input_claims(uris: Sequence[str], store: StoreAccess) -> tuple[tuple[Object, ...], tuple[Object, ...]]:
    """Volumes and read-only mounts of the claims that inputs lie in.

    A claim that also holds the store has one volume for both: kubelets wait for ever for a second volume of a claim.
    """
    there = {v["persistentVolumeClaim"]["claimName"]: v["name"] for v in store.volumes}
    claims = list(dict.fromkeys(found[0] for uri in uris if (found := in_claim(uri))))
    names = {claim: there.get(claim) or f"input-{index}" for index, claim in enumerate(claims)}
    volumes = tuple(
        {"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        for claim, name in names.items()
        if claim not in there
    )
    mounts = tuple(
        {"name": name, "mountPath": f"{CLAIMS_MOUNT}/{claim}", "readOnly": True} for claim, name in names.items()
    )
    return volumes, mounts


def pod_template(labels: Mapping[str, str], spec: Object) -> Object:
    """A pod's template: no token, no variables of other Services."""
    return {
        "metadata": {"labels": dict(labels)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": pod_security(),
            **spec,
        },
    }
