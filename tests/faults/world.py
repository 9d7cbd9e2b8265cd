"""Many migrations in an event loop: namespaces, what is in them, and pods that do as scripted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import secrets
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self, TypeVar

from control_plane.client import KINDS, MERGE, path_of
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, migration
from control_plane.plane import ControlPlane
from control_plane.scripts import Script
from faults.auditor import AUDITED, Auditor, Object
from faults.proxy import Upstream

T = TypeVar("T")
PATIENCE: Final = 150.0
OPERATORS: Final = 128
"""At a time, at most."""
_VOLATILE: Final = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "selfLink")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HASH: Final = re.compile(r"\b[0-9a-f]{8}(?:[0-9a-f]{56})?\b")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_RBAC_LABELS: Final = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


class Failed(Exception):
    """The API server refused what the test wrote."""


class Evidence(Work):
    """Work that remembers which messages are true."""

    def __init__(self, true: set[str]) -> None:
        super().__init__()
        self._true = true

    def published(self, order: Any) -> str:
        message = super().published(order)
        self._true.add(message)
        return message


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a loop of its own, outside of the main thread: kopf would take over the signals there."""
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised where the test waits
            errors.append(error)

    thread = threading.Thread(target=run)
    with warnings.catch_warnings():
        # What is killed leaves connections open, as a process leaves them to the kernel.
        warnings.simplefilter("ignore", ResourceWarning)
        thread.start()
        thread.join()
        gc.collect()
    if errors:
        raise errors[0]
    return result[0]


async def together(*stories: Coroutine[Any, Any, T]) -> list[T]:
    """What stories come to, all at once. Where one fails the others end in good order, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(story) for story in stories]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


class World:
    """Namespaces of one test and all that is in them, as the API server tells it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.namespaces: set[str] = set()
        self.true: set[str] = set()
        self.auditor = Auditor(self.true.__contains__)
        self.works: defaultdict[str, Evidence] = defaultdict(lambda: Evidence(self.true))
        """What Jobs come to, by namespace, or by migration as `namespace/name`."""
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._tasks: list[asyncio.Task[None]] = []
        self._pool = ThreadPoolExecutor(OPERATORS)

    def threads(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Does something in a thread of its own."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            self.upstream = await stack.enter_async_context(Upstream(self.plane))
            stack.enter_context(Kubelet(self.plane, None, self._directs, steps=False, only=self.namespaces))
            self._tasks = [asyncio.create_task(self._follow(kind)) for kind in AUDITED]
            stack.push_async_callback(self._end)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        self._pool.shutdown()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._discard(one) for one in self.namespaces))

    def _directs(self, pod: Mapping[str, Any]) -> Script:
        metadata = pod["metadata"]
        own = f"{metadata['namespace']}/{metadata['labels'].get('paritygate.dev/migration')}"
        return self.works[own if own in self.works else metadata["namespace"]](pod)

    async def _follow(self, kind: str) -> None:
        path, version = path_of(kind), KINDS[kind.lower()][0]
        listed = await self.ask("GET", path, query={"limit": "1"})
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self.upstream.http.get(path, params=query) as answer:
            async for line in answer.content:
                event = json.loads(line)
                item = {"apiVersion": version, "kind": kind, **event["object"]}
                metadata = item["metadata"]
                if metadata["namespace"] not in self.namespaces:
                    continue
                key = kind, metadata["namespace"], metadata["name"]
                if event["type"] == "DELETED":
                    self._objects.pop(key, None)
                else:
                    self._objects[key] = item
                self.auditor.see(event["type"], item)
                self._changed[metadata["namespace"]].set()

    async def ask(
        self, verb: str, path: str, body: Any = None, content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """One request of the test's own. Failed: it was refused."""
        sent = None if body is None else json.dumps(body)
        headers = {"Content-Type": content}
        async with self.upstream.http.request(verb, path, data=sent, headers=headers, params=query) as answer:
            found = await answer.json()
            if not answer.ok:
                raise Failed(f"{verb} {path}: {found.get('message')}")
            return found

    async def namespace(self) -> str:
        """A new namespace that enforces the `restricted` Pod Security Standard, with the Secret of the store."""
        name = f"test-{secrets.token_hex(5)}"
        self.namespaces.add(name)
        await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RBAC_LABELS}})
        secret = {"name": "store", "namespace": name, "labels": {"paritygate.dev/allowed": "true"}}
        await self.create({"apiVersion": "v1", "kind": "Secret", "metadata": secret})
        while True:  # pods are refused until it is there
            with contextlib.suppress(Failed):
                await self.ask("GET", path_of("ServiceAccount", name, "default"))
                return name
            await asyncio.sleep(0.05)

    async def _discard(self, namespace: str) -> None:
        """Deletes a namespace with its pods, which nobody stops any more; does not wait for it."""
        await self.ask("DELETE", path_of("Namespace", None, namespace))
        await self.ask("DELETE", path_of("Pod", namespace), {"gracePeriodSeconds": 0})

    async def create(self, item: Object) -> Object:
        found: Object = await self.ask("POST", path_of(item["kind"], item["metadata"].get("namespace")), item)
        return found

    async def edit(self, namespace: str, name: str, **spec: Any) -> int:
        """Changes the spec of a migration; its generation from then on."""
        path = path_of("ModelMigration", namespace, name)
        return int((await self.ask("PATCH", path, {"spec": spec}, MERGE))["metadata"]["generation"])

    async def delete(self, kind: str, namespace: str, name: str, *, grace: int | None = None) -> None:
        body = {"propagationPolicy": "Background"} | ({} if grace is None else {"gracePeriodSeconds": grace})
        await self.ask("DELETE", path_of(kind, namespace, name), body)

    def of(self, kind: str, namespace: str) -> list[Object]:
        """What there is of a kind, as far as we were told."""
        return [item for (one, there, _), item in sorted(self._objects.items()) if (one, there) == (kind, namespace)]

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        return self._objects.get((kind, namespace, name))

    async def until(
        self, namespace: str, what: str, holds: Callable[[], T | None], seconds: float = PATIENCE,
        name: str | None = None,
    ) -> T:  # fmt: skip
        """What `holds` gives as soon as it is true. AssertionError: it does not come to that."""
        ends = asyncio.get_running_loop().time() + seconds
        while not (found := holds()):
            left = ends - asyncio.get_running_loop().time()
            assert left > 0, f"{namespace}: not within {seconds} s: {what}\n{self._described(namespace, name)}"
            self._changed[namespace].clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed[namespace].wait(), min(left, 1.0))
        return found

    async def until_ready(
        self, namespace: str, reason: str, generation: int = 1, name: str = "churn", seconds: float = PATIENCE
    ) -> Object:
        """The migration once its condition Ready has this reason for this generation."""

        def ready() -> Object | None:
            found = self.find("ModelMigration", namespace, name)
            conditions = (found or {}).get("status", {}).get("conditions", ())
            told = {(c["reason"], c.get("observedGeneration")) for c in conditions if c["type"] == "Ready"}
            return found if (reason, generation) in told else None

        return await self.until(namespace, f"{name} is {reason} at generation {generation}", ready, seconds, name)

    def _described(self, namespace: str, name: str | None) -> str:
        """What there is in the namespace, or of one migration in it: Jobs and pods first, a line each."""
        lines = []
        for kind in ("Job", "Pod", "ModelMigration"):
            for item in self.of(kind, namespace):
                metadata = item["metadata"]
                if name in {None, metadata["name"], metadata.get("labels", {}).get("paritygate.dev/migration")}:
                    told = {key: value for key, value in metadata.items() if key not in {"labels", "managedFields"}}
                    lines.append(f"{kind} {json.dumps(told)} {json.dumps(item.get('status'))}")
        return "\n".join(lines)

    async def told(self, namespace: str) -> Counter[str]:
        """Which events there are, by reason."""
        found = await self.ask("GET", path_of("Event", namespace))
        ours = (one for one in found["items"] if one.get("reportingComponent") == "paritygate.dev/operator")
        return Counter(one["reason"] for one in ours)

    def normalised(self, namespace: str, name: str = "churn") -> dict[str, Any]:
        """The end state without what differs between two runs of the same: digests and names by chance, times.

        Digests follow from the name of the migration: each is replaced by the order in which it comes first.
        """
        items = [
            _plain(item)
            for kind in AUDITED
            if kind != "Pod"
            for item in self.of(kind, namespace)
            if name in {item["metadata"]["name"], item["metadata"].get("labels", {}).get("paritygate.dev/migration")}
        ]
        text = json.dumps(sorted(items, key=_place), sort_keys=True)
        for given, instead in ((namespace, "NAMESPACE"), (name, "NAME")):
            text = text.replace(given, instead)
        text = _TIME.sub("TIME", _UUID.sub("UID", text))
        seen: dict[str, str] = {}
        text = _HASH.sub(lambda match: seen.setdefault(match[0][:8], f"HASH{len(seen)}"), text)
        return {f"{number} {item['kind']}": item for number, item in enumerate(json.loads(text))}


def differences(one: Any, other: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two trees of JSON differ: the values there, by path; None = there is nothing."""
    if isinstance(one, dict) and isinstance(other, dict):
        parts = [(str(key), one.get(key), other.get(key)) for key in sorted({*one, *other})]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        parts = [(str(number), *pair) for number, pair in enumerate(zip(one, other, strict=True))]
    else:
        return {} if one == other else {path: (one, other)}
    return {where: pair for key, *pair in parts for where, pair in differences(*pair, f"{path}/{key}").items()}


def _place(item: Object) -> tuple[int, Any]:
    """An order that does not depend on digests."""
    labels = item["metadata"].get("labels", {})
    attempt = int(labels.get("paritygate.dev/attempt", "0"))
    return AUDITED.index(item["kind"]), (
        labels.get("paritygate.dev/job"),
        item["metadata"]["annotations"].get("paritygate.dev/generation"),
        attempt,
    ) if item["kind"] == "Job" else ()


def _plain(item: Object) -> Object:
    metadata = {k: v for k, v in item["metadata"].items() if k not in _VOLATILE}
    plain = {**item, "metadata": metadata}
    if item["kind"] == "Service":
        plain["spec"] = {k: v for k, v in item["spec"].items() if not k.startswith("clusterIP")}
    if item["kind"] == "Job":
        plain["status"] = sorted(c["type"] for c in item["status"].get("conditions", ()) if c["status"] == "True")
    elif item["kind"] == "ModelMigration":
        plain["status"] = item["status"]
    else:
        plain.pop("status", None)
    return plain


@contextlib.asynccontextmanager
async def migrating(plane: ControlPlane) -> AsyncIterator[World]:
    """A world whose history is judged at its end. AssertionError: an invariant did not hold."""
    async with World(plane) as world:
        yield world
        found = {one: world.auditor.violations(one) for one in world.namespaces}
        found = {one: wrong for one, wrong in found.items() if wrong}
        assert not found, json.dumps(found, indent=1)


async def first_migration(
    world: World, namespace: str, name: str = "churn", seconds: float = PATIENCE, **spec: Any
) -> None:
    """From the manifest to traffic, which may take so long."""
    await world.create(migration(namespace, name, **spec))
    await world.until_ready(namespace, "Promoted", 1, name, seconds)


async def whole_migration(world: World, namespace: str, name: str = "churn", **spec: Any) -> None:
    """From the manifest to traffic; then another model takes over and the first revision goes."""
    await first_migration(world, namespace, name, **spec)
    generation = await world.edit(namespace, name, source={"format": "SKLearn", "uri": "s3://models/better.pkl"})
    await world.until_ready(namespace, "Promoted", generation, name)
    revisions = Counter()

    def alone() -> bool:
        nonlocal revisions
        revisions = Counter(
            d["metadata"]["labels"]["paritygate.dev/migration"] for d in world.of("Deployment", namespace)
        )
        return revisions[name] == 1

    await world.until(namespace, f"{name} has one revision", alone)
