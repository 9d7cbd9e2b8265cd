"""A stand-in for the kubelet: pods on the one node do what a test scripts, or are carried out as processes.

It reads and writes exactly what a kubelet would through the API: pods that the scheduler has bound, their status, and
their end when somebody deletes them. Everything else is done by the real controllers.
"""

import asyncio
import itertools
import json
import ssl
import threading
from collections.abc import Container, Mapping
from typing import Any, Final, Self

import aiohttp
import pytest

from control_plane.client import STRATEGIC, path_of
from control_plane.plane import ControlPlane
from control_plane.podstatus import PodStatus
from control_plane.podwork import PodWork
from control_plane.scripts import Director, Outcome, Script
from paritygate import clock

_GONE: Final = frozenset({404, 409})
"""The pod does not exist any more, or another has its name."""
_POLL_SECONDS: Final = 0.01
_CLOSE_SECONDS: Final = 2.0
_CONNECTIONS: Final = 32


class Kubelet:
    """Completes the pods of one namespace, or of all, while it is entered. Errors of its own are raised at the end."""

    def __init__(
        self, plane: ControlPlane, namespace: str | None, director: Director = lambda _: Script(), *,
        steps: bool = True, only: Container[str] | None = None,
    ) -> None:  # fmt: skip
        """`steps`: every state that a container passes is written; without, only states that last, and the ends.

        `only`: of all namespaces, those whose pods it completes; may grow.
        """
        self._plane = plane
        self._only = only
        self._namespace = namespace
        self.director = director
        """May be exchanged at any time; it counts for pods that are seen later."""
        self._steps = steps
        self._pods: dict[str, _Pod] = {}
        self._addresses = itertools.count(1)
        self._failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: list[str] = []
        """Names of all pods so far."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._watching = threading.Event()

    def __enter__(self) -> Self:
        if self._plane.node is None:
            pytest.skip("pods of this cluster are completed by its own kubelets, not as a test says")
        self._thread.start()
        assert self._watching.wait(30) or not self._failures, self._failures
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()
        self._loop.close()
        if self._failures:
            raise ExceptionGroup(
                "The stand-in for the kubelet failed", [e for e in self._failures if isinstance(e, Exception)]
            )

    def set_ready(self, name: str, ready: bool) -> None:
        """Lets a running pod pass or fail its readiness probe."""

        async def change() -> None:
            for pod in self._pods.values():
                if pod.name == name:
                    pod.status.ready = ready
                    await self._write(pod)

        asyncio.run_coroutine_threadsafe(change(), self._loop).result(30)

    def until_seen(self, count: int, seconds: float = 30) -> None:
        """Returns as soon as so many pods were bound to the node. AssertionError: they were not."""
        ends = clock.monotonic() + seconds
        while len(self.seen) < count:
            assert clock.monotonic() < ends, f"{len(self.seen)} pods of {count} after {seconds} s: {self.seen}"
            threading.Event().wait(_POLL_SECONDS)

    def _serve(self) -> None:
        self._main = self._loop.create_task(self._live())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised where the test leaves us
            self._failures.append(error)
        finally:
            self._watching.set()
            # Connections that were cut in the middle of a handshake are closed in the loop's next rounds; what is left
            # at the end is the pipe by which the loop wakes itself.
            ends = clock.monotonic() + _CLOSE_SECONDS
            while len(self._loop._selector.get_map()) > 1 and clock.monotonic() < ends:
                self._loop.run_until_complete(asyncio.sleep(_POLL_SECONDS))
            self._loop.run_until_complete(asyncio.sleep(_POLL_SECONDS))

    async def _live(self) -> None:
        context = ssl.create_default_context(cafile=str(self._plane.authority))
        if self._plane.certificate:
            context.load_cert_chain(*map(str, self._plane.certificate))
        headers = {"Authorization": f"Bearer {self._plane.token}"} if self._plane.token else {}
        connector = aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(
            self._plane.url, connector=connector, headers=headers, timeout=timeout
        ) as http:
            self._http = http
            try:
                await self._follow()
            finally:
                for task in self._tasks:
                    task.cancel()
                if self._tasks:
                    await asyncio.wait(self._tasks)
                for pod in self._pods.values():
                    pod.close()

    async def _follow(self) -> None:
        while True:
            try:
                await self._watch()
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, _Outdated):
                # A test may stop the API server; pods are listed anew.
                await asyncio.sleep(_POLL_SECONDS)

    async def _watch(self) -> None:
        parameters = {"fieldSelector": f"spec.nodeName={self._plane.node}"}
        async with self._http.get(path_of("Pod", self._namespace), params=parameters) as answer:
            listed = await answer.json()
            if not answer.ok:
                raise aiohttp.ClientConnectionError(str(listed))
        there = {pod["metadata"]["uid"] for pod in listed["items"]}
        for uid in self._pods.keys() - there:
            self._forget(uid)
        for pod in listed["items"]:
            self._see(pod)
        parameters |= {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self._http.get(path_of("Pod", self._namespace), params=parameters) as answer:
            self._watching.set()
            rest = b""
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))

    def _hear(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "ERROR":
            raise _Outdated(str(event["object"]))
        if event["type"] == "DELETED":
            self._forget(event["object"]["metadata"]["uid"])
        else:
            self._see(event["object"])

    def _see(self, seen: Mapping[str, Any]) -> None:
        uid = seen["metadata"]["uid"]
        if self._only is not None and seen["metadata"]["namespace"] not in self._only:
            return
        pod = self._pods.get(uid)
        if pod is None:
            number = next(self._addresses)
            status = PodStatus(seen, f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
            pod = self._pods[uid] = _Pod(seen, status)
            self.seen.append(pod.name)
            if seen["status"].get("phase") in ("Succeeded", "Failed"):
                status.phase = seen["status"]["phase"]
            elif "deletionTimestamp" not in seen["metadata"]:
                pod.task = self._start(self._carry_through(pod, self.director(seen)))
        if "deletionTimestamp" in seen["metadata"] and not pod.stopping:
            pod.stopping = True
            if pod.task:
                pod.task.cancel()
            self._start(self._stop(pod))

    def _forget(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod and pod.task:
            pod.task.cancel()
        if pod:
            pod.close()

    def _start(self, work: Any) -> "asyncio.Task[None]":
        task = self._loop.create_task(work)
        task.add_done_callback(self._note)
        self._tasks.add(task)
        return task

    def _note(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failures.append(task.exception())  # type: ignore[arg-type]

    async def _carry_through(self, pod: "_Pod", script: Script | PodWork) -> None:
        if isinstance(script, Script):
            await self._live_through(pod, script)
            return
        pod.work = script
        await script.live_through(pod.status, lambda: self._write(pod))

    async def _live_through(self, pod: "_Pod", script: Script) -> None:
        status = pod.status
        await asyncio.sleep(script.delay)
        for name in status.init_order:
            outcome = script.containers.get(name, status.default(name))
            if name in status.sidecars:
                if not await self._begin(pod, name, outcome):
                    return
            elif not await self._carry_out(pod, name, outcome):
                return
        outcomes = {name: script.containers.get(name, status.default(name)) for name in status.mains}
        ended = await asyncio.gather(
            *(self._carry_out(pod, name, outcome, main=True) for name, outcome in outcomes.items())
        )
        if all(ended) and not status.is_done():
            status.concludes()
            await self._write(pod)

    async def _begin(self, pod: "_Pod", name: str, outcome: Outcome) -> bool:
        """Whether the container could be started."""
        if outcome.waiting:
            pod.status.waits(name, *outcome.waiting)
            await self._write(pod)
            return False
        pod.status.runs(name, outcome)
        if self._steps or not outcome.passes_at_once:
            await self._write(pod)
        return True

    async def _carry_out(self, pod: "_Pod", name: str, outcome: Outcome, *, main: bool = False) -> bool:
        """Whether the pod goes on after this container."""
        status = pod.status
        if not await self._begin(pod, name, outcome):
            return False
        await asyncio.sleep(outcome.seconds)
        while outcome.until is not None and not outcome.until.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(_POLL_SECONDS)
        if outcome.evicts:
            status.is_evicted(outcome.evicts, disruption=outcome.disruption)
            await self._write(pod)
            return False
        if outcome.exit_code is None:
            return False
        if status.restarts and (outcome.exit_code or status.default(name).exit_code is None):
            status.crashes(name, outcome)
            await self._write(pod)
            return False
        status.ends(name, outcome)
        if outcome.exit_code and not main:
            status.concludes()
            await self._write(pod)
            return False
        if self._steps:
            await self._write(pod)
        return True

    async def _stop(self, pod: "_Pod") -> None:
        if pod.work:
            await pod.work.stop()
            pod.work.close()
        if not pod.status.is_done():
            pod.status.concludes()
            await self._write(pod)
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": pod.uid}}
        async with self._http.delete(pod.path, json=body) as answer:
            if not answer.ok and answer.status not in _GONE:
                raise RuntimeError(f"{pod.name} cannot be deleted: {await answer.text()}")

    async def _write(self, pod: "_Pod") -> None:
        # The uid is a precondition: a pod that was made anew under the same name is another.
        body = {"metadata": {"uid": pod.uid}, "status": pod.status.patch()}
        while True:
            try:
                async with self._http.patch(
                    f"{pod.path}/status", data=json.dumps(body), headers={"Content-Type": STRATEGIC}
                ) as answer:
                    if answer.ok or answer.status in _GONE:
                        return
                    if answer.status < 500 and answer.status != 429:
                        raise RuntimeError(f"{pod.name}: status refused: {await answer.text()}")
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(_POLL_SECONDS)


class _Outdated(Exception):
    """The watch cannot go on from where it was."""


class _Pod:
    def __init__(self, seen: Mapping[str, Any], status: PodStatus) -> None:
        metadata = seen["metadata"]
        self.name, self.uid, self.status = metadata["name"], metadata["uid"], status
        self.path = path_of("Pod", metadata["namespace"], self.name)
        self.task: asyncio.Task[None] | None = None
        self.stopping = False
        self.work: PodWork | None = None

    def close(self) -> None:
        """Ends its processes at once, if it has any."""
        if self.work:
            self.work.close()
