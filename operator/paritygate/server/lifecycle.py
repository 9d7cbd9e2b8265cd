"""From listening over loading to draining: the server as a process.

It listens, and is live, from the start; loads the model beside; becomes ready once the model is warm and has answered
its golden rows. The first signal makes it unready but keeps it answering, new connections too, because load balancers
learn late; after the drain it finishes what is under way and stops. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from dataclasses import dataclass
from types import FrameType
from typing import Final

import numpy as np
import uvicorn

from paritygate.api.spec import Datatype
from paritygate.server.app import App, Limits
from paritygate.server.datatypes import Array
from paritygate.server.errors import EXIT_MODEL, EXIT_USAGE, RequestError, StartError, complain
from paritygate.server.golden import Golden
from paritygate.server.http import protocol
from paritygate.server.identity import identity
from paritygate.server.model import Model, ModelFile

_LOG: Final = logging.getLogger("paritygate.server")
_BACKLOG: Final = 2048
_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the 60 s of common load balancers, so that they, not we, end idle connections."""
_FINISH_SECONDS: Final = 60
"""How long requests under way may take to finish once the drain is over."""


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    host: str
    port: int
    threads: int
    drain_seconds: float
    body_seconds: float
    limits: Limits
    access_log: bool


class Service(uvicorn.Server):
    """Serves one model until it is told to stop. `exit_status` says how it ended."""

    def __init__(self, file: ModelFile, golden: Golden | None, settings: Settings) -> None:
        self._file = file
        self._golden = golden
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self.exit_status = 0
        self.app = App(file.name, identity(settings.threads), settings.limits, settings.threads)
        super().__init__(
            uvicorn.Config(
                self.app,
                http=protocol(settings.body_seconds),
                # Nothing here depends on who asks, so nobody's word about it is needed.
                proxy_headers=False,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=settings.access_log,
                date_header=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_FINISH_SECONDS,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, says where, and starts to load."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        print(json.dumps({"event": "listening", "url": url}), flush=True)  # noqa: T201 - the line that starters wait for
        # A daemon: a signal must not wait for a large model to finish loading.
        threading.Thread(target=self._load, name="loader", daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drains at the first signal; quits at the second."""
        del frame
        if self.app.draining:
            os._exit(128 + sig)
        self.app.draining = True
        if self._loop is None or not self.started:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        _LOG.info("draining", extra={"seconds": self._settings.drain_seconds})
        asyncio.get_running_loop().call_later(self._settings.drain_seconds, self._stop, 0)

    def _stop(self, exit_status: int) -> None:
        self.exit_status = exit_status
        self.should_exit = True

    def _load(self) -> None:
        try:
            model = Model(self._file, self._settings.threads)
            if self._golden is not None:
                self._golden.check_names(model)
            warm_up(model)
            problem = self._golden.problem(model) if self._golden is not None else None
        except StartError as error:
            self._fail(error.message, error.exit_status)
        except Exception as error:  # noqa: BLE001 - a server without a model must not linger
            _LOG.exception("loading failed")
            self._fail(f"{self._file.path.name}: loading failed: {type(error).__name__}: {error}", EXIT_MODEL)
        else:
            self._decide(model, problem)

    def _decide(self, model: Model, problem: str | None) -> None:
        if problem is None:
            self.app.serve(model)
            _LOG.info(
                "ready", extra={"model": model.name, "revision": model.revision, "golden": self._golden is not None}
            )
        else:
            self.app.refuse(problem)
            _LOG.error(problem, extra={"model": model.name, "revision": model.revision})

    def _fail(self, message: str, exit_status: int) -> None:
        complain(message, exit_status)
        self.app.obstacle = message
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop, exit_status)


def run(file: ModelFile, golden: Golden | None, settings: Settings) -> int:
    """Serves until told to stop; the exit status of the process. StartError where the address cannot be had."""
    with listener(settings.host, settings.port) as listening:
        service = Service(file, golden, settings)
        service.run(sockets=[listening])
    return service.exit_status


def listener(host: str, port: int) -> socket.socket:
    """A socket bound to the address; StartError where it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(
            f"--host {host}: {error.strerror or error}; give an address of this machine", EXIT_USAGE
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise StartError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port (0 = a free one)",
            EXIT_USAGE,
        ) from error
    return listening


def warm_up(model: Model) -> None:
    """Runs the model once on one made-up row, so that no client waits for first allocations."""
    feeds: dict[str, Array] = {}
    for tensor in model.inputs.values():
        shape = tuple(1 if size < 0 else size for size in tensor.shape or ())
        if tensor.datatype == Datatype.BYTES:
            feeds[tensor.name] = np.full(shape, model.guards.example(tensor.name) or "", dtype=object)
        else:
            feeds[tensor.name] = np.zeros(shape, dtype=tensor.dtype)
    try:
        model.run(feeds, tuple(model.outputs))
    except RequestError as error:
        # The row is made up: that a model refuses it says nothing about the rows that clients send.
        _LOG.info("warm-up row refused", extra={"reason": error.message})
