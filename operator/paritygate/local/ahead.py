"""What is begun before its stage is due, so that a second processor has something to do.

Only our own code, and nothing that a result depends on: a dataset is read while the source is assessed, and processes
of later stages import what they need while an earlier one works. They load no model: the source's code runs in its
stages only. Nothing is recorded of it; a stage that finds nothing begun begins by itself.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from paritygate.api.artifacts import StageName
from paritygate.api.spec import SourceFormat
from paritygate.core.stages import ORDER
from paritygate.local.commands import Commands
from paritygate.local.inputs import Places
from paritygate.local.processes import Process
from paritygate.local.workdir import WorkFolder

SERVER = "candidate"
"""What the process is called here that will serve the candidate which Validate judges."""
_STAND_BY: Final = "stand-by"


class Ahead:
    """Of one run."""

    def __init__(self, work: WorkFolder, commands: Commands, source_format: SourceFormat, until: StageName) -> None:
        """`until`: the last stage of the run."""
        self._work, self._commands, self._format, self._until = work, commands, source_format.value, until
        self._lock = threading.Lock()
        self._closed = False
        self._rows: tuple[Process, Path] | None = None
        self._standing_by: dict[str, Process] = {}

    def begin(self, stage: StageName, places: Places) -> None:
        """Begins what a later stage than `stage`, which starts now, will need."""
        with self._lock:
            if self._closed:
                return
            match stage:
                case StageName.ASSESS if places.capture is None and self._is_wanted(StageName.CAPTURE):
                    self._read(places.dataset)
                    # An environment of its own is built when its stage is due.
                    if places.lock is None and StageName.CAPTURE not in self._standing_by:
                        agent = self._commands.agent_in(sys.executable, self._work.scratch)
                        self._stand_by(StageName.CAPTURE, *agent, _STAND_BY, self._format)
                case StageName.CAPTURE if self._is_wanted(StageName.CONVERT):
                    self._stand_by(StageName.CONVERT, *self._commands.worker, _STAND_BY, "convert", self._format)
                case StageName.CONVERT if self._is_wanted(StageName.VALIDATE):
                    self._stand_by(StageName.VALIDATE, *self._commands.worker, _STAND_BY, "validate", self._format)
                    self._stand_by(SERVER, *self._commands.server, _STAND_BY)

    def rows(self) -> tuple[Process, Path] | None:
        """The process that reads the dataset and where its output comes, for whoever asks first."""
        with self._lock:
            rows, self._rows = self._rows, None
            return rows

    def process(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        *,
        output: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> Process | None:
        """The process that stood by as `name`, at work on `arguments`; None = there is none, or it ended.

        `log`, `output` and `extra` as in `Process`.
        """
        with self._lock:
            process = self._standing_by.pop(name, None)
        if process is None:
            return None
        told = {"arguments": list(arguments), "log": str(log), "environment": dict(extra or {})}
        if output is not None:
            output.write_bytes(b"")  # what an earlier process wrote there must not be taken for its word
            told["output"] = str(output)
        if process.poll() is None and process.tell(json.dumps(told)):
            process.log = log
            return process
        process.kill()
        return None

    def close(self) -> None:
        """Ends everything that nobody took."""
        with self._lock:
            self._closed = True
            waiting = [*self._standing_by.values(), *([self._rows[0]] if self._rows else [])]
            self._standing_by.clear()
            self._rows = None
        for process in waiting:
            process.kill()

    def _is_wanted(self, stage: StageName) -> bool:
        return ORDER.index(stage) <= ORDER.index(self._until)

    def _read(self, dataset: Path) -> None:
        """Starts to read the dataset, unless an earlier attempt at the stage before has."""
        if self._rows is not None:
            return
        out, log = self._work.scratch / "rows", self._work.logs / "dataset.log"
        log.unlink(missing_ok=True)
        command = [*self._commands.worker, "dataset", "--uri", str(dataset), "--out", str(out)]
        self._rows = (Process(command, log, extra={"PARITYGATE_PROGRESS": f"{out}.progress"}), out)

    def _stand_by(self, name: str, *command: str) -> None:
        """Starts what stands by as `name`, unless an earlier attempt at the stage before has."""
        if name in self._standing_by:
            return
        log = self._work.logs / f"{name.lower()}-stand-by.log"
        log.unlink(missing_ok=True)
        self._standing_by[name] = Process(command, log, told=True)
