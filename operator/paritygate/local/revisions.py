"""Revisions on this machine: servers of candidates that passed, and which of them owns the traffic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from paritygate.core.actions import ApplyRevision
from paritygate.core.observed import Revision
from paritygate.errors import InfrastructureError, StageError
from paritygate.local.attempts import failure_of
from paritygate.local.events import Event, StageFailed, StageFinished, StageStarted
from paritygate.local.serving import CandidateServer
from paritygate.local.workdir import WorkFolder

SERVE: Final = "Serve"
"""What displays call the step that brings up revisions."""
_STOP_SECONDS: Final = 90.0
"""Longer than the server's own drain and its last answers take."""


@dataclass(frozen=True)
class Address:
    """Where to serve."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 = a free one."""


class Revisions:
    """Servers by revision name."""

    def __init__(
        self,
        work: WorkFolder,
        server: Sequence[str],
        address: Address,
        stop: threading.Event,
        emit: Callable[[Event], None],
    ) -> None:
        self._work, self._command, self._address, self._stop, self._emit = work, server, address, stop, emit
        self._servers: dict[str, tuple[CandidateServer, Revision]] = {}
        self.traffic: str | None = None
        """Name of the revision that owns the traffic."""

    def snapshot(self) -> tuple[Revision, ...]:
        """All revisions."""
        return tuple(revision for _, revision in self._servers.values())

    @property
    def url(self) -> str | None:
        """Where the traffic goes in."""
        return None if self.traffic is None else self._servers[self.traffic][0].url

    def apply(self, action: ApplyRevision) -> None:
        """Brings a revision up and waits until it answered its golden rows. Cancelled: the run was stopped."""
        self._emit(StageStarted(SERVE))
        store, grounds = self._work.store, action.grounds
        revision = Revision(action.name, grounds.candidate, grounds.runtime, grounds.report, verdict=action.verdict)
        candidate, golden = store.get(grounds.candidate), store.get(action.verdict)
        if candidate is None or golden is None:
            lost = store.path(grounds.candidate if candidate is None else action.verdict)
            raise InfrastructureError("ArtefactLost", f"{lost} changed after it was judged; run again")
        command = [*self._command, "--model", str(candidate), "--golden", str(golden)]
        command += ["--host", self._address.host, "--port", str(self._address.port)]
        server = CandidateServer(command, self._work.logs, action.name)
        self._servers[action.name] = (server, revision)
        try:
            server.wait_ready(self._stop)
            revision = replace(revision, ready=True)
        except StageError as error:
            self._emit(StageFailed(SERVE, error.reason, error.message))
            revision = replace(revision, failure=failure_of(error))
        self._servers[action.name] = (server, revision)

    def set_traffic(self, name: str) -> None:
        """Lets a revision own the traffic."""
        self.traffic = name
        self._emit(StageFinished(SERVE, f"serving at {self.url}"))

    def retire(self, name: str) -> None:
        """Drains a revision and takes it down."""
        self._servers.pop(name)[0].process.stop(_STOP_SECONDS)

    def serve(self) -> None:
        """Keeps the traffic's revision until the run is stopped. InfrastructureError (CandidateDied): it ended."""
        if self.traffic is None:
            return
        server = self._servers[self.traffic][0]
        while not self._stop.wait(0.2):
            if server.process.poll() is not None:
                raise server.death()

    def close(self) -> None:
        """Takes everything down."""
        for server, _ in self._servers.values():
            server.process.stop(_STOP_SECONDS)
        self._servers.clear()
        self.traffic = None
