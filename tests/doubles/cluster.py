"""One migration in a cluster in memory: the operator's reconciler, and Jobs and Deployments that do as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from control_plane.migrations import SETTINGS, Work, migration
from control_plane.scripts import Outcome
from doubles.api import MemoryApi
from paritygate.cluster.cache import Cache, Object
from paritygate.cluster.keys import Key
from paritygate.cluster.manifests.pods import ALLOWED, MANAGED_BY, MANAGER
from paritygate.cluster.reconcile import Reconciler
from paritygate.cluster.settings import Settings
from paritygate.cluster.slots import Slots

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACE: Final = "ns"
KEY: Final = Key(NAMESPACE, "churn")
_FOREVER: Final = 10**9


def settings(**fields: Any) -> Settings:
    return Settings.model_validate({**SETTINGS, **fields})


def stamp(moment: datetime) -> str:
    """A metav1.Time."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Heard:
    """What the reconciler told its listener."""

    def __init__(self) -> None:
        self.plans: list[Any] = []
        self.untold: list[Exception] = []
        self.gone: list[Key] = []

    def planned(self, key: Key, observed: Any, made: Any) -> None:
        self.plans.append((key, observed, made))

    def missed(self, _: Key, error: Exception) -> None:
        self.untold.append(error)

    def left(self, key: Key) -> None:
        self.gone.append(key)


class Cluster:
    """The API server, what the operator knows of it, and a clock that a test moves."""

    def __init__(self, settings_fields: Mapping[str, Any] | None = None, **spec: Any) -> None:
        self.api, self.told, self.work, self.now = MemoryApi(), Heard(), Work(), NOW
        self.woken: list[Key] = []
        self.start(**(settings_fields or {}))
        allowed = {"namespace": NAMESPACE, "name": "store", "labels": {ALLOWED: "true"}}
        self.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": allowed})
        self.api.put(migration(NAMESPACE, **spec))

    def start(self, **settings_fields: Any) -> None:
        """An operator that knows nothing yet, with this configuration."""
        found = settings(**settings_fields)
        self.cache, self.slots = Cache(), Slots(found.caps, self.woken.append)
        self.reconciler = Reconciler(
            self.api, self.cache, found, self.slots, lambda: self.now, self.told, "replica-1"  # type: ignore[arg-type]
        )  # fmt: skip

    def look(self) -> None:
        """Brings the operator's cache up to date; of children, it is sent what bears its label."""
        for kind in ("Job", "Pod", "Deployment", "Service"):
            found = [one for one in self.api.all(kind) if one["metadata"].get("labels", {}).get(MANAGED_BY) == MANAGER]
            self.cache.replace(kind, found, _FOREVER)
        self.cache.replace("ModelMigration", self.api.all("ModelMigration"), _FOREVER)

    def reconcile(self, *, look: bool = True, key: Key = KEY) -> float | None:
        """One reconcile; what `ask` gives: seconds until the next look."""
        if look:
            self.look()
        return asyncio.run(self.reconciler(key))

    def settle(self) -> None:
        """Reconciles until nothing is written. AssertionError: it never comes to rest."""
        for _ in range(10):
            before = len(self.api.writes())
            self.reconcile()
            if len(self.api.writes()) == before:
                return
        raise AssertionError(self.api.writes())

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def migration(self) -> Object:
        found = self.api.find("ModelMigration", KEY.namespace, KEY.name)
        assert found is not None
        return found

    def edit(self, **spec: Any) -> None:
        """As a user would change the manifest."""
        there = self.migration
        self.api.put({**there, "spec": {**there["spec"], **spec}})

    def condition(self, kind: str) -> Object:
        return next((c for c in self.migration.get("status", {}).get("conditions", ()) if c["type"] == kind), {})

    @property
    def job(self) -> Object:
        """The one Job that has not ended."""
        (found,) = [j for j in self.api.all("Job") if not j.get("status", {}).get("conditions")]
        return found

    def finish(self, **outcomes: Outcome) -> Object:
        """The Job that runs ends; containers that are not named do their work."""
        job = self.job
        script = self.work({"spec": job["spec"]["template"]["spec"]})
        ends = {**script.containers, **outcomes}
        failed = any(one.exit_code for one in ends.values())
        self.api.put(pod_of(job, ends))
        kind = {"type": "Failed", "reason": "PodFailurePolicy"} if failed else {"type": "Complete"}
        condition = {**kind, "status": "True", "lastTransitionTime": stamp(self.now)}
        status = {"startTime": stamp(self.now), **job.get("status", {}), "conditions": [condition]}
        return self.api.put({**job, "status": status})

    def bring_up(self) -> None:
        """Every Deployment gets its replicas."""
        for one in self.api.all("Deployment"):
            count, generation = one["spec"]["replicas"], one["metadata"]["generation"]
            available = {"type": "Available", "status": "True", "lastTransitionTime": stamp(self.now)}
            self.api.put({**one, "status": {
                "observedGeneration": generation, "updatedReplicas": count, "availableReplicas": count,
                "conditions": [available],
            }})  # fmt: skip

    def promote(self) -> None:
        """All the way to a revision that serves, and back to rest."""
        for _ in range(2):
            self.settle()
            self.finish()
        self.settle()
        self.come_to_serve()

    def come_to_serve(self) -> None:
        """What was judged gets its replicas, then the traffic, and is Ready, each after its hold."""
        self.bring_up()
        for _ in range(2):
            self.pass_time(30)
            self.settle()


def pod_of(job: Object, ends: Mapping[str, Outcome]) -> Object:
    """The pod of a Job whose containers ended so; those after one that failed never ran."""
    spec, statuses, failed = job["spec"]["template"]["spec"], [], False
    for one in (*spec.get("initContainers", ()), *spec["containers"]):
        end = ends.get(one["name"], Outcome())
        state: Object = {"waiting": {"reason": "PodInitializing"}}
        if not failed:
            reason = end.reason or ("Error" if end.exit_code else "Completed")
            state = {"terminated": {"exitCode": end.exit_code or 0, "reason": reason, "message": end.message}}
        failed = failed or bool(end.exit_code)
        statuses.append({"name": one["name"], "state": state, "restartCount": end.restarts, "image": one["image"]})
    inits = len(spec.get("initContainers", ()))
    metadata = job["spec"]["template"]["metadata"]
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata, "namespace": job["metadata"]["namespace"], "name": f"{job['metadata']['name']}-x",
            "ownerReferences": [owner],
        },
        "spec": spec,
        "status": {
            "phase": "Failed" if failed else "Succeeded", "startTime": stamp(NOW),
            "initContainerStatuses": statuses[:inits], "containerStatuses": statuses[inits:],
        },
    }  # fmt: skip
