"""Waits for the candidate beside us to be ready, where nobody else did."""

from __future__ import annotations

import json
import os
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Final

from paritygate import clock
from paritygate.errors import InfrastructureError
from paritygate.worker.http import Connection

WAIT: Final = "PARITYGATE_WAIT_READY"
_POLL_SECONDS: Final = 0.05
_FILE: Final = "file:"


def wait_ready(url: str) -> str:
    """The server's address, once it is ready; at once where `PARITYGATE_WAIT_READY` states no seconds.

    Args:
        url: its address; or `file:` and the path of the file in whose first line it says where it listens.

    Raises:
        InfrastructureError: CandidateNotReady.
    """
    seconds = float(os.environ.get(WAIT, "0"))
    ends = clock.monotonic() + seconds
    address, connection = url, None
    while seconds:
        address = _listening(Path(url.removeprefix(_FILE))) if url.startswith(_FILE) else url
        if address:
            connection = connection or Connection(address, 5.0)
        said = _obstacle(connection) if connection is not None else "it does not listen yet"
        if said is None:
            break
        if clock.monotonic() >= ends:
            raise InfrastructureError(
                "CandidateNotReady", f"the candidate at {url} was not ready after {seconds:.0f} s: {said}; see its log"
            )
        threading.Event().wait(_POLL_SECONDS)
    if connection is not None:
        connection.close()
    return address


def _listening(file: Path) -> str:
    """Where the server that writes to `file` says that it listens; empty = nowhere yet."""
    try:
        first, newline, _ = file.read_text(encoding="utf-8").partition("\n")
        return str(json.loads(first)["url"]) if newline else ""
    except (OSError, ValueError, KeyError):
        return ""


def _obstacle(connection: Connection) -> str | None:
    """Why the server is not ready; None = it is."""
    try:
        answer = connection.ask("GET", "/v2/health/ready")
    except OSError as error:
        return f"it does not answer ({type(error).__name__})"
    if answer.status == HTTPStatus.OK:
        return None
    return f"it answers {answer.status} {answer.content[:200].decode('utf-8', 'replace')}".rstrip()
