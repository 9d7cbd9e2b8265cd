"""One replica of the operator, from waiting for the Lease to its loss."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import kopf
from aiohttp import web
from kopf._core.engines import peering

from paritygate import clock
from paritygate.api.base import duration
from paritygate.cluster.cache import Cache
from paritygate.cluster.client import Client, Resource
from paritygate.cluster.connection import Connection
from paritygate.cluster.keys import Key
from paritygate.cluster.lease import Lease
from paritygate.cluster.queue import Priority, WorkQueue
from paritygate.cluster.reconcile import Reconciler
from paritygate.cluster.settings import Settings
from paritygate.cluster.slots import Slots
from paritygate.errors import ClusterError, UsageError
from paritygate.handlers import preflight, source
from paritygate.handlers.health import Pulse, application
from paritygate.handlers.metrics import Metrics
from paritygate.handlers.resync import WATCHED, resync

_logger = logging.getLogger(__name__)
LEASE: Final = "paritygate-operator"
_SHUTDOWN_SECONDS: Final = 20.0
_SOON: Final = (5.0, 30.0)
"""Seconds after which all is listed again, twice, once it was listed first. Watches begin later than that, on a busy
machine much later: what was deleted in between no event tells of."""


@dataclass(frozen=True)
class Identity:
    """Which replica this is, and where."""

    name: str
    namespace: str
    """Where the Lease is."""
    host: str = "0.0.0.0"  # noqa: S104 - probes come from the node
    port: int = 8081


class Deposed(Exception):
    """Another replica leads: the process must end, since it may hold what it can no longer write."""


class Operator:
    """One replica."""

    def __init__(self, settings: Settings, connection: Connection, identity: Identity) -> None:
        self._settings, self._connection, self._identity = settings, connection, identity
        self._resync = duration(settings.resync).total_seconds()
        self._cache = Cache()
        self._slots = Slots(settings.caps, lambda key: self._queue.add(key, Priority.HIGH))
        self._metrics = Metrics(
            lambda: self._slots.held, self._oldest, lambda: self._lease.leading, self._cache.migrations
        )
        self._listed: float | None = None
        self._trouble = ""
        caps = settings.caps
        self._client = Client(
            connection, rate=caps.requests_per_second, burst=caps.burst, watcher=self._metrics,
            may_write=lambda: self._lease.leading,
        )  # fmt: skip
        self._lease = Lease(
            self._client, identity.namespace, LEASE, identity.name, clock.now, clock.monotonic, self._unrenewed
        )
        self._reconciler = Reconciler(
            self._client, self._cache, settings, self._slots, clock.now, self._metrics, identity.name
        )
        self._queue: WorkQueue[Key] = WorkQueue(
            self._reconciler, workers=caps.workers, spread=random.random, hooks=self._metrics,
            failed=self._metrics.failed,
        )  # fmt: skip

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set, or a signal ends kopf.

        Raises:
            Deposed: the Lease was lost.
            ConfigurationError: it cannot work in this cluster.
            ClusterError: the API server did not answer at the start.
            UsageError: the port is taken.
        """
        async with self._client, self._answering():
            await preflight.require(self._client, self._settings.namespaces, (self._identity.namespace, LEASE))
            _logger.info("%s stands by", self._identity.name)
            acquiring = asyncio.create_task(self._lease.acquire())
            await _first(acquiring, asyncio.create_task(stop.wait()))
            if not self._lease.leading:
                return
            _logger.info("%s leads", self._identity.name)
            self._metrics.leads(clock.now())
            try:
                await self._lead(stop)
            finally:
                await self._lease.give_up()

    async def _lead(self, stop: asyncio.Event) -> None:
        await self._list(repairs=False)
        ending = asyncio.Event()
        tasks = {
            "lease": asyncio.create_task(self._lease.keep()),
            "queue": asyncio.create_task(self._queue.run()),
            "resync": asyncio.create_task(self._keep_listing()),
            "events": asyncio.create_task(self._watch(ending)),
            "stop": asyncio.create_task(stop.wait()),
        }
        try:
            await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
            if tasks["lease"].done():
                raise Deposed(f"{self._identity.name} lost the Lease")
            for name in ("queue", "resync"):
                if tasks[name].done():
                    tasks[name].result()
                    raise RuntimeError(f"{name} ended by itself")
            if tasks["events"].done():
                # Without an error kopf ends only for a signal, whose handler it puts in place of ours.
                tasks["events"].result()
        finally:
            self._queue.stop()
            ending.set()
            tasks["resync"].cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait([tasks["queue"], tasks["events"]], timeout=_SHUTDOWN_SECONDS)
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    def _unrenewed(self, error: ClusterError) -> None:
        said = str(error)
        if said != self._trouble:
            _logger.warning("the Lease %s cannot be renewed; it is tried again: %s", LEASE, said)
        self._trouble = said

    async def _list(self, *, repairs: bool) -> None:
        """ClusterErrors pass: without a first listing nothing may be judged.

        `repairs`: whether events should have told of what is found.
        """
        found = await resync(self._client, self._cache, self._settings.namespaces)
        for key in found.keys:
            # A manifest that nobody has looked at is what somebody did, and does not wait behind runs that go on.
            self._queue.add(key, Priority.LOW if self._cache.observed(key) else Priority.HIGH)
        self._metrics.listed(clock.now(), len(found.changed) if repairs else 0)
        self._listed = clock.monotonic()

    async def _keep_listing(self) -> None:
        for seconds in _SOON:
            await self._list_after(min(seconds, self._resync), repairs=False)
        while True:
            await self._list_after(self._resync, repairs=True)

    async def _list_after(self, seconds: float, *, repairs: bool) -> None:
        # Spread, so that operators of many clusters, or restarts, do not list in step.
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
        try:
            await self._list(repairs=repairs)
        except ClusterError as error:
            _logger.warning("the listing failed and is tried again: %s", error)

    async def _watch(self, ending: asyncio.Event) -> None:
        namespaces = self._settings.namespaces
        await kopf.operator(
            registry=self._registry(),
            memories=source.Forgetful(),
            standalone=True,
            # Else kopf asks for the name of our user, and users of images have none.
            identity=peering.Identity(self._identity.name),
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=ending,
        )

    def _registry(self) -> Any:
        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        async def _configure(settings: kopf.OperatorSettings, **_: Any) -> None:
            source.configure(settings, namespaced=bool(self._settings.namespaces))

        @kopf.on.login(registry=registry)
        def _login(**_: Any) -> kopf.ConnectionInfo:
            return _kopf_connection(self._connection)

        for resource in WATCHED:
            self._observe(registry, resource)
        return registry

    def _observe(self, registry: Any, resource: Resource) -> None:
        @kopf.on.event(
            resource.group, resource.version, resource.plural, registry=registry, id=f"observe-{resource.plural}"
        )
        async def _seen(event: Any, **_: Any) -> None:
            """No I/O, and nothing that could raise: kopf drops what fails here."""
            item = {"apiVersion": resource.api_version, "kind": resource.kind, **dict(event["object"])}
            key = self._cache.apply(event["type"], item)
            if key is not None:
                self._queue.add(key, Priority.LOW if event["type"] is None else Priority.HIGH)

    def _oldest(self) -> float:
        return self._queue.oldest()

    def _pulse(self) -> Pulse:
        ago = None if self._listed is None else clock.monotonic() - self._listed
        return Pulse(self._lease.leading, ago, 3 * self._resync, self._oldest())

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        runner = web.AppRunner(application(self._pulse, self._metrics.text), access_log=None)
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._identity.host, self._identity.port).start()
            except OSError as error:
                raise UsageError(
                    f"--port {self._identity.port} cannot be listened at ({error}); name another"
                ) from error
            yield
        finally:
            await runner.cleanup()


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Returns when one is done, with the others cancelled; raises what that one raised."""
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done:
        task.result()


def _kopf_connection(found: Connection) -> kopf.ConnectionInfo:
    token = found.authorization().get("Authorization", "").removeprefix("Bearer ")
    return kopf.ConnectionInfo(
        server=found.server,
        ca_data=found.ca,
        insecure=found.insecure,
        certificate_data=found.certificate,
        private_key_data=found.key,
        token=token or None,
        # Bound tokens are replaced by the kubelet; kopf then asks for the newer one.
        expiration=clock.now() + timedelta(minutes=10) if found.token_file else None,
    )
