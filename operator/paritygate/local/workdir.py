"""Where a run keeps its things on this machine.

WORKDIR/
├── artifacts/, receipts/       shared by all migrations: paritygate.storage.store
├── environments/               shared: paritygate.local.environments
├── .lock                       held together by all runs at work; alone to sweep
└── NAME/
    ├── report.json, report.html, candidate/, plan.json     results
    ├── logs/                   of every stage's newest attempts
    ├── scratch/                of running attempts; empty when nothing runs
    └── lock                    held while a run is at work
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

from paritygate import clock
from paritygate.api.artifacts import StageName
from paritygate.errors import UsageError
from paritygate.storage.store import Store, discard_abandoned, disk_full_explained, write_whole

RESULTS = ("report.json", "report.html")
_SHARED: Final = ("artifacts", "receipts", "environments")
_KEPT: Final = timedelta(days=1)
"""How long results stay that no last run refers to: who goes back to an earlier manifest soon finds them again."""


class WorkFolder:
    """The folder of one migration, and what it shares with others."""

    def __init__(self, root: Path, name: str) -> None:
        """UsageError: the migration is called like a folder that all migrations share."""
        if name in _SHARED:
            raise UsageError(
                f"metadata.name {name!r} is what ParityGate calls a folder of its own in --workdir; choose another"
            )
        self.root = root.absolute()
        self.store = Store(self.root)
        self.environments = self.root / "environments"
        self.results = self.root / name
        self.logs = self.results / "logs"
        self.scratch = self.results / "scratch"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other run of this migration out. UsageError: one is at work."""
        with disk_full_explained(self.results / "lock"):
            self.results.mkdir(parents=True, exist_ok=True)
        with (self.results / "lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                stream.seek(0)
                raise UsageError(
                    f"{self.results}: another paritygate is at work here (process {stream.read().strip() or '?'}); "
                    "wait for it, stop it, or choose another --workdir"
                ) from error
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
            with (self.root / ".lock").open("a") as shared:
                fcntl.flock(shared, fcntl.LOCK_SH)
                self._clear_scratch()
                try:
                    yield
                finally:
                    self._clear_scratch()
            self._sweep()

    def _sweep(self) -> None:
        """Removes what no migration's last run refers to and is a day old, unless another run is at work."""
        with (self.root / ".lock").open("a") as shared:
            try:
                fcntl.flock(shared, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # it sweeps when it ends
            kept = set()
            for record in self.root.glob("*/plan.json"):
                try:
                    stages = json.loads(record.read_bytes())["stages"]
                    kept |= {(StageName(stage["name"]), str(stage["digest"])) for stage in stages}
                except (OSError, ValueError, KeyError, TypeError):
                    return  # what it refers to cannot be told
            with suppress(OSError):  # what cannot be removed now is tried again by the next run
                self.store.sweep(kept, clock.now() - _KEPT)

    def publish(self, verdict: Path | None, candidate: Path | None) -> None:
        """Puts results where people look for them; what is None is taken away, as it belongs to another run."""
        with disk_full_explained(self.results):
            for name in RESULTS:
                if verdict is not None and (verdict / name).exists():
                    write_whole(self.results / name, (verdict / name).read_bytes())
                else:
                    (self.results / name).unlink(missing_ok=True)
            self._replace_folder(self.results / "candidate", candidate)

    def write_plan(self, content: object) -> None:
        """Writes plan.json."""
        write_whole(self.results / "plan.json", json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")

    def _replace_folder(self, target: Path, source: Path | None) -> None:
        aside = self.scratch / "replaced"
        shutil.rmtree(aside, ignore_errors=True)
        self.scratch.mkdir(exist_ok=True)
        if source is not None:
            fresh = self.scratch / "fresh"
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.copytree(source, fresh, copy_function=_linked)
        if target.exists():
            target.rename(aside)
        if source is not None:
            fresh.rename(target)
        shutil.rmtree(aside, ignore_errors=True)

    def _clear_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        discard_abandoned(self.results)
        self.store.discard_abandoned()
        with disk_full_explained(self.scratch):
            self.scratch.mkdir(parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)


def _linked(source: str, target: str) -> None:
    """The same file under a second name, as candidates may be large; a copy where the file system has no such names.

    Whoever writes into it spoils the artefact too, which its digest then tells: it is made again.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
