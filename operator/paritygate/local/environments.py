"""Virtual environments of sources: solved once, locked with hashes, built once by uv, kept by the lock's digest."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paritygate.api.digests import digest_of
from paritygate.api.spec import VirtualEnvironment
from paritygate.errors import ConfigurationError, InfrastructureError, StageError
from paritygate.local.processes import Process
from paritygate.storage.store import disk_full_explained, write_whole

_FIELD: Final = "spec.source.environment.virtualenv"
_COMPLETE: Final = ".complete"
_NO_INTERPRETER: Final = re.compile(
    r"No interpreter found|No .*Python .* found|could not find.*interpreter|Failed to inspect Python interpreter",
    re.IGNORECASE,
)
_UNREACHABLE: Final = re.compile(
    r"error sending request|failed to (connect|fetch)|dns error|timed out|connection (refused|reset)"
    r"|could not resolve host",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(r"[a-z+]+://[^\s`'\"<>()]+")
_LINES: Final = 12
"""Of what uv says; a failed build brings the whole traceback of its build script."""
_DISK_FULL: Final = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Lock:
    """A solved environment."""

    digest: str
    """Of the pinned packages with their hashes, and the Python version."""
    file: Path
    python: str


class Environments:
    """Environments under `root`, shared by all migrations that name it."""

    def __init__(self, root: Path, uv: tuple[str, ...] = (sys.executable, "-m", "uv")) -> None:
        self._root = root
        self._uv = uv

    def solve(self, asked: VirtualEnvironment, cancelled: threading.Event) -> Lock:
        """The lock for what is asked; the same as last time, so that a resumed run has the same environment.

        Raises:
            ConfigurationError: EnvironmentUnsolvable, PythonNotFound, EnvironmentLacksNumpy.
            InfrastructureError: RegistryUnreachable, DiskFull.
        """
        python = asked.python or f"{sys.version_info.major}.{sys.version_info.minor}"
        key = digest_of({"requirements": list(asked.requirements), "python": python}).removeprefix("sha256:")
        file = self._root / "locks" / f"{key}.txt"
        with disk_full_explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file.with_suffix(".lock")):
            if not file.exists():
                wanted = file.with_suffix(".in")
                write_whole(wanted, "".join(f"{line}\n" for line in asked.requirements).encode())
                aside = file.with_suffix(".part")
                aside.unlink(missing_ok=True)
                self._run(
                    "compile", "pip", "compile", str(wanted), "-o", str(aside), "--quiet", "--generate-hashes",
                    "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate",
                    "--python-version", python, asked=asked, python=python, cancelled=cancelled,
                )  # fmt: skip
                _require_numpy(aside.read_text(encoding="utf-8"), asked)
                aside.replace(file)
        text = file.read_text(encoding="utf-8")
        return Lock(digest_of({"lock": text, "python": python}), file, python)

    def build(self, lock: Lock, asked: VirtualEnvironment, cancelled: threading.Event) -> Path:
        """The interpreter of the environment. Built in its final place, since virtual environments cannot be moved.

        Raises:
            ConfigurationError: EnvironmentUnbuildable, PythonNotFound.
            InfrastructureError: RegistryUnreachable, DiskFull.
        """
        folder = self._root / lock.digest.removeprefix("sha256:")
        interpreter = folder / "bin" / "python"
        with _alone(folder.with_suffix(".lock")):
            if (folder / _COMPLETE).exists() and interpreter.exists():
                return interpreter
            shutil.rmtree(folder, ignore_errors=True)
            self._run(
                "venv", "venv", "--quiet", "--python", lock.python, "--no-python-downloads", str(folder),
                asked=asked, python=lock.python, cancelled=cancelled,
            )  # fmt: skip
            self._run(
                "sync", "pip", "sync", "--quiet", "--require-hashes", "--python", str(interpreter), str(lock.file),
                asked=asked, python=lock.python, cancelled=cancelled,
            )  # fmt: skip
            write_whole(folder / _COMPLETE, lock.digest.encode())
        return interpreter

    def _run(
        self, step: str, *arguments: str, asked: VirtualEnvironment, python: str, cancelled: threading.Event
    ) -> None:
        log = self._root / f"uv-{step}-{os.getpid()}.log"
        log.unlink(missing_ok=True)
        process = Process([*self._uv, *arguments], log, extra={"NO_COLOR": "1"})
        try:
            if process.wait(cancelled) != 0:
                raise _failure(step, _said(log, asked), asked, python)
        finally:
            log.unlink(missing_ok=True)


def _said(log: Path, asked: VirtualEnvironment) -> str:
    """What uv says, in a few lines, without addresses of indexes: they may hold passwords."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if len(lines) > _LINES:
        lines = [*lines[: _LINES // 2], "  …", *lines[-_LINES // 2 :]]
    stated = "\n".join(asked.requirements)
    return _ADDRESS.sub(lambda match: match[0] if match[0] in stated else "(address)", "\n".join(lines))


def _failure(step: str, said: str, asked: VirtualEnvironment, python: str) -> StageError:
    listed = ", ".join(repr(requirement) for requirement in asked.requirements)
    if _DISK_FULL.search(said):
        return InfrastructureError(
            "DiskFull", f"{_FIELD}: the environment does not fit on the disk; free space. uv says: {said}"
        )
    if _NO_INTERPRETER.search(said):
        return ConfigurationError(
            "PythonNotFound",
            f"{_FIELD}.python: there is no Python {python} on this machine; install it, e.g. with "
            f"`uv python install {python}`, or state a version that is here. uv says: {said}",
        )
    if _UNREACHABLE.search(said):
        return InfrastructureError(
            "RegistryUnreachable",
            f"{_FIELD}.requirements [{listed}]: the package registry does not answer; check the network, and the index "
            f"that uv is configured with. uv says: {said}",
        )
    if step == "compile":
        return ConfigurationError(
            "EnvironmentUnsolvable",
            f"{_FIELD}.requirements [{listed}] cannot be solved for Python {python}; change them, or "
            f"{_FIELD}.python. uv says: {said}",
        )
    return ConfigurationError(
        "EnvironmentUnbuildable",
        f"{_FIELD}: the packages for [{listed}] cannot be installed for Python {python}; prefer versions with wheels "
        f"for it. uv says: {said}",
    )


def _require_numpy(lock: str, asked: VirtualEnvironment) -> None:
    if not re.search(r"^numpy==", lock, re.MULTILINE):
        raise ConfigurationError(
            "EnvironmentLacksNumpy",
            f"{_FIELD}.requirements [{', '.join(map(repr, asked.requirements))}] bring no numpy, which the agent "
            "needs to record answers; add 'numpy'",
        )


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Waits until no other process is here. The lock goes with the process, however it ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
