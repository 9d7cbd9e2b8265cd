"""What must be so before the operator can work at all: its rights, and that the cluster knows ModelMigration."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from paritygate.cluster.client import (
    AUTOSCALERS,
    BUDGETS,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    LEASES,
    MIGRATIONS,
    PODS,
    REVIEWS,
    SERVICES,
    Client,
    Resource,
)
from paritygate.errors import ConfigurationError, Missing

_LOOKED_AT: Final = 20
"""Namespaces whose rights are asked for; one role is written for all of them."""


@dataclass(frozen=True)
class Right:
    """What the operator must be allowed to do with a kind of object."""

    resource: Resource
    verbs: tuple[str, ...]
    subresource: str = ""


RIGHTS: Final = (
    Right(MIGRATIONS, ("get", "list", "watch")),
    Right(MIGRATIONS, ("patch",), "status"),
    Right(JOBS, ("get", "list", "watch", "create", "patch", "delete")),
    Right(PODS, ("list", "watch", "create")),
    Right(DEPLOYMENTS, ("get", "list", "watch", "create", "patch", "delete")),
    Right(SERVICES, ("get", "list", "watch", "create", "patch")),
    Right(BUDGETS, ("get", "create", "patch", "delete")),
    Right(AUTOSCALERS, ("get", "create", "patch", "delete")),
    Right(CLAIMS, ("get", "create", "patch")),
    Right(EVENTS, ("create",)),
)
"""In every namespace that is looked after. Secrets and ServiceAccounts are asked for when a manifest names one."""


async def require(client: Client, namespaces: Iterable[str], lease: tuple[str, str]) -> None:
    """Returns when the operator can work.

    Args:
        client: of the API server.
        namespaces: that are looked after; none = all.
        lease: namespace and name of the Lease.

    Raises:
        ConfigurationError: RightsMissing or CRDMissing; says which, and what to do.
    """
    missing = await _missing(client, tuple(namespaces)[:_LOOKED_AT], lease)
    if missing:
        raise ConfigurationError(
            "RightsMissing",
            f"the operator's account may not: {'; '.join(missing)}. Its role must allow that; the Helm chart's does",
        )
    first = next(iter(namespaces), None)
    try:
        async for _ in client.pages(MIGRATIONS, first):
            break
    except Missing as error:
        raise ConfigurationError(
            "CRDMissing",
            f"this cluster does not know {MIGRATIONS.kind} of {MIGRATIONS.api_version}; install its definition: "
            "paritygate crd | kubectl apply --server-side -f -",
        ) from error


async def _missing(client: Client, namespaces: tuple[str, ...], lease: tuple[str, str]) -> list[str]:
    wanted = [(right, verb, namespace) for namespace in namespaces or ("",) for right in RIGHTS for verb in right.verbs]
    asked = [
        _asked(right.resource, verb, namespace, subresource=right.subresource) for right, verb, namespace in wanted
    ]
    asked += [_asked(LEASES, verb, lease[0], name="" if verb == "create" else lease[1])
              for verb in ("get", "create", "update")]  # fmt: skip
    answers = await asyncio.gather(*(client.create(REVIEWS, {"metadata": {}, "spec": spec}) for spec in asked))
    found: dict[str, list[str]] = {}
    for spec, answer in zip(asked, answers, strict=True):
        if not answer.get("status", {}).get("allowed"):
            one = spec["resourceAttributes"]
            what = "/".join(filter(None, (one["resource"], one["subresource"]))) + f".{one['group']}".rstrip(".")
            where = f"in namespace {one['namespace']}" if one["namespace"] else "in all namespaces"
            found.setdefault(f"{what} {where}", []).append(one["verb"])
    return [f"{', '.join(verbs)} {what}" for what, verbs in found.items()]


def _asked(
    resource: Resource, verb: str, namespace: str, *, subresource: str = "", name: str = ""
) -> dict[str, dict[str, str]]:
    return {
        "resourceAttributes": {
            "group": resource.group, "version": resource.version, "resource": resource.plural,
            "subresource": subresource, "verb": verb, "namespace": namespace, "name": name,
        }
    }  # fmt: skip
