"""Processes that never outlive us, with their log, their peak memory, and why they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from paritygate import clock
from paritygate.errors import InfrastructureError, StageError

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_POLL_SECONDS: Final = 0.02
_LOG_LINES: Final = 8
_KIB_PER_MAXRSS: Final = 1 if sys.platform != "darwin" else 1 / 1024
"""Linux counts peak memory in KiB, macOS in bytes."""
_REMOVED: Final = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "PYTHONWARNINGS")


class Cancelled(Exception):
    """The work was stopped on purpose."""


def stage_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment variables, without those that would change what a stage imports or in which order it hashes."""
    kept = {name: value for name, value in os.environ.items() if name not in _REMOVED}
    # Byte code is written, and read by the next stage, except beside models: where their code is imported.
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", **extra}


class Process:
    """A running command in a process group of its own. Killed, with all its children, when we end in whatever way."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        output: Path | None = None,
        extra: Mapping[str, str] | None = None,
        told: bool = False,
    ) -> None:
        """Starts `command`; both streams are appended to `log`, or standard output is written to `output`.

        `told`: whether it reads from its standard input what `tell` says.
        """
        reading, self._lifeline = os.pipe()
        self.log = log
        self._code: int | None = None
        self._lock = threading.Lock()
        self.peak_rss: int | None = None
        """Bytes of memory that the largest process of the command held at once; None = still running."""
        try:
            with log.open("ab") as errors, (output or log).open("wb" if output else "ab") as out:
                self._popen = subprocess.Popen(  # noqa: S603 - the command is ours
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), str(reading), *command],
                    stdin=subprocess.PIPE if told else subprocess.DEVNULL,
                    stdout=out,
                    stderr=errors,
                    pass_fds=(reading,),
                    start_new_session=True,
                    env=stage_environment(extra or {}),
                )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(reading)

    @property
    def group(self) -> int:
        """Process group of the command and all its children."""
        return self._popen.pid

    def tell(self, line: str) -> bool:
        """Writes a line to standard input and closes it; whether that was possible."""
        assert self._popen.stdin is not None  # noqa: S101 - who tells has started it so
        try:
            with self._popen.stdin as stream:
                stream.write(f"{line}\n".encode())
        except OSError:
            return False
        return True

    def poll(self) -> int | None:
        """Exit status, negative for a signal; None = still running."""
        with self._lock:
            if self._code is None:
                pid, status, usage = os.wait4(self._popen.pid, os.WNOHANG)
                if pid:
                    self._code = self._popen.returncode = os.waitstatus_to_exitcode(status)
                    self.peak_rss = int(usage.ru_maxrss * _KIB_PER_MAXRSS * 1024)
                    self._sweep()
            return self._code

    def wait(self, cancelled: threading.Event) -> int:
        """Exit status. Cancelled: `cancelled` was set first, and the process group is gone."""
        while (code := self.poll()) is None:
            self.pause(cancelled)
        return code

    def pause(self, cancelled: threading.Event) -> None:
        """Lets a moment pass. Cancelled: `cancelled` is set, and the process group is gone."""
        if cancelled.wait(_POLL_SECONDS):
            self.kill()
            raise Cancelled

    def stop(self, seconds: float) -> int:
        """Asks to end by SIGTERM, and insists after `seconds`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGTERM)
        ends = clock.monotonic() + seconds
        while self.poll() is None and clock.monotonic() < ends:
            threading.Event().wait(_POLL_SECONDS)
        return self.kill()

    def kill(self) -> int:
        """Ends the whole process group at once."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
        while (code := self.poll()) is None:
            threading.Event().wait(_POLL_SECONDS)
        return code

    def _sweep(self) -> None:
        """Ends what the command left behind in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        os.close(self._lifeline)
        if self._popen.stdin is not None:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()


def death_of(process: Process, what: str) -> StageError:
    """Why a process that ended without a result did so, as far as its end and its log tell."""
    code = process.poll() or 0
    if code == -signal.SIGKILL:
        peak = (process.peak_rss or 0) / 2**20
        return InfrastructureError(
            "OutOfMemory",
            f"{what} was killed (SIGKILL), as systems do when memory runs out; it held {peak:,.0f} MiB at its peak. "
            f"Free memory, use a machine with more, or judge fewer rows; log: {process.log}",
        )
    how = f"was ended by {_signal_name(-code)}" if code < 0 else f"ended with status {code} and without a result"
    return InfrastructureError("ProcessDied", f"{what} {how}; log: {process.log}{tail(process.log)}")


def tail(log: Path) -> str:
    """The last lines of a log, indented, each on a line of its own; empty where there are none."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-_LOG_LINES:]
        return "".join(f"\n  {line[:300]}" for line in lines)
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
