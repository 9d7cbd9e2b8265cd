"""What Deployments and Services tell of revisions and of where the traffic goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from paritygate.api.spec import ModelMigrationSpec
from paritygate.cluster import failures
from paritygate.cluster.cache import Object, Snapshot
from paritygate.cluster.failures import moment
from paritygate.cluster.manifests import pods, serving
from paritygate.core.observed import Revision


def service_name(name: str, spec: ModelMigrationSpec) -> str:
    """Of the Service that clients use."""
    return spec.serving.service_name or name


@dataclass(frozen=True)
class Pointer:
    """Where the Services of a migration lead to."""

    traffic: str | None = None
    since: datetime | None = None
    whole: bool = False
    """Whether the one that the spec names is there, and all lead to the same."""
    lagging: tuple[str, ...] = ()


def pointers(snapshot: Snapshot) -> list[Object]:
    """Services that lead to a revision of the migration."""
    return [s for s in snapshot.of("Service") if pods.REVISION in s["spec"].get("selector", {})]


def pointer(snapshot: Snapshot, spec: ModelMigrationSpec) -> Pointer:
    """Read from the Services themselves. One of an earlier `serviceName` counts until somebody removes it."""
    wanted = service_name(snapshot.key.name, spec)
    found = sorted(pointers(snapshot), key=lambda s: s["metadata"]["name"] != wanted)
    if not found:
        return Pointer()
    leads = [s["spec"]["selector"][pods.REVISION] for s in found]
    since = found[0]["metadata"].get("annotations", {}).get(serving.PROMOTED_AT)
    lagging = tuple(sorted({one for one in leads if one != leads[0]}))
    return Pointer(leads[0], moment(since), found[0]["metadata"]["name"] == wanted and not lagging, lagging)


def _stamp(deployment: Object, key: str) -> str | None:
    """A digest that stands on a Deployment; None = somebody took it away or wrote something else there."""
    text = deployment["metadata"].get("annotations", {}).get(key, "")
    return text if re.fullmatch(r"sha256:[0-9a-f]{64}", text) else None


def revision_of(deployment: Object, spec: ModelMigrationSpec) -> Revision:
    """The revision that a Deployment is, as far as it says."""
    status = deployment.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    wanted, present = deployment["spec"].get("replicas", 1), status.get("availableReplicas", 0)
    # Judged by numbers: Available may still speak of the generation before.
    ready = (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and wanted > 0
        and status.get("updatedReplicas", 0) >= wanted
        and present >= wanted
    )
    since = moment(conditions.get("Available", {}).get("lastTransitionTime"))
    progressing = conditions.get("Progressing", {})
    failed = not ready and progressing.get("reason") == "ProgressDeadlineExceeded"
    return Revision(
        name=deployment["metadata"]["name"],
        candidate=_stamp(deployment, serving.CANDIDATE) or "",
        runtime=_stamp(deployment, serving.RUNTIME) or "",
        report=_stamp(deployment, serving.REPORT) or "",
        verdict=_stamp(deployment, serving.VERDICT),
        ready=ready,
        ready_since=since if ready else None,
        failure=failures.configuration(
            "RevisionFailed", f"revision {deployment['metadata']['name']}: {progressing.get('message', 'not ready')}"
        )
        if failed
        else None,
        image=next(iter(c["image"] for c in deployment["spec"]["template"]["spec"]["containers"]), None),
        replicas=wanted,
        available=present,
        unavailable_since=since if present == 0 else None,
        in_line=serving.in_line(deployment, spec),
        altered=serving.altered(deployment),
    )
