"""Operators that die: a replica that is started again whenever it ends, in a thread or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol, Self

import yaml

from control_plane.migrations import SETTINGS
from faults.proxy import Fault, Proxy, Request
from faults.world import PATIENCE, World
from paritygate.cluster.connection import Connection
from paritygate.cluster.settings import Settings
from paritygate.handlers.main import LOST
from paritygate.handlers.operator import Deposed, Identity, Operator

QUIET: Final = 6.0
"""Seconds without a write after which a migration is taken to be at rest.

More than the operator lets pass before it tells an event again. Other tries, which it makes ever later, are waited for
as long as it takes.
"""


class Life(Protocol):
    """An operator from its start to its end."""

    def run(self) -> None:
        """Returns when it has ended; raises what it died of."""

    def end(self) -> None:
        """Has it stop in good order, also if it has not begun yet."""

    def kill(self) -> None:
        """Ends it without a word, where that can be done; what is left of it reaches nobody."""

    def idle(self) -> bool:
        """Whether it has nothing to try again, as far as that can be known from outside."""


class Crew:
    """Keeps one replica of the operator alive in a namespace, as a Deployment would: whatever dies is started again.

    Args:
        world: where.
        namespace: that it looks after, and where its Lease is.
        faults: what becomes of its requests, over all of its lives.
        name: of the replica; a container that is started again keeps its pod's name.
        settings: of the operator, beside images and namespace.
        prepare: changes what configuration cannot, of every life before it begins.
    """

    def __init__(
        self, world: World, namespace: str, faults: Callable[[Request], Fault | None] = lambda _: None,
        name: str = "replica-1", settings: Mapping[str, Any] | None = None,
        prepare: Callable[[Operator], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._world, self._namespace, self._name = world, namespace, name
        self._faults, self._prepare = faults, prepare
        self._settings = {**SETTINGS, "namespaces": [namespace], **(settings or {})}
        self.lives: list[Proxy] = []
        self.crashes: list[BaseException] = []
        """What ended lives that nobody killed."""
        self._stop = asyncio.Event()
        self._born = asyncio.Event()
        self._dying: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep())
        await self._born.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await self._task
        await asyncio.gather(*self._dying, return_exceptions=True)

    @property
    def proxy(self) -> Proxy:
        """Of the present life."""
        return self.lives[-1]

    @property
    def writes(self) -> list[Request]:
        """Of all lives."""
        return [write for life in self.lives for write in life.writes]

    async def until_leading(self) -> None:
        """Returns as soon as the API server granted it the Lease. TimeoutError: it does not."""
        async with asyncio.timeout(PATIENCE):
            while not self._leads():  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.01)

    async def rest(self, seconds: float = QUIET) -> None:
        """Returns once nothing was written for so long. AssertionError: writing does not end."""
        for _ in range(30):
            before = len(self.writes), len(self.lives)
            await asyncio.sleep(seconds)
            # What was killed last is not at rest: its successor has yet to look.
            rests = self._living.idle() and not self.proxy.killed.is_set()
            if rests and (len(self.writes), len(self.lives)) == before:
                return
        raise AssertionError(f"{self._namespace}: still written to: {[w.label for w in self.writes[-5:]]}")

    def _leads(self) -> bool:
        granted = {HTTPStatus.OK, HTTPStatus.CREATED}
        asked = (one for life in self.lives for one in life.requests)
        return any(one.plural == "leases" and one.verb != "GET" and one.status in granted for one in asked)

    async def _keep(self) -> None:
        while not self._stop.is_set():
            async with Proxy(self._world.upstream, self._faults) as proxy:
                self.lives.append(proxy)
                life = self._living = self._life(proxy)
                proxy.dies = life.kill
                ended = asyncio.ensure_future(self._world.threads(life.run))
                others = [asyncio.create_task(one.wait()) for one in (proxy.killed, self._stop)]
                self._born.set()
                await asyncio.wait([ended, *others], return_when=asyncio.FIRST_COMPLETED)
                for one in others:
                    one.cancel()
                # Of what was killed nothing reaches the API server; its remains end by themselves, for tidiness.
                life.end()
                if proxy.killed.is_set():
                    self._dying.append(ended)
                    continue
                await asyncio.wait([ended])
                if ended.exception() is not None:
                    self.crashes.append(ended.exception())

    def _life(self, proxy: Proxy) -> Life:
        connection = Connection(server=proxy.url, namespace=self._namespace)
        settings = Settings.model_validate(self._settings)
        operator = Operator(settings, connection, Identity(self._name, self._namespace, "127.0.0.1", 0))
        self._prepare(operator)
        return _Thread(operator)


class _Thread:
    """An operator in a loop of its own: kopf, when it ends, cancels every task of its loop that it does not know."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._wish = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self) -> None:
        asyncio.run(self._live())

    def end(self) -> None:
        self._wish.set()
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                loop.call_soon_threadsafe(self._stop.set)

    def kill(self) -> None:
        """Nothing of it gets past its proxy, and that is all that can be done to a thread."""

    def idle(self) -> bool:
        return self._operator._queue.idle

    async def _live(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._wish.is_set():
            return
        try:
            await self._operator.run(self._stop)
        finally:
            await asyncio.sleep(0.3)  # connections that were cut are closed in the loop's next rounds


class ProcessCrew(Crew):
    """The same with `paritygate operator` as processes, which SIGKILL ends.

    Args:
        folder: for their configuration and their logs.
        arguments: of a `Crew`, but for `prepare`.
    """

    def __init__(self, folder: Path, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._folder = folder
        self.ends: list[int] = []
        """Exit statuses; the number of a signal, negative."""

    def _life(self, proxy: Proxy) -> Life:
        return _Process(self._folder / f"{self._namespace}-{len(self.lives)}", proxy.url, self._settings, self._name,
                        self.ends)  # fmt: skip


class Ended(Exception):
    """A process ended by itself: its exit status and its log."""


class _Process:
    """`paritygate operator`."""

    def __init__(self, folder: Path, server: str, settings: Mapping[str, Any], name: str, ends: list[int]) -> None:
        folder.mkdir()
        (namespace,) = settings["namespaces"]
        config, kubeconfig = folder / "operator.yaml", folder / "kubeconfig"
        config.write_text(yaml.safe_dump(settings))
        kubeconfig.write_text(yaml.safe_dump({
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "proxy", "user": "nobody", "namespace": namespace}}],
            "current-context": "it",
        }))  # fmt: skip
        known = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "POD_"))}
        self._ends, self._log = ends, folder / "operator.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "paritygate", "operator", "--config", str(config), "--port", "0"],
                env={**known, "KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": namespace, "POD_NAME": name},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def run(self) -> None:
        status = self._process.wait()
        self._ends.append(status)
        if status == LOST:
            raise Deposed(self._log.read_text())
        if status not in {0, -signal.SIGKILL, -signal.SIGTERM}:
            raise Ended(f"{status}: {self._log.read_text()}")

    def end(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def idle(self) -> bool:
        return True
