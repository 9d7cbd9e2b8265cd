"""An auditor who knows the history of the cluster, nothing of the operator, and what must hold at every moment.

Events of several kinds arrive in any order. The API server numbers every change of every kind in one sequence
(`resourceVersion`), so the history is put in this order first, and then each of its moments is judged.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Object = dict[str, Any]
MIGRATION: Final = "paritygate.dev/migration"
REVISION: Final = "paritygate.dev/revision"
JOB: Final = "paritygate.dev/job"
CANCELLED: Final = "paritygate.dev/cancelled"
CANDIDATE: Final = "paritygate.dev/candidate-digest"
RUNTIME: Final = "paritygate.dev/runtime-digest"
REPORT: Final = "paritygate.dev/report-digest"
AUDITED: Final = (
    "ModelMigration", "Job", "Pod", "Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler",
)  # fmt: skip
_OWNED: Final = frozenset(AUDITED) - {"ModelMigration", "Pod"}
_MAY_OUTLIVE: Final = _OWNED - {"Job"}


@dataclass(frozen=True)
class Event:
    """A change of one object."""

    version: int
    deleted: bool
    item: Object


@dataclass
class _World:
    """The objects of one namespace at one moment."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    passed: set[tuple[str, str, str]] = field(default_factory=set)
    """Candidate, runtime and report of every true report that passed, of all that were handed in so far."""

    def of(self, kind: str, migration: str | None = None) -> Iterator[Object]:
        for (one, _), item in self.objects.items():
            if one == kind and migration in {None, item["metadata"].get("labels", {}).get(MIGRATION)}:
                yield item

    def find(self, kind: str, name: str) -> Object | None:
        return self.objects.get((kind, name))


class Auditor:
    """Collects events, and says what was wrong.

    Args:
        genuine: whether a termination message is what the Job truly came to, and not forged.
    """

    def __init__(self, genuine: Callable[[str], bool]) -> None:
        self._genuine = genuine
        self._events: dict[str, dict[tuple[int, str], Event]] = defaultdict(dict)

    def see(self, kind: str, item: Object) -> None:
        """Takes in an event of a watch (`DELETED`, else it exists). An event that is told twice counts once."""
        metadata = item["metadata"]
        event = Event(int(metadata["resourceVersion"]), kind == "DELETED", item)
        self._events[metadata["namespace"]][event.version, metadata["uid"]] = event

    def violations(self, namespace: str) -> list[str]:
        """Everything that was wrong at any moment so far, in order, each once."""
        found: dict[str, None] = {}
        world = _World()
        for event in sorted(self._events[namespace].values(), key=lambda e: e.version):
            for wrong in self._judge(world, event):
                found.setdefault(f"{wrong} (at resourceVersion {event.version})")
        return list(found)

    def _judge(self, world: _World, event: Event) -> Iterator[str]:
        item = event.item
        key = item["kind"], item["metadata"]["name"]
        before = world.objects.pop(key, None)
        if not event.deleted:
            world.objects[key] = item
        match item["kind"]:
            case "Pod" if not event.deleted:
                self._take_evidence(world, item)
            case "Job":
                yield from _one_active_job(world, item)
            case "Deployment":
                yield from _judged_deployment(world, before, None if event.deleted else item)
            case "Service":
                yield from _pointer(world, before, None if event.deleted else item)
            case "ModelMigration" if not event.deleted:
                yield from _generation(before, item)
        if item["kind"] in _OWNED and not event.deleted and MIGRATION in item["metadata"].get("labels", {}):
            yield from _one_owner(item)

    def _take_evidence(self, world: _World, pod: Object) -> None:
        for status in pod.get("status", {}).get("containerStatuses") or ():
            ended = status.get("state", {}).get("terminated") or {}
            if status["name"] == "publish" and ended.get("exitCode") == 0 and self._genuine(ended.get("message", "")):
                for receipt in json.loads(ended["message"]).get("receipts", ()):
                    summary = receipt.get("summary") or {}
                    if summary.get("verdict") == "Passed":
                        subject = summary["subject"]
                        world.passed.add((subject["candidate"], subject["runtime"], summary["report"]))


def _one_active_job(world: _World, seen: Object) -> Iterator[str]:
    name = seen["metadata"].get("labels", {}).get(MIGRATION)
    active: dict[str, list[Object]] = defaultdict(list)
    for job in world.of("Job", name):
        if not _ended(job):
            active[_owner(job) or ""].append(job)
    for jobs in active.values():
        if len(jobs) > 1:
            yield f"migration {name} has {len(jobs)} active Jobs: {sorted(j['metadata']['name'] for j in jobs)}"
        digests = {(j["metadata"]["labels"][JOB], j["metadata"]["annotations"]["paritygate.dev/digest"]) for j in jobs}
        if len(digests) > 1:
            yield f"migration {name} works on several digests at a time: {sorted(digests)}"


def _ended(job: Object) -> bool:
    done = any(
        c["type"] in {"Complete", "Failed"} and c["status"] == "True"
        for c in job.get("status", {}).get("conditions", ())
    )
    stopped = job["spec"].get("suspend") and CANCELLED in job["metadata"].get("annotations", {})
    return bool(done or stopped or "deletionTimestamp" in job["metadata"])


def _judged_deployment(world: _World, before: Object | None, now: Object | None) -> Iterator[str]:
    one = now or before
    assert one is not None
    name = one["metadata"]["name"]
    leads = [s["metadata"]["name"] for s in world.of("Service") if _leads_to(s) == name]
    if leads and (now is None or "deletionTimestamp" in now["metadata"]):
        yield f"Deployment {name} is taken down while Service {leads[0]} leads to it"
    if now is None or MIGRATION not in now["metadata"].get("labels", {}):
        return
    if _stamped(now) not in world.passed:
        yield f"Deployment {name} has digests without a passed report: {_stamped(now)}"
    template = now["spec"]["template"]["metadata"].get("annotations", {})
    if _stamps(template) != _stamped(now):
        yield f"Deployment {name} runs {_stamps(template)} and says {_stamped(now)}"
    if leads and before and before["spec"]["template"] != now["spec"]["template"]:
        yield f"Deployment {name} is changed while Service {leads[0]} leads to it"


def _pointer(world: _World, before: Object | None, now: Object | None) -> Iterator[str]:
    leads = _leads_to(now) if now else None
    if now is None or leads is None or (before is not None and _leads_to(before) == leads):
        return
    name = f"Service {now['metadata']['name']}"
    deployment = world.find("Deployment", leads)
    if deployment is None:
        yield f"{name} is led to {leads}, which is not there"
        return
    status = deployment.get("status", {})
    if status.get("availableReplicas", 0) < max(1, deployment["spec"].get("replicas", 1)):
        yield f"{name} is led to {leads}, which is not ready"
    if _stamped(deployment) not in world.passed:
        yield f"{name} is led to {leads}, which was not verified"
    migration = world.find("ModelMigration", now["metadata"]["labels"][MIGRATION]) or {}
    verdict = migration.get("status", {}).get("verdict", {})
    if (verdict.get("result"), verdict.get("reportDigest")) != ("Passed", _stamped(deployment)[2]):
        yield f"{name} is led to {leads} while the status does not show that it passed"


def _generation(before: Object | None, now: Object) -> Iterator[str]:
    name, generation = now["metadata"]["name"], now["metadata"]["generation"]
    status = now.get("status", {})
    seen = [status.get("observedGeneration", -1)]
    seen += [c.get("observedGeneration", -1) for c in status.get("conditions", ())]
    if max(seen) > generation:
        yield f"migration {name} says it observed generation {max(seen)} of {generation}"
    same = before is not None and before["metadata"]["uid"] == now["metadata"]["uid"]
    if same and before is not None and before.get("status", {}).get("observedGeneration", -1) > seen[0]:
        yield f"migration {name} takes back that it observed a generation"


def _one_owner(item: Object) -> Iterator[str]:
    references = [r for r in item["metadata"].get("ownerReferences", ()) if r["kind"] == "ModelMigration"]
    many = len(references) > 1 or any(not r.get("controller") for r in references)
    if many or (not references and item["kind"] not in _MAY_OUTLIVE):
        yield f"{item['kind']} {item['metadata']['name']} has the owners {item['metadata'].get('ownerReferences', [])}"


def _owner(item: Object) -> str | None:
    return next((r["uid"] for r in item["metadata"].get("ownerReferences", ()) if r.get("controller")), None)


def _leads_to(service: Mapping[str, Any]) -> str | None:
    found: str | None = (service["spec"].get("selector") or {}).get(REVISION)
    return found


def _stamps(annotations: Mapping[str, str]) -> tuple[str, str, str]:
    return annotations.get(CANDIDATE, ""), annotations.get(RUNTIME, ""), annotations.get(REPORT, "")


def _stamped(item: Mapping[str, Any]) -> tuple[str, str, str]:
    return _stamps(item["metadata"].get("annotations", {}))
