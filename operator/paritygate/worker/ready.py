"""Waits for the candidate beside us to be ready, where nobody else did."""

from __future__ import annotations

import os
import threading
from http import HTTPStatus
from typing import Final

from paritygate import clock
from paritygate.errors import InfrastructureError
from paritygate.worker.http import Connection

WAIT: Final = "PARITYGATE_WAIT_READY"
_POLL_SECONDS: Final = 0.2


def wait_ready(url: str) -> None:
    """Returns once the server is ready, or at once where `PARITYGATE_WAIT_READY` states no seconds.

    Raises:
        InfrastructureError: CandidateNotReady.
    """
    seconds = float(os.environ.get(WAIT, "0"))
    ends = clock.monotonic() + seconds
    connection = Connection(url, 5.0)
    while seconds:
        try:
            answer = connection.ask("GET", "/v2/health/ready")
            if answer.status == HTTPStatus.OK:
                return
            said = f"it answers {answer.status} {answer.content[:200].decode('utf-8', 'replace')}".rstrip()
        except OSError as error:
            said = f"it does not answer ({type(error).__name__})"
        if clock.monotonic() >= ends:
            raise InfrastructureError(
                "CandidateNotReady", f"the candidate at {url} was not ready after {seconds:.0f} s: {said}; see its log"
            )
        threading.Event().wait(_POLL_SECONDS)
