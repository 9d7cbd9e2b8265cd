"""The ASGI application: routes, limits, and who may be answered when."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import orjson

from paritygate.server.errors import RequestError
from paritygate.server.inference import Call, answer, too_large
from paritygate.server.model import VERSION, Model
from paritygate.server.protocol import HEADER_LENGTH

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

EXTENSIONS: Final = ("binary_tensor_data",)
_JSON: Final = (b"content-type", b"application/json")
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_RETRY: Final = (b"retry-after", b"1")
_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()
_LOG: Final = logging.getLogger("paritygate.server")


@dataclass(frozen=True)
class Limits:
    """Bounds of what clients may ask for."""

    body: int
    """Bytes of a request, before and after decompression."""
    queue: int
    """Requests that may wait while others run; more are refused with 503."""


class _DisconnectedError(Exception):
    """The client went away before its request was complete."""


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    headers: Headers


class App:
    """Answers requests of the Open Inference Protocol about one model.

    Attributes:
        model: What may be answered with; None until it is loaded, warm and has answered its golden rows.
        obstacle: Why it is not ready, for people.
        reason: The same in one word, for programs: Loading, or GoldenRowsWrong, after which it never becomes ready.
        draining: Whether the server is about to stop: not ready, but answering.
    """

    def __init__(self, name: str, identity: Mapping[str, object], limits: Limits, workers: int) -> None:
        self.name = name
        self.model: Model | None = None
        self.obstacle = "the model is being loaded"
        self.reason = "Loading"
        self.draining = False
        self._identity = identity
        self._limits = limits
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self._pending = 0
        self._capacity = workers + limits.queue
        base = f"/v2/models/{quote(name, safe='')}"
        self._infer_paths = {f"{base}/infer".encode(), f"{base}/versions/{VERSION}/infer".encode()}

    def refuse(self, problem: str) -> None:
        """Stays unready for good: the golden rows were not answered as they were when the candidate was judged."""
        self.obstacle, self.reason = problem, "GoldenRowsWrong"

    def serve(self, model: Model) -> None:
        """Lets `model` answer from now on."""
        self.model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; every failure becomes an answer too."""
        if scope["type"] != "http":
            return
        try:
            response = await self._answer(scope, receive)
        except RequestError as error:
            response = _failure(error.status, error.message)
            if error.allow:
                response.headers.append((b"allow", ", ".join(error.allow).encode()))
        except _DisconnectedError:
            return
        except Exception:  # noqa: BLE001 - logged, and the client gets an answer
            _LOG.exception("request failed", extra={"path": scope["path"]})
            response = _failure(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request; see its log")
        headers = [*response.headers, (b"content-length", b"%d" % len(response.body))]
        if self.model is not None:
            headers.append((b"x-model-revision", self.model.revision.encode()))
        if self.draining:
            # Whoever keeps this connection would meet its end at an unlucky moment; a new one goes elsewhere.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, scope: Scope, receive: Receive) -> _Response:
        path: bytes = scope["raw_path"]
        if path in self._infer_paths and scope["method"] == "POST":
            return await self._infer(scope["headers"], receive)
        return await self._route(scope, [_text(part) for part in path.strip(b"/").split(b"/")], receive)

    async def _route(self, scope: Scope, parts: list[str], receive: Receive) -> _Response:
        match parts:
            case ["v2"]:
                return self._get(scope, self._server_metadata)
            case ["v2", "health", "live"]:
                return self._get(scope, lambda: _success({"live": True}))
            case ["v2", "health", "ready"]:
                return self._get(scope, lambda: self._ready({}))
            case ["v2", "models", name, "versions", version, *rest]:
                self._check_version(name, version)
                return await self._model_route(scope, rest, receive)
            case ["v2", "models", name, *rest]:
                self._check_name(name)
                return await self._model_route(scope, rest, receive)
        raise _unknown_path(scope)

    async def _model_route(self, scope: Scope, rest: list[str], receive: Receive) -> _Response:
        match rest:
            case []:
                return self._get(scope, lambda: _success(self._loaded().metadata()))
            case ["ready"]:
                return self._get(scope, lambda: self._ready({"name": self.name}))
            case ["infer"]:
                _check_method(scope, ("POST",))
                return await self._infer(scope["headers"], receive)
        raise _unknown_path(scope)

    def _get(self, scope: Scope, make: Callable[[], _Response]) -> _Response:
        _check_method(scope, ("GET", "HEAD"))
        return make()

    def _server_metadata(self) -> _Response:
        return _success(
            {
                "name": "paritygate",
                "version": self._identity["version"],
                "extensions": EXTENSIONS,
                "identity": self._identity,
            }
        )

    def _ready(self, content: dict[str, object]) -> _Response:
        if self.draining:
            stopping = {**content, "ready": False, "reason": "Draining"}
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, "the server is stopping", stopping)
        if self.model is None:
            waiting = {**content, "ready": False, "reason": self.reason}
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, self.obstacle, waiting)
        return _success({**content, "ready": True})

    def _loaded(self) -> Model:
        if self.model is None:
            raise RequestError(f"model {self.name!r} is not ready: {self.obstacle}", HTTPStatus.SERVICE_UNAVAILABLE)
        return self.model

    def _check_name(self, name: str) -> None:
        if name != self.name:
            raise RequestError(
                f"model {name[:80]!r} is unknown; this server offers {self.name!r}", HTTPStatus.NOT_FOUND
            )

    def _check_version(self, name: str, version: str) -> None:
        self._check_name(name)
        if version != VERSION:
            raise RequestError(
                f"model {self.name!r} has no version {version[:80]!r}; this server offers version {VERSION!r}",
                HTTPStatus.NOT_FOUND,
            )

    async def _infer(self, headers: Headers, receive: Receive) -> _Response:
        model = self._loaded()
        if self._pending >= self._capacity:
            raise RequestError(
                f"{self._capacity} requests are running or waiting; try again later", HTTPStatus.SERVICE_UNAVAILABLE
            )
        # Counted before the body is read, so that waiting bodies are bounded too.
        self._pending += 1
        try:
            call = await self._call(headers, receive)
            loop = asyncio.get_running_loop()
            body, length = await loop.run_in_executor(self._pool, answer, model, call, self._limits.body)
        finally:
            self._pending -= 1
        if length is None:
            return _Response(HTTPStatus.OK, body, [_JSON])
        return _Response(HTTPStatus.OK, body, [_OCTETS, (_HEADER_LENGTH, b"%d" % length)])

    async def _call(self, headers: Headers, receive: Receive) -> Call:
        length = encoding = None
        for name, value in headers:
            if name == _HEADER_LENGTH:
                length = value
            elif name == b"content-encoding":
                encoding = value
            elif name == b"content-length" and int(value) > self._limits.body:
                raise too_large(self._limits.body)
        return Call(await self._body(receive), length, encoding)

    async def _body(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _DisconnectedError
            parts.append(message["body"])
            size += len(parts[-1])
            if size > self._limits.body:
                raise too_large(self._limits.body)
            more = message["more_body"]
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _text(part: bytes) -> str:
    return unquote_to_bytes(part).decode("utf-8", "replace")


def _success(content: object) -> _Response:
    return _Response(HTTPStatus.OK, orjson.dumps(content), [_JSON])


def _failure(status: HTTPStatus, message: str, content: Mapping[str, object] | None = None) -> _Response:
    headers: Headers = [_JSON]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(_RETRY)
    # A message may quote half a surrogate pair that a client sent: it must not break the answer.
    text = message.encode("utf-8", "replace").decode()
    return _Response(status, orjson.dumps({**(content or {}), "error": text}), headers)


def _check_method(scope: Scope, allowed: tuple[str, ...]) -> None:
    if scope["method"] not in allowed:
        raise RequestError(
            f"method {scope['method']} is not offered at {scope['path'][:200]}; use {allowed[0]}",
            HTTPStatus.METHOD_NOT_ALLOWED,
            allow=allowed,
        )


def _unknown_path(scope: Scope) -> RequestError:
    return RequestError(
        f"there is nothing at {scope['path'][:200]}; the Open Inference Protocol starts at /v2", HTTPStatus.NOT_FOUND
    )
