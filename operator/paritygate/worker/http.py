"""HTTP/1.1 over one connection that is kept: what asking a candidate some hundred times takes, and no more.

No proxy of the surroundings is asked: none must stand between the gate and the candidate.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_CONNECT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    content: bytes


class Connection:
    """One connection to one server, made when it is first needed and again when the server closed it."""

    def __init__(self, url: str, seconds: float) -> None:
        """`seconds`: how long an answer may take."""
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port)
        self._prefix = parts.path.rstrip("/")
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._seconds = seconds
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """The answer. TimeoutError: there was none in time. OSError: the server is not there, or went away."""
        kept = self._open is not None
        self._open = self._open or self._connect()
        try:
            answer = self._exchange(self._open, method, path, content, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if kept and isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)):
                # The server may have closed the connection while nothing was under way; a new one tells.
                return self.ask(method, path, content, headers)
            if isinstance(error, OSError):
                raise
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if self._open.sock is None:  # the server said that it would close it
            self.close()
        return answer

    def close(self) -> None:
        """Hangs up."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _connect(self) -> http.client.HTTPConnection:
        connection = self._kind(*self._address, timeout=_CONNECT_SECONDS)
        connection.connect()
        connection.sock.settimeout(self._seconds)
        return connection

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        content: bytes,
        headers: Mapping[str, str] | None,
    ) -> Answer:
        connection.request(method, self._prefix + path, content or None, dict(headers or {}))
        with connection.getresponse() as response:
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
