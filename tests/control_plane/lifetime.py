"""Daemons that live as long as somebody uses them, each in a folder of its own, and leave nothing behind.

Users hold a shared lock on FOLDER/users. The kernel gives it back however a user ends, so when the daemon gets the lock
for itself nobody is left: it ends what it runs, removes FOLDER, and goes. If the daemon itself is killed, its processes
end with it (see paritygate.local.supervisor) and the next of its kind sweeps the folder.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TextIO

from paritygate import clock

KEPT: Final = "kept"
"""The file in a folder that says: end on SIGTERM, not with the last user."""
_POLL_SECONDS: Final = 0.02
_PR_SET_CHILD_SUBREAPER: Final = 36
"""From linux/prctl.h."""


class StartFailed(Exception):
    """What was to be started did not come up."""


class Service(Protocol):
    """What a daemon runs."""

    def start(self) -> Mapping[str, object]:
        """Brings it up; what users need to know of it."""

    def mend(self) -> None:
        """Called all the time while it is used. An exception ends it."""

    def stop(self) -> None:
        """Ends every process of it at once."""


def folder_for(prefix: str, place: Path) -> Path:
    """A name that nobody else has."""
    return place / f"{prefix}{os.getuid()}-{secrets.token_hex(6)}"


def begin(folder: Path, module: str, what: str, seconds: float, files: Mapping[str, str] | None = None) -> TextIO:
    """Starts `python -m module FOLDER`, `files` in the folder, and waits until it is up. The lock of its first user.

    StartFailed: it did not come up within `seconds`.
    """
    users = _prepared(folder, files or {})
    with (folder / "daemon.log").open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Reaps it whenever it ends, so that no zombie stays behind and nobody has to wait for it.
    threading.Thread(target=daemon.wait, daemon=True).start()
    ends = clock.monotonic() + seconds
    while not (folder / "state.json").exists():
        if (folder / "failure").exists():
            why = (folder / "failure").read_text()
        elif daemon.poll() is not None:
            why = f"its daemon ended with {daemon.returncode}"
        elif clock.monotonic() > ends:
            why = f"not within {seconds:.0f} seconds; its logs are in {folder}"
        else:
            threading.Event().wait(_POLL_SECONDS)
            continue
        users.close()
        raise StartFailed(f"{what} did not start: {why}")
    return users


def joined(folder: Path) -> TextIO | None:
    """The lock of one more user; None = there is no such daemon, or it is just ending."""
    with contextlib.suppress(OSError):
        users = (folder / "users").open()
        try:
            fcntl.flock(users, fcntl.LOCK_SH | fcntl.LOCK_NB)
            # Between its opening and our lock the last user may have gone.
            if (folder / "state.json").exists():
                return users
        except OSError:
            pass
        users.close()
    return None


def alive(folder: Path) -> bool:
    """Whether the daemon of a folder that was begun runs; the folder may be gone meanwhile."""
    with contextlib.suppress(FileNotFoundError), (folder / "daemon").open() as daemon:
        try:
            fcntl.flock(daemon, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def sweep(prefix: str, place: Path, leftovers: Callable[[Path], None] = lambda _: None) -> None:
    """Removes what daemons that were killed could not: the kernel has freed their locks, and their processes ended.

    `leftovers` removes what lies elsewhere; OSError: not yet, so the folder stays for the next sweep.
    """
    for folder in place.glob(f"{prefix}{os.getuid()}-*"):
        with contextlib.suppress(OSError), (folder / "users").open() as users, (folder / "daemon").open() as daemon:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(daemon, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftovers(folder)
            shutil.rmtree(folder, ignore_errors=True)


def serve(folder: Path, make: Callable[[Path], Service]) -> int:
    """The daemon's life: starts a service, tells about it, and ends it with its last user. Its exit status."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    _adopt()
    began = clock.monotonic()
    service = None
    lock = (folder / "daemon").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        service = make(folder)
        tell(folder, **service.start(), daemon=os.getpid(), seconds=round(clock.monotonic() - began, 3))
        with (folder / "users").open("w") as users:
            while (folder / KEPT).exists() or not _is_left(users):
                service.mend()
                threading.Event().wait(_POLL_SECONDS)
    except Exception:  # noqa: BLE001 - told to who waits for us
        (folder / "failure.unfinished").write_text(traceback.format_exc())
        (folder / "failure.unfinished").rename(folder / "failure")
        threading.Event().wait(1)
        return 1
    else:
        return 0
    finally:
        if service:
            service.stop()
        shutil.rmtree(folder, ignore_errors=True)


def tell(folder: Path, **more: object) -> None:
    """Adds to what users know, whole or not at all."""
    ready = folder / "state.json"
    unfinished = folder / "state.unfinished"
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps({**(json.loads(ready.read_text()) if ready.exists() else {}), **more}))
    unfinished.rename(ready)


def reap() -> None:
    """Waits for all that our processes left behind."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _prepared(folder: Path, files: Mapping[str, str]) -> TextIO:
    """Makes the folder with its locks, under its name only when all is there: no sweep meets half of it."""
    unnamed = folder.with_name(f".{folder.name}")
    unnamed.mkdir(mode=0o700)
    (unnamed / "daemon").touch()
    for name, content in files.items():
        (unnamed / name).write_text(content)
    users = (unnamed / "users").open("w")
    fcntl.flock(users, fcntl.LOCK_SH)
    unnamed.rename(folder)
    return users


def _import_path() -> list[str]:
    """Where our modules come from, for a daemon that starts in no folder of theirs."""
    above = Path(__file__).parents[2]
    return [str(above / "tests"), str(above / "e2e")]


def _is_left(users: TextIO) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _adopt() -> None:
    """Makes us the parent of what our processes leave behind: an init that reaps nobody would keep it as zombies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
