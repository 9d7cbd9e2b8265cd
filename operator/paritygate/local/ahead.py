"""What is begun before its stage is due, so that a second processor has something to do.

Only our own code, and nothing that a result depends on: a dataset is read while the source is assessed, and workers of
the next stage import what they need while the one before works. Nothing is recorded of it; a stage that finds nothing
begun begins by itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from paritygate.api.artifacts import StageName
from paritygate.api.spec import SourceFormat
from paritygate.core.stages import ORDER
from paritygate.local.inputs import Places
from paritygate.local.processes import Process
from paritygate.local.workdir import WorkFolder

_NEXT: Final = {StageName.CAPTURE: StageName.CONVERT, StageName.CONVERT: StageName.VALIDATE}


class Ahead:
    """Of one run."""

    def __init__(self, work: WorkFolder, worker: Sequence[str], source_format: SourceFormat, until: StageName) -> None:
        """`until`: the last stage of the run."""
        self._work, self._worker, self._format, self._until = work, tuple(worker), source_format, until
        self._lock = threading.Lock()
        self._closed = False
        self._rows: tuple[Process, Path] | None = None
        self._standing_by: dict[StageName, Process] = {}

    def begin(self, stage: StageName, places: Places) -> None:
        """Begins what a later stage than `stage`, which starts now, will need."""
        with self._lock:
            if self._closed:
                return
            if stage is StageName.ASSESS and self._is_wanted(StageName.CAPTURE) and places.capture is None:
                self._read(places.dataset)
            following = _NEXT.get(stage)
            if following is not None and self._is_wanted(following) and following not in self._standing_by:
                self._stand_by(following)

    def rows(self) -> tuple[Process, Path] | None:
        """The process that reads the dataset and where its output comes, for whoever asks first."""
        with self._lock:
            rows, self._rows = self._rows, None
            return rows

    def worker(self, stage: StageName, arguments: Sequence[str], log: Path, extra: Mapping[str, str]) -> Process | None:
        """The worker that stood by for a stage, at work on `arguments`; None = there is none, or it ended."""
        with self._lock:
            process = self._standing_by.pop(stage, None)
        if process is None:
            return None
        if process.poll() is None and process.tell(
            json.dumps({"arguments": list(arguments), "log": str(log), "environment": dict(extra)})
        ):
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
        out, log = self._work.scratch / "rows", self._work.logs / "dataset.log"
        log.unlink(missing_ok=True)
        command = [*self._worker, "dataset", "--uri", str(dataset), "--out", str(out)]
        self._rows = (Process(command, log, extra={"PARITYGATE_PROGRESS": f"{out}.progress"}), out)

    def _stand_by(self, stage: StageName) -> None:
        name = stage.value.lower()
        command = [*self._worker, "stand-by", name, self._format.value]
        log = self._work.logs / f"{name}-stand-by.log"
        log.unlink(missing_ok=True)
        self._standing_by[stage] = Process(command, log, told=True)
