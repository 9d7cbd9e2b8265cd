"""Namespaces for one pod, and its containers as processes in them. What runs in there is `pod_init.py`."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

_INIT: Final = Path(__file__).with_name("pod_init.py")
_SYSTEM: Final = ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/sys", "/usr")
_PACKET_BYTES: Final = 1 << 16
_START_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Interpreter:
    """What stands for an image: a Python with its packages, beside the machine's own libraries."""

    folders: tuple[str, ...]
    """What is shown of it."""
    path: str
    """Value of PATH."""

    @staticmethod
    def of(python: Path, *more: Path) -> "Interpreter":
        """The interpreter of a virtual environment. `more`: folders that its packages lie in beside its own."""
        said = subprocess.run(
            [python, "-I", "-S", "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
        )
        environment = python.absolute().parent.parent
        folders = [str(environment), said.stdout.strip(), *map(str, more)]
        return Interpreter(tuple(dict.fromkeys(folders)), f"{environment}/bin:/usr/bin:/bin")


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine as a container sees it."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class User:
    """Whom a container runs as. Where we are not root, only for its own eyes: its files are ours."""

    user: int
    group: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Process:
    """A container to start."""

    name: str
    command: Sequence[str]
    interpreter: Interpreter
    user: User
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    folder: str = "/"
    memory: int | None = None
    """Bytes that it may hold; None = any."""
    cpus: Sequence[int] = ()
    """Processors that it may use; none = any."""
    read_only_root: bool = False


@dataclass(frozen=True)
class Ended:
    """What became of a process: its exit status, 128 and the number for a signal, and whether it held too much."""

    code: int
    out_of_memory: bool


@cache
def obstacle() -> str | None:
    """Why containers cannot be carried out as processes here; None = they can."""
    if not sys.platform.startswith("linux"):
        return "namespaces are Linux's: pods cannot be carried out on this machine"
    if shutil.which("unshare") is None:
        return "`unshare` (util-linux) is not installed: pods cannot be carried out on this machine"
    tried = subprocess.run(
        [*_unshare(), sys.executable, "-I", "-S", "-c", _TRIAL], capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return None
    said = (tried.stderr.strip().splitlines() or ["it says nothing"])[-1]
    return f"this machine allows no namespaces, so pods cannot be carried out on it: {said}"


_TRIAL: Final = f"""
import sys
sys.path.insert(0, {str(_INIT.parent)!r})
import pod_init
pod_init.mount("proc", "/proc", "proc", pod_init.NOSUID | pod_init.NODEV | pod_init.NOEXEC)
pod_init.mount("tmpfs", "/dev/shm", "tmpfs")
pod_init.bring_up_loopback()
"""


def _unshare() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child"]


class Sandbox:
    """The namespaces of one pod, while it is open. Used in one event loop."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds logs and roots; it is the caller's to remove."""
        self._folder = folder
        self._ends: dict[str, asyncio.Future[Ended]] = {}
        self._connections: list[asyncio.Future[socket.socket | None]] = []
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Makes the namespaces. RuntimeError: they cannot be made."""
        (self._folder / "logs").mkdir(parents=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self._folder / "logs" / "pod").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it is spoken to by its line, and not waited for
                [*_unshare(), sys.executable, "-I", "-S", str(_INIT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(theirs.fileno(),), start_new_session=True,
            )  # fmt: skip
        ours.setblocking(False)
        self._line = ours
        try:
            first = await asyncio.wait_for(self._loop.sock_recv(ours, _PACKET_BYTES), _START_SECONDS)
        except BaseException:
            self.close()
            raise
        if not first:
            self.close()
            raise RuntimeError(f"no namespaces for a pod: {(self._folder / 'logs' / 'pod').read_text()}")
        self._loop.add_reader(ours, self._hear)

    def close(self) -> None:
        """Ends everything in the pod at once."""
        self._loop.remove_reader(self._line)
        self._line.close()
        # It ends by itself when the line is cut; what does not is killed, and its child with it.
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lose_all()

    def log(self, name: str) -> Path:
        """Where a container's output goes."""
        return self._folder / "logs" / name

    def start(self, process: Process) -> None:
        """Starts a container."""
        self._ends[process.name] = self._loop.create_future()
        user = {"user": process.user.user, "group": process.user.group, "groups": list(process.user.groups)}
        shown = [path for path in _SYSTEM if os.path.lexists(path)]
        order = {
            "start": process.name,
            "root": str(self._folder / "root"),
            "shown": [*shown, *process.interpreter.folders],
            "mounts": [{"source": str(m.source), "target": m.target, "readOnly": m.read_only} for m in process.mounts],
            "log": str(self.log(process.name)),
            "command": list(process.command),
            "environment": {"PATH": process.interpreter.path, **process.environment},
            "folder": process.folder,
            "user": {**user, "real": os.geteuid() == 0},
            "memory": process.memory,
            "cpus": list(process.cpus),
            "readOnlyRoot": process.read_only_root,
        }
        self._send(order)

    async def ended(self, name: str) -> Ended:
        """What became of a container, as soon as it has ended."""
        return await asyncio.shield(self._ends[name])

    def signal(self, name: str, number: int = signal.SIGTERM) -> None:
        """Sends a signal to a container's first process."""
        self._send({"signal": name, "number": number})

    async def connect(self, port: int) -> socket.socket | None:
        """A connection to the pod's loopback; None = nobody listens."""
        waiting: asyncio.Future[socket.socket | None] = self._loop.create_future()
        self._connections.append(waiting)
        self._send({"connect": port})
        return await waiting

    def _send(self, order: Mapping[str, Any]) -> None:
        # A pod that is gone is told by what its containers came to.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, OSError):
            self._line.send(json.dumps(order).encode())

    def _hear(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._line, _PACKET_BYTES, 1)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._loop.remove_reader(self._line)
            self._lose_all()
            return
        told = json.loads(packet)
        if "ended" in told:
            found = self._ends[told["ended"]]
            if not found.done():
                found.set_result(Ended(told["code"], told["oom"]))
            return
        connection = socket.socket(fileno=descriptors[0]) if descriptors else None
        waiting = self._connections.pop(0)
        if waiting.done():
            if connection:
                connection.close()
        else:
            waiting.set_result(connection)

    def _lose_all(self) -> None:
        """The pod's first process is gone, and everything with it."""
        for found in self._ends.values():
            if not found.done():
                found.set_result(Ended(128 + signal.SIGKILL, out_of_memory=False))
        for waiting in self._connections:
            if not waiting.done():
                waiting.set_result(None)
        self._connections.clear()
