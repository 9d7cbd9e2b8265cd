"""One pod carried out by processes, in the order and with the meaning that Kubernetes gives to its parts."""

import asyncio
import contextlib
import http.client
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from control_plane.podstatus import PodStatus
from control_plane.sandbox import Sandbox
from control_plane.scripts import Outcome
from paritygate import clock

if TYPE_CHECKING:
    from control_plane.machine import Machine

Object = Mapping[str, Any]
Write = Callable[[], Awaitable[None]]
_FIRST_BACKOFF: Final = 10.0
_BLOCK: Final = 1 << 16


class PodWork:
    """The work of one pod. All but `forward` is called in the kubelet's event loop."""

    def __init__(self, pod: Object, machine: "Machine") -> None:
        self._pod, self._machine = pod, machine
        self._spec = pod["spec"]
        self.folder: Path = machine.folder_of(pod)
        self._containers = {c["name"]: c for c in (*self._spec.get("initContainers", ()), *self._spec["containers"])}
        self._running: set[str] = set()
        self._began: dict[str, float] = {}
        self._sandbox: Sandbox | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.seconds: dict[str, float] = {}
        """How long each container ran, the last time."""

    async def live_through(self, status: PodStatus, write: Write) -> None:
        """From the first container to the last, which for a pod that serves is when it is stopped."""
        self._status, self._write = status, write
        self._loop = asyncio.get_running_loop()
        self._volumes = self._machine.volumes(self._pod)
        sandbox = Sandbox(self.folder)
        await sandbox.open()
        self._sandbox = sandbox
        for name in status.init_order:
            if name in status.sidecars:
                if not await self._begin(name):
                    return
                self._keep(name)
            elif not await self._succeeds(name):
                return
        status.ready = not any("readinessProbe" in self._containers[name] for name in status.mains)
        begun = [await self._begin(name) for name in status.mains]
        if not all(begun):
            return
        if self._spec.get("restartPolicy", "Always") == "Always":
            for name in status.mains:
                self._keep(name)
                self._probe(name)
            await asyncio.gather(*self._tasks)
            return
        await asyncio.gather(*(self._finish(name) for name in status.mains))
        await self.stop()
        status.concludes()
        await self._write()
        self.close()

    async def stop(self, seconds: float | None = None) -> None:
        """Asks main containers to end, then sidecars in reverse order, and insists when the pod's patience ends."""
        self._stopping = True
        if self._sandbox is None:
            return
        patience = self._spec.get("terminationGracePeriodSeconds", 30) if seconds is None else seconds
        ends = clock.monotonic() + patience
        sidecars = [name for name in reversed(self._status.init_order) if name in self._status.sidecars]
        others = [name for name in self._containers if name not in sidecars]
        for together in (others, *([name] for name in sidecars)):
            running = [name for name in together if name in self._running]
            for name in running:
                self._inside.signal(name, signal.SIGTERM)
            await asyncio.gather(*(self._finish(name, max(0.0, ends - clock.monotonic())) for name in running))

    def close(self) -> None:
        """Ends what still runs, and takes its volumes away. Logs stay until the machine is left."""
        for task in self._tasks:
            task.cancel()
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
        shutil.rmtree(self.folder / "volumes", ignore_errors=True)

    def log(self, container: str) -> str:
        """What a container wrote."""
        return (self.folder / "logs" / container).read_text(errors="replace")

    def forward(self, port: int) -> "Forward":
        """The pod's port on this machine's loopback, as `kubectl port-forward` gives it. From another thread."""
        return Forward(self._loop, lambda: self._inside.connect(port))

    @property
    def _inside(self) -> Sandbox:
        if self._sandbox is None:
            raise RuntimeError(f"pod {self._pod['metadata']['name']} does not run")
        return self._sandbox

    async def _begin(self, name: str, restarts: int = 0, before: Outcome | None = None) -> bool:
        """Whether the container could be started."""
        container = self._containers[name]
        if container["image"] not in self._machine.images:
            self._status.waits(name, "ImagePullBackOff", f'Back-off pulling image "{container["image"]}"')
            await self._write()
            return False
        process = self._machine.process(self._pod, container, self._volumes)
        self._began[name] = clock.monotonic()
        self._inside.start(process)
        self._running.add(name)
        last = before or Outcome()
        ready = "readinessProbe" not in container
        self._status.runs(
            name, Outcome(exit_code=last.exit_code, reason=last.reason, message=last.message, restarts=restarts,
                          ready=ready or name in self._status.mains)
        )  # fmt: skip
        await self._write()
        return True

    async def _ended(self, name: str) -> Outcome:
        """What a container came to, with the last word that it left."""
        ended = await self._inside.ended(name)
        self.seconds[name] = clock.monotonic() - self._began[name]
        self._running.discard(name)
        said = self.folder / "termination" / name
        message = said.read_bytes().decode(errors="replace")
        return Outcome(exit_code=ended.code, message=message, reason="OOMKilled" if ended.out_of_memory else "")

    async def _finish(self, name: str, patience: float | None = None) -> None:
        """Waits for a container's end, which is noted; after `patience` seconds it is killed."""
        ending = asyncio.ensure_future(self._ended(name))
        done, _ = await asyncio.wait([ending], timeout=patience)
        if not done:
            self._inside.signal(name, signal.SIGKILL)
        self._status.ends(name, await ending)
        await self._write()

    async def _succeeds(self, name: str) -> bool:
        """Carries out an init container; whether the pod goes on."""
        restarts, last = 0, None
        while True:
            if not await self._begin(name, restarts, last):
                return False
            outcome = await self._ended(name)
            if outcome.exit_code == 0:
                self._status.ends(name, outcome)
                await self._write()
                return True
            if not self._status.restarts:
                self._status.ends(name, outcome)
                await self.stop()
                self._status.concludes()
                await self._write()
                self.close()
                return False
            last = await self._wait_to_restart(name, outcome, restarts)
            restarts += 1

    async def _wait_to_restart(self, name: str, outcome: Outcome, restarts: int) -> Outcome:
        self._status.crashes(name, Outcome(outcome.exit_code, outcome.message, outcome.reason, restarts=restarts))
        await self._write()
        if restarts:  # the first time, the kubelet does not wait
            await asyncio.sleep(_FIRST_BACKOFF * 2 ** min(restarts - 1, 5))
        return outcome

    def _keep(self, name: str) -> None:
        """Starts the container again whenever it ends."""

        async def keep() -> None:
            restarts = 0
            while True:
                outcome = await self._ended(name)
                if self._stopping:
                    return
                await self._wait_to_restart(name, outcome, restarts)
                restarts += 1
                await self._begin(name, restarts, outcome)

        self._start(keep())

    def _probe(self, name: str) -> None:
        container = self._containers[name]
        ports = {port.get("name"): port["containerPort"] for port in container.get("ports", ())}

        async def readiness(probe: Object) -> None:
            failures = 0
            while not self._stopping:
                passed = await self._asked(probe, ports)
                failures = 0 if passed else failures + 1
                ready = passed or (self._status.ready and failures < probe.get("failureThreshold", 3))
                if ready != self._status.ready:
                    self._status.ready = ready
                    await self._write()
                await asyncio.sleep(probe.get("periodSeconds", 10))

        async def liveness(probe: Object) -> None:
            failures = 0
            while not self._stopping:
                await asyncio.sleep(probe.get("periodSeconds", 10))
                failures = 0 if await self._asked(probe, ports) else failures + 1
                if failures >= probe.get("failureThreshold", 3):
                    self._inside.signal(name, signal.SIGTERM)
                    failures = 0

        for kind, check in (("readinessProbe", readiness), ("livenessProbe", liveness)):
            if kind in container:
                self._start(check(container[kind]))

    async def _asked(self, probe: Object, ports: Mapping[str | None, int]) -> bool:
        """Whether an HTTP probe is answered well."""
        asked = probe["httpGet"]
        connection = await self._inside.connect(ports.get(asked["port"], asked["port"]))
        if connection is None:
            return False
        return await asyncio.to_thread(_answers_well, connection, asked["path"], probe.get("timeoutSeconds", 1))

    def _start(self, work: Any) -> None:
        self._tasks.append(self._loop.create_task(work))


def _answers_well(connection: socket.socket, path: str, seconds: float) -> bool:
    asking = http.client.HTTPConnection("127.0.0.1")
    asking.sock = connection
    connection.settimeout(seconds)
    with contextlib.closing(asking):
        try:
            asking.request("GET", path)
            return 200 <= asking.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False


class Forward:
    """A port of this machine's loopback that leads into a pod, while it is entered; gives host and port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connect: Callable[[], Awaitable[socket.socket | None]]) -> None:
        self._loop, self._connect = loop, connect
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> str:
        async def listen() -> None:
            self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(30)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(30)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.closing(writer):
            inside = await self._connect()
            if inside is None:
                return
            far_reader, far_writer = await asyncio.open_connection(sock=inside)
            with contextlib.closing(far_writer):
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(_BLOCK):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
