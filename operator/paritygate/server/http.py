"""HTTP/1.1 on httptools: uvicorn's protocol with limits for headers and with errors as JSON."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEADER_BYTES: Final = 65_536
"""Of a request line with its headers. Checked as data arrives, so one read more may be looked at."""
HEADER_SECONDS: Final = 20.0
"""How long a request line with its headers may take to arrive, and a new connection to send one."""
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """One connection. `body_seconds`: how long a request's body may take to arrive."""

    body_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading_headers = True
        self._header_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Gives a new connection some time to send a request."""
        super().connection_made(transport)
        self._arm(HEADER_SECONDS, self._late_headers)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the timer."""
        self._disarm()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request starts."""
        self._reading_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The headers are there."""
        self._reading_headers = False
        self._disarm()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Reads on, within the limits."""
        if b"pgrade" in data and (self.cycle is None or not self.cycle.more_body):
            data = _without_upgrade(data)
        super().data_received(data)
        if self._reading_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self._refuse(431, f"the request's headers have more than {HEADER_BYTES:,} bytes; send fewer")
            elif self._timer is None:
                self._arm(HEADER_SECONDS, self._late_headers)
            return
        self._header_bytes = 0
        if not self.cycle.more_body:
            self._disarm()
        elif self._timer is None:
            self._arm(self.body_seconds, self._late_body)

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP."""
        self._refuse(400, f"{msg} Send HTTP/1.1.")

    def _arm(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer = self.loop.call_later(seconds, late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late_body(self) -> None:
        self._refuse(408, f"the request's body did not arrive within {self.body_seconds:g} s; send it faster")

    def _late_headers(self) -> None:
        if self._header_bytes:
            self._refuse(408, f"the request's headers did not arrive within {HEADER_SECONDS:g} s; send them faster")
        elif not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answers and hangs up; only hangs up where another answer on this connection is under way."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = orjson.dumps({"error": message})
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()


def protocol(body_seconds: float) -> type[Protocol]:
    """The protocol with that limit, as uvicorn takes it: a class."""
    return type("Protocol", (Protocol,), {"body_seconds": body_seconds})


def _without_upgrade(data: bytes) -> bytes:
    """A request without its offer to speak HTTP/2, which this server declines.

    Java's client offers it with every first request, and httptools drops the body of a request that offers it:
    https://github.com/Kludex/uvicorn/issues/2722
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"", head) + end + rest
