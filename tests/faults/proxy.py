"""A reverse proxy on loopback between one operator and the API server, which makes requests fail as a test says.

Nothing of the operator is replaced: connections are cut, answers lost, delayed or made up, and watches frozen, cut or
disturbed. The operator speaks HTTP to it; towards the API server it speaks TLS, as the plane's administrator.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

from control_plane.plane import ControlPlane
from paritygate import clock

_PATH: Final = re.compile(
    r"/(?:api|apis/[^/]+)/v[^/]+(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?"
)
_HASH: Final = re.compile(r"\b[0-9a-f]{8,}\b")
_LONGEST_LINE: Final = 4 * 2**20
_GONE: Final = {
    "type": "ERROR",
    "object": {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version",
    },
}  # fmt: skip


@dataclass
class Request:
    """A request of the operator that is no watch."""

    verb: str
    plural: str
    namespace: str | None
    name: str
    label: str
    """What it does, alike in every run: verb, kind, and what tells it from others of the kind."""
    at: float
    """Seconds of the monotonic clock."""
    status: int = 0
    """Of the API server's answer; 0 = it was not asked, or has not answered yet."""

    @property
    def writes(self) -> bool:
        """Whether it may change something other than the Lease, or tries whether it could."""
        return self.verb != "GET" and self.plural not in {"leases", "selfsubjectaccessreviews"}


@dataclass(frozen=True)
class Fault:
    """What becomes of a request."""

    delivers: bool
    """Whether the API server gets it."""
    status: int | None = None
    """Of an answer that is made up; None = the connection is cut."""
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "as a test says"
    """In the answer that is made up."""
    kills: bool = False
    """Whether the operator dies of it."""
    hangs: bool = False
    """Whether it is never answered, until the client has enough."""
    waits: asyncio.Event | None = None
    """What must happen before it is delivered, and answered truly."""


KILL_BEFORE: Final = Fault(delivers=False, kills=True)
KILL_AFTER: Final = Fault(delivers=True, kills=True)
LOST: Final = Fault(delivers=True)
"""The API server did it, and nobody hears of it."""
CUT: Final = Fault(delivers=False)
HANG: Final = Fault(delivers=True, hangs=True)
"""The API server did it, and says nothing."""


class Upstream:
    """The API server, for every proxy of an event loop."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    async def __aenter__(self) -> Self:
        tls = ssl.create_default_context(cafile=str(self._plane.authority))
        if self._plane.certificate:
            tls.load_cert_chain(*map(str, self._plane.certificate))
        self.http = aiohttp.ClientSession(
            self._plane.url, connector=aiohttp.TCPConnector(ssl=tls, limit=0), read_bufsize=_LONGEST_LINE,
            headers={"Authorization": f"Bearer {self._plane.token}"} if self._plane.token else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()
        await asyncio.sleep(0.1)  # connections end in the loop's next rounds


class Proxy:
    """Serves one life of one operator. After `kill` nothing of it reaches the API server any more."""

    def __init__(self, upstream: Upstream, faults: Callable[[Request], Fault | None] = lambda _: None) -> None:
        self._upstream = upstream
        self.faults = faults
        """Asked for every request but watches: what becomes of it; None = what the API server says."""
        self.dies: Callable[[], None] = lambda: None
        """Ends the operator at once, before anything else becomes of it."""
        self.requests: list[Request] = []
        self.killed = asyncio.Event()
        self.flowing = asyncio.Event()
        """While it is cleared, watches tell nothing."""
        self.flowing.set()
        self.disturb: Callable[[], Sequence[float]] = lambda: (0.0,)
        """After how many seconds an event is told: empty = never, two numbers = twice."""
        self._late: set[asyncio.Task[web.Response]] = set()
        self._outdated: set[str] = set()
        self._connections: set[asyncio.BaseTransport] = set()
        self._streams: dict[asyncio.Task[Any], str] = {}
        """Watches by the task that serves them: of what kind."""

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self._runner.cleanup()

    @property
    def writes(self) -> list[Request]:
        """Writes so far, other than of the Lease."""
        return [one for one in self.requests if one.writes]

    def kill(self) -> None:
        """As SIGKILL looks from outside: connections end, and nothing more comes."""
        if not self.killed.is_set():
            self.dies()
        self.killed.set()
        self.flowing.set()
        self._cut_watches()
        for transport in list(self._connections):
            transport.abort()

    def outdate(self) -> None:
        """Cuts every watch; who then asks to go on from where it was is told that this is too long ago."""
        self._outdated = set(self._streams.values())
        self._cut_watches()
        self.flowing.set()

    def _cut_watches(self) -> None:
        for task in list(self._streams):
            task.cancel()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        if transport is None or self.killed.is_set():
            return _cut(transport)
        self._connections.add(transport)
        if request.query.get("watch"):
            return await self._watch(request, transport)
        body = await request.read()
        seen = described(request.method, request.path, body, dry="dryRun" in request.query)
        self.requests.append(seen)
        fault = self.faults(seen)
        if fault is None:
            return await self._deliver(request, transport, body, seen)
        if fault.waits is not None:
            # On its way, it arrives also when its sender is no more.
            late = asyncio.create_task(self._arrive(fault.waits, request, body, seen))
            self._late.add(late)
            return await asyncio.shield(late)
        return await self._fail(fault, request, transport, body, seen)

    async def _fail(
        self, fault: Fault, request: web.BaseRequest, transport: asyncio.BaseTransport, body: bytes, seen: Request
    ) -> web.Response:
        if fault.kills and not fault.delivers:
            self.kill()
        if fault.delivers:
            await self._deliver(request, transport, body, seen)
        if fault.kills:
            self.kill()
        if fault.hangs:
            while not transport.is_closing():  # noqa: ASYNC110 - nothing tells of a client that went
                await asyncio.sleep(0.1)
        return _cut(transport) if fault.status is None else _made_up(fault)

    async def _deliver(
        self, request: web.BaseRequest, transport: asyncio.BaseTransport, body: bytes, seen: Request
    ) -> web.Response:
        if self.killed.is_set():
            return _cut(transport)
        answer = await self._forward(request, body, seen)
        return _cut(transport) if self.killed.is_set() else answer

    async def _arrive(
        self, moment: asyncio.Event, request: web.BaseRequest, body: bytes, seen: Request
    ) -> web.Response:
        await moment.wait()
        return await self._forward(request, body, seen)

    async def _forward(self, request: web.BaseRequest, body: bytes, seen: Request) -> web.Response:
        headers = {key: request.headers[key] for key in ("Accept", "Content-Type") if key in request.headers}
        async with self._upstream.http.request(
            request.method, request.path_qs, data=body or None, headers=headers
        ) as answer:
            content = await answer.read()
        seen.status = answer.status
        kept = {key: answer.headers[key] for key in ("Content-Type", "Retry-After") if key in answer.headers}
        return web.Response(body=content, status=answer.status, headers=kept)

    async def _watch(self, request: web.BaseRequest, transport: asyncio.BaseTransport) -> web.StreamResponse:
        match = _PATH.match(request.path)
        plural = match["plural"] if match else ""
        reply = web.StreamResponse(headers={"Content-Type": "application/json"})
        if plural in self._outdated:
            self._outdated.discard(plural)
            await reply.prepare(request)
            await reply.write(json.dumps(_GONE).encode() + b"\n")
            return reply
        task = asyncio.current_task()
        assert task is not None
        self._streams[task] = plural
        telling: set[asyncio.Task[None]] = set()
        try:
            async with self._upstream.http.get(request.path_qs) as answer:
                reply.set_status(answer.status)
                await reply.prepare(request)
                async for line in answer.content:
                    await self.flowing.wait()
                    for delay in self.disturb():
                        if delay:
                            telling.add(asyncio.create_task(_tell(reply, line, delay)))
                        else:
                            await reply.write(line)
        except (ConnectionError, aiohttp.ClientError, asyncio.CancelledError):
            return _cut(transport)
        finally:
            del self._streams[task]
            for one in telling:
                one.cancel()
        return reply


async def _tell(reply: web.StreamResponse, line: bytes, delay: float) -> None:
    await asyncio.sleep(delay)
    await reply.write(line)


def _cut(transport: asyncio.BaseTransport | None) -> web.Response:
    if transport is not None:
        transport.abort()  # type: ignore[attr-defined]
    return web.Response()


def _made_up(fault: Fault) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": fault.status,
        "message": fault.message,
    }
    return web.json_response(body, status=fault.status or 500, headers=fault.headers)


def described(verb: str, path: str, body: bytes, *, dry: bool = False) -> Request:
    """What a request does."""
    match = _PATH.match(path)
    if match is None:
        return Request(verb, "", None, "", f"{verb} {path}", clock.monotonic())
    sent: Any = json.loads(body) if body and verb != "GET" else {}
    head = sent.get("metadata", {}) if isinstance(sent, dict) else {}
    name = match["name"] or head.get("name", "")
    parts = [verb, "/".join(filter(None, (match["plural"], match["part"])))]
    if dry:
        parts.append("dry run")
    labels = head.get("labels", {})
    parts += [labels[key] for key in ("paritygate.dev/job", "paritygate.dev/attempt") if key in labels]
    if match["part"] == "status":
        parts.append(sent["status"].get("phase") or "+".join(sorted(sent["status"])))
    elif match["plural"] == "events":
        parts.append(sent["reason"])
    elif match["name"] and "paritygate.dev/job" not in labels:
        parts.append(_HASH.sub("…", name))
    return Request(verb, match["plural"], match["namespace"], name, " ".join(parts), clock.monotonic())
