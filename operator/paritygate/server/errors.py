"""Errors of the server.

RequestError    a request cannot be answered; carries the HTTP status
StartError      the server cannot start; carries the exit status of the process
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from paritygate.errors import ParityGateError

EXIT_MODEL: Final = 3
"""The model, its manifest or its golden rows are at fault."""
EXIT_USAGE: Final = 64
"""The command line is wrong, or its address cannot be had."""


class RequestError(ParityGateError):
    """A request cannot be answered. The message goes to the client as `{"error": …}`.

    `allow`: the methods that the path does offer, for status 405.
    """

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, *, allow: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.allow = tuple(allow)


class StartError(ParityGateError):
    """The server cannot start, or cannot offer its model."""

    def __init__(self, message: str, exit_status: int = EXIT_MODEL) -> None:
        super().__init__(message)
        self.message = message
        self.exit_status = exit_status


def complain(message: str, exit_status: int) -> None:
    """One line on standard error for the person who started the server; what a model is at fault for, in a pod too."""
    from paritygate.agent import stage  # noqa: PLC0415 - only a server that cannot serve needs it

    text = " ".join(message.split())
    print(f"paritygate.server: {text}", file=sys.stderr, flush=True)  # noqa: T201
    if exit_status == EXIT_MODEL:
        stage.tell({"failure": "Configuration", "reason": "CandidateNotServable", "message": text})
