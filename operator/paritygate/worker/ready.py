"""Waits for the candidate beside us to be ready, where nobody else did."""

from __future__ import annotations

import os
import threading
from typing import Final

import httpx

from paritygate import clock
from paritygate.errors import InfrastructureError

WAIT: Final = "PARITYGATE_WAIT_READY"
_POLL_SECONDS: Final = 0.2


def wait_ready(url: str) -> None:
    """Returns once the server is ready, or at once where `PARITYGATE_WAIT_READY` states no seconds.

    Raises:
        InfrastructureError: CandidateNotReady.
    """
    seconds = float(os.environ.get(WAIT, "0"))
    ends = clock.monotonic() + seconds
    while seconds:
        try:
            answer = httpx.get(f"{url}/v2/health/ready", timeout=5.0, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                return
            said = f"it answers {answer.status_code} {answer.text[:200]}".rstrip()
        except httpx.HTTPError as error:
            said = f"it does not answer ({type(error).__name__})"
        if clock.monotonic() >= ends:
            raise InfrastructureError(
                "CandidateNotReady", f"the candidate at {url} was not ready after {seconds:.0f} s: {said}; see its log"
            )
        threading.Event().wait(_POLL_SECONDS)
