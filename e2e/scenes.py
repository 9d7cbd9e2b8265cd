"""A namespace in which several migrations run side by side, and what scenarios ask of it.

Stories of one file share a namespace and run at once: the cluster of a bare machine has few cores, and most of a
migration's time is spent in starting pods.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import joblib
import yaml

from control_plane.client import Client, Object, condition, path_of
from suite.access import EXAMPLES, Cluster
from suite.store import Store

SECONDS: Final = 400
"""Longer than a migration takes where a dozen share two cores."""
SERVER: Final = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
"""Resources of servers: many fit beside each other, and each has one thread, as with the default limit."""
STAGE: Final = {"requests": {"cpu": "10m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}
"""Of the work in Jobs; the same."""


@dataclass(frozen=True)
class Scene:
    """A namespace that is looked after."""

    cluster: Cluster
    store: Store
    namespace: str

    @property
    def api(self) -> Client:
        """To look at what is there."""
        return self.cluster.api

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, in the namespace. AssertionError: it failed."""
        return self.cluster.kubectl(*arguments, namespace=self.namespace).stdout

    def apply(self, name: str, change: Mapping[str, Any], example: str = "migration.yaml") -> str:
        """Creates an example's migration under another name, with one small replica and a changed spec."""
        found = manifest(example)
        found["metadata"] |= {"name": name, "namespace": self.namespace}
        stages = {"convert": {"resources": STAGE}, "validate": {"resources": STAGE}}
        small = {"serving": {"replicas": 1, "resources": SERVER}, "jobs": {"retries": 0, **stages}}
        found["spec"] = merged(merged(found["spec"], small), change)
        self.api.create(found)
        return name

    def edit(self, name: str, change: Mapping[str, Any]) -> None:
        """Merges into the spec of a migration; None takes a field away."""
        self.api.patch("ModelMigration", name, self.namespace, {"spec": change})

    def until(self, name: str, reason: str, despite: str = "") -> Object:
        """The migration, as soon as its Ready has this reason.

        AssertionError: it came to something else, or to nothing. `despite`: a reason for which it may be Stalled until
        somebody looks again.
        """

        def current(found: Object) -> Object:
            ready = condition(found, "Ready")
            return ready if ready.get("observedGeneration") == found["metadata"]["generation"] else {}

        def settled(found: Object) -> bool:
            stalled = condition(found, "Stalled").get("reason", despite) != despite
            return current(found).get("reason") == reason or bool(current(found) and stalled)

        found = self.api.until("ModelMigration", name, self.namespace, settled, SECONDS)
        assert current(found)["reason"] == reason, f"{json.dumps(found['status'], indent=1)}\n{self.told(name)}"
        return found

    def running(self, name: str, container: str) -> Object:
        """The pod of a migration's Job in which a container runs, as soon as there is one."""
        label = f"paritygate.dev/migration={name},paritygate.dev/job"

        def runs(pod: Object) -> bool:
            statuses = pod.get("status", {}).get("initContainerStatuses", ())
            return any(s["name"] == container and "running" in s["state"] for s in statuses)

        found: list[Object] = []

        def look(_: Object) -> bool:
            found[:] = filter(runs, self.api.list("Pod", self.namespace, labelSelector=label))
            return bool(found)

        self.api.until("ModelMigration", name, self.namespace, look, SECONDS)
        return found[0]

    def pods(self, name: str) -> list[Object]:
        """Pods of a migration's Jobs, the oldest first."""
        label = f"paritygate.dev/migration={name},paritygate.dev/job"
        found = self.api.list("Pod", self.namespace, labelSelector=label)
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def jobs(self, name: str) -> list[Object]:
        """A migration's Jobs, the oldest first."""
        found = self.api.list("Job", self.namespace, labelSelector=f"paritygate.dev/migration={name}")
        return sorted(found, key=lambda job: job["metadata"]["creationTimestamp"])

    def serving(self, name: str) -> list[str]:
        """Kind and name of everything by which a migration could be answered for."""
        label = f"paritygate.dev/migration={name}"
        return [
            f"{kind} {found['metadata']['name']}"
            for kind in ("Deployment", "Service")
            for found in self.api.list(kind, self.namespace, labelSelector=label)
        ]

    def log(self, pod: str, container: str) -> str:
        """What a container wrote."""
        return str(self.api.request("GET", f"{path_of('Pod', self.namespace, pod)}/log", container=container))

    def told(self, name: str) -> str:
        """The end of what each container of a migration's Jobs wrote, for whoever reads of a failure."""
        found = []
        for pod in self.pods(name):
            for one in pod["status"].get("initContainerStatuses", []) + pod["status"].get("containerStatuses", []):
                if "waiting" not in one["state"]:
                    said = self.log(pod["metadata"]["name"], one["name"])[-2000:]
                    found.append(f"--- {pod['metadata']['name']} {one['name']}: {json.dumps(one['state'])}\n{said}")
        return "\n".join(found)


class Call:
    """Pickles as a call of a function, which is made while the model that holds it is loaded."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def upload(store: Store, folder: Path, models: Mapping[str, Any]) -> None:
    """Brings models to the bucket, as `e2e/NAME.joblib`."""
    (folder / "e2e").mkdir()
    for name, model in models.items():
        joblib.dump(model, folder / "e2e" / f"{name}.joblib")
    store.upload(folder)


def manifest(example: str) -> Object:
    """A manifest of the examples for clusters, to be varied."""
    found: Object = yaml.safe_load((EXAMPLES / example).read_text())
    return found


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> Object:
    """A JSON merge patch, carried out."""
    found = copy.deepcopy(dict(base))
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, Mapping):
            found[key] = merged(found.get(key) or {}, value)
        else:
            found[key] = value
    return found


@contextmanager
def at_once(stories: Mapping[str, Callable[[], Any]]) -> Iterator[Mapping[str, Future[Any]]]:
    """Stories that begin now, each in a thread; the test that is about one waits for its result."""
    with ThreadPoolExecutor(len(stories)) as pool:
        yield {name: pool.submit(story) for name, story in stories.items()}
