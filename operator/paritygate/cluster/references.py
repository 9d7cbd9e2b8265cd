"""What a manifest names outside itself: addresses, claims, Secrets and ServiceAccounts, and whether it may."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from paritygate.api import addresses
from paritygate.api.spec import AccessMode, ClaimTemplate, ModelMigrationSpec, Storage, Strategy
from paritygate.cluster.client import ACCOUNTS, SECRETS, Client, Object, Resource
from paritygate.cluster.manifests.pods import ALLOWED
from paritygate.core.rollout import DEFAULT_REPLICAS
from paritygate.errors import ConfigurationError, Forbidden, Missing

_REASONS: Final = {SECRETS: "SecretNotAllowed", ACCOUNTS: "ServiceAccountNotAllowed"}


@dataclass(frozen=True)
class Named:
    """An object that pods of a migration will use, and the field that names it."""

    resource: Resource
    name: str
    field: str


def of_serving(storage: Storage, field: str) -> Iterator[Named]:
    """What a revision uses. `field`: where the storage is stated."""
    if storage.object is not None and storage.object.secret_name is not None:
        yield Named(SECRETS, storage.object.secret_name, f"{field}.object.secretName")


def of_jobs(spec: ModelMigrationSpec, storage: Storage, field: str) -> Iterator[Named]:
    """What a Job uses. `field`: where the storage is stated."""
    yield from of_serving(storage, field)
    image = spec.source.environment.image if spec.source.environment else None
    for index, name in enumerate(image.pull_secrets if image else ()):
        yield Named(SECRETS, name, f"spec.source.environment.image.pullSecrets[{index}]")
    if spec.jobs.service_account_name is not None:
        yield Named(ACCOUNTS, spec.jobs.service_account_name, "spec.jobs.serviceAccountName")


async def require_allowed(client: Client, namespace: str, named: Iterable[Named]) -> None:
    """Looks at the labels, and at nothing else, of everything named.

    Whoever may write a migration could otherwise use any Secret of the namespace without being able to read it.

    Raises:
        ConfigurationError: SecretNotAllowed, ServiceAccountNotAllowed: it is not there, or not labelled.
    """
    for one in named:
        wrong = await _objection(client, namespace, one)
        if wrong is not None:
            raise ConfigurationError(_REASONS[one.resource], f"{one.field} is {one.name!r}: {wrong}")


async def _objection(client: Client, namespace: str, one: Named) -> str | None:
    kind, plural = one.resource.kind, one.resource.plural
    try:
        found: Object = await client.metadata(one.resource, namespace, one.name)
    except Missing:
        return f"there is no {kind} of this name in namespace {namespace}; create it, labelled {ALLOWED}=true"
    except Forbidden as error:
        return f"the operator may not look at it ({error}); let its role get {plural} in namespace {namespace}"
    if found["metadata"].get("labels", {}).get(ALLOWED) == "true":
        return None
    return (
        f"the {kind} is not labelled for ParityGate; whoever owns it can: "
        f"kubectl label -n {namespace} {kind.lower()} {one.name} {ALLOWED}=true"
    )


def problems(spec: ModelMigrationSpec, default: Storage | None, node_local: Collection[str]) -> list[str]:
    """What cannot work in a cluster, one sentence each.

    Args:
        spec: what the user asks for.
        default: storage of the operator's configuration.
        node_local: storage classes whose volumes bind their pods to one node.
    """
    found = [wrong for field, uri in spec.input_uris.items() if (wrong := _unreadable(field, uri))]
    storage, field = (spec.storage, "spec.storage") if spec.storage else (default, "defaults.storage")
    if storage is None:
        found.append("spec.storage is missing and this cluster has no default; state e.g. storage: {claimName: models}")
    elif storage.claim_template is not None and (wrong := _unshared(spec, storage.claim_template, node_local)):
        found.append(f"{field}.claimTemplate.{wrong}")
    return found


def _unreadable(field: str, uri: str) -> str | None:
    scheme = addresses.scheme_of(uri)
    if addresses.is_cut(uri):
        return f"{field} is {uri!r}; {addresses.CUT}"
    if scheme in addresses.IN_A_CLUSTER:
        return None
    what = "a path on one machine" if scheme in {None, "file"} else "of no scheme that is known"
    return f"{field} is {uri!r}, {what}; in a cluster {addresses.HINT}"


def _unshared(spec: ModelMigrationSpec, template: ClaimTemplate, node_local: Collection[str]) -> str | None:
    """Why the replicas could not all mount the claim, from the field on; None = they can."""
    serving = spec.serving
    most = serving.autoscaling.max_replicas if serving.autoscaling else serving.replicas or DEFAULT_REPLICAS
    serves = spec.rollout.strategy is Strategy.BLUE_GREEN
    shared = AccessMode.READ_WRITE_MANY in template.access_modes or template.storage_class_name in node_local
    if shared or not serves or most == 1:
        return None
    local = f", or of a node-local class ({', '.join(sorted(node_local))})" if node_local else ""
    return (
        f"accessModes is [ReadWriteOnce], and {most} replicas serve: those on another node could not mount the volume; "
        f"use accessModes: [ReadWriteMany]{local}, or serving: {{replicas: 1}}"
    )
