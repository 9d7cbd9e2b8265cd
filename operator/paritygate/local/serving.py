"""A candidate that serves on this machine: the same server as everywhere, as a process on loopback."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from paritygate import clock
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.local.processes import Cancelled, Process, tail

READY_SECONDS: Final = 600.0
"""How long a server may take until it is ready; large models are read and warmed up in that time."""
_POLL_SECONDS: Final = 0.03
_MODEL_AT_FAULT: Final = 3
_FINAL: Final = frozenset({"GoldenRowsWrong"})
"""Reasons of not being ready, as the server states them, that no patience changes."""


class CandidateServer:
    """One server process and where it listens."""

    def __init__(self, command: Sequence[str], folder: Path, name: str, begun: Process | None = None) -> None:
        """Starts `command`, unless it was `begun`; its streams go to `folder/NAME.log` and `folder/NAME.out`."""
        self.out = folder / f"{name}.out"
        """Its standard output, whose first line says where it listens."""
        self.process = begun or Process(command, folder / f"{name}.log", output=self.out)
        self.url: str | None = None

    def wait_ready(self, cancelled: threading.Event, seconds: float = READY_SECONDS) -> str:
        """Where it listens, once it is ready.

        Raises:
            ConfigurationError: CandidateNotServable, the server refused the model or its golden rows.
            InfrastructureError: CandidateNotReady after `seconds`, CandidateDied.
            Cancelled: `cancelled` was set first.
        """
        ends = clock.monotonic() + seconds
        said = "it does not listen yet"
        while clock.monotonic() < ends:
            if self.process.poll() is not None:
                raise self.death()
            self.url = self.url or self._listening()
            if self.url is not None:
                ready, said, final = _ask(self.url)
                if ready:
                    return self.url
                if final:
                    raise ConfigurationError("CandidateNotServable", f"the server refuses the candidate: {said}")
            if cancelled.wait(_POLL_SECONDS):
                raise Cancelled
        raise InfrastructureError(
            "CandidateNotReady", f"the server was not ready within {seconds:g} s: {said}; log: {self.process.log}"
        )

    def death(self) -> ConfigurationError | InfrastructureError:
        """Why it ended."""
        code, log = self.process.poll(), self.process.log
        if code == _MODEL_AT_FAULT:
            return ConfigurationError(
                "CandidateNotServable", f"the server cannot serve the candidate; log: {log}{tail(log)}"
            )
        return InfrastructureError(
            "CandidateDied",
            f"the server of the candidate ended (status {code}) while it was needed; log: {log}{tail(log)}",
        )

    def _listening(self) -> str | None:
        try:
            first, newline, _ = self.out.read_text(encoding="utf-8").partition("\n")
            return str(json.loads(first)["url"]) if newline else None
        except (OSError, ValueError, KeyError):
            return None


def _ask(url: str) -> tuple[bool, str, bool]:
    """Whether the server is ready, what it says, and whether that is its last word."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/v2/health/ready", timeout=5) as answer:
            return answer.status == 200, "", False  # noqa: PLR2004 - HTTP's OK
    except urllib.error.HTTPError as error:
        body = error.read().decode("utf-8", "replace")
        try:
            told = dict(json.loads(body))
        except (ValueError, TypeError):
            return False, body, False
        return False, str(told.get("error", body)), told.get("reason") in _FINAL
    except OSError as error:
        return False, str(error), False
