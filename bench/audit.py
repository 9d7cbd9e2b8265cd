"""The API server's own record of who wrote what, and when: counts do not rest on what the operator says of itself."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

READS = frozenset({"get", "list", "watch"})


def policy(namespace: str) -> dict[str, Any]:
    """Records every request of ServiceAccounts of `namespace`, and what the Job controller writes; no contents."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{namespace}"]},
            {"level": "Metadata", "verbs": ["update", "patch"],
             "resources": [{"group": "batch", "resources": ["jobs/status"]}]},
            {"level": "None"},
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """One request that was answered."""

    ours: bool
    """Whether the operator sent it."""
    verb: str
    resource: str
    """With its subresource, as in `modelmigrations/status`."""
    namespace: str
    name: str
    began: float
    """Seconds since 1970, when the server received it and when it had answered."""
    ended: float
    code: int
    dry: bool
    """Whether it was only to be tried."""

    @property
    def writes(self) -> bool:
        """Whether it changed what is stored. What may be done is asked by creating a review, which is not stored."""
        return self.verb not in READS and not self.dry and self.code < 400 and "reviews" not in self.resource


def requests(folder: Path, namespace: str) -> Iterator[Request]:
    """All that was recorded so far, in the order of the answers."""
    for path in sorted(folder.glob("audit*.log"), key=lambda found: found.stat().st_mtime):
        with path.open() as lines:
            for line in lines:
                if line.endswith("\n"):  # the last may be half written
                    yield _request(json.loads(line), f"system:serviceaccount:{namespace}:")


def _request(event: dict[str, Any], prefix: str) -> Request:
    about = event.get("objectRef", {})
    part = about.get("subresource")
    return Request(
        ours=event["user"]["username"].startswith(prefix),
        verb=event["verb"],
        resource=about.get("resource", "") + (f"/{part}" if part else ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        began=_seconds(event["requestReceivedTimestamp"]),
        ended=_seconds(event["stageTimestamp"]),
        code=event.get("responseStatus", {}).get("code", 0),
        dry="dryRun=" in event["requestURI"],
    )


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def writes(record: Path, namespace: str, done: int | None) -> dict[str, Any]:
    """What the operator asked of the API server, and how many writes a migration took if all are `done`."""
    ours = [request for request in requests(record, namespace) if request.ours and request.verb != "watch"]
    one_by_one = Counter(
        (request.namespace, _migration(request.name))
        for request in ours
        if request.writes and "leases" not in request.resource
    )
    by_kind = Counter(f"{r.verb} {r.resource}" for r in ours if r.writes and r.resource != "leases")
    return {
        "writes": sum(by_kind.values()),
        "writes_by_kind": dict(by_kind.most_common()),
        "writes_per_promoted": sum(by_kind.values()) / done if done else None,
        "writes_most": max(one_by_one.values(), default=0),
        "writes_spread": dict(sorted(Counter(one_by_one.values()).items())),
        "other_requests": dict(
            Counter(
                f"{r.verb} {r.resource}{' (dry run)' if r.dry else ''}{f' {r.code}' if r.code >= 400 else ''}"
                for r in ours
                if not r.writes
            ).most_common()
        ),
    }


def latencies(record: Path, namespace: str) -> dict[str, Any]:
    """From the Job controller's last word on a Job to the operator's next write for its migration."""
    ended: dict[tuple[str, str], float] = {}
    for request in requests(record, namespace):
        if not request.ours and request.resource == "jobs/status":
            ended[request.namespace, request.name] = request.ended
    waiting: dict[tuple[str, str], list[float]] = {}
    for (where, name), at in ended.items():
        waiting.setdefault((where, _migration(name)), []).append(at)
    found = []
    for request in sorted((r for r in requests(record, namespace) if r.ours and r.writes), key=lambda r: r.began):
        times = waiting.get((request.namespace, _migration(request.name)), [])
        for at in [at for at in times if at <= request.began]:
            found.append(request.began - at)
            times.remove(at)
    if len(found) < 2:
        return {}
    parts = statistics.quantiles(found, n=100, method="inclusive")
    return {"event_to_write": {"n": len(found), "p50_ms": 1000 * parts[49], "p99_ms": 1000 * parts[98],
                               "most_ms": 1000 * max(found)}}  # fmt: skip


def _migration(name: str) -> str:
    """Children are named after their migration, all of whose names have one length."""
    return name[: len("model-00000")]
