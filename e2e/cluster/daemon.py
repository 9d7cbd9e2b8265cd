"""Runs one cluster while somebody uses it: `python -m cluster.daemon FOLDER`, started by `bare.py`."""

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cluster import cgroups, layout
from cluster.layout import Layout
from control_plane import lifetime
from paritygate.local.processes import Process, tail

_POLL_SECONDS: Final = 0.02
_NAMESPACES: Final = ("--mount", "--pid", "--net", "--ipc", "--uts")


class _Cluster:
    def __init__(self, folder: Path) -> None:
        self._layout = Layout(folder)
        self._node: Process | None = None
        (folder / "logs").mkdir()

    def start(self) -> Mapping[str, object]:
        cgroups.make(self._layout.folder.name)
        self._node = Process(
            ["unshare", *_NAMESPACES, "--fork", "--kill-child", sys.executable, "-m", "cluster.node",
             str(self._layout.folder)],
            self._layout.log("node"), extra={"PYTHONPATH": os.environ["PYTHONPATH"]},
        )  # fmt: skip
        ready = self._layout.path(layout.READY)
        while not ready.exists():
            self.mend()
            threading.Event().wait(_POLL_SECONDS)
        number = int(self._layout.path(layout.PID).read_text())
        return {
            "pid": number,
            # By it users know that the number is the node's still, and not of a process that came later.
            "network": str(Path(f"/proc/{number}/ns/net").readlink()),
            "ready": json.loads(ready.read_text()),
            "processes": {"node": self._node.group},
        }

    def mend(self) -> None:
        """RuntimeError: something of the node has ended, and all with it."""
        if self._node is not None and self._node.poll() is not None:
            with contextlib.suppress(FileNotFoundError):
                raise RuntimeError(self._layout.path(layout.FAILURE).read_text())
            raise RuntimeError(f"the node ended with {self._node.poll()}{tail(self._layout.log('node'))}")

    def stop(self) -> None:
        if self._node is not None:
            self._node.kill()
        lifetime.reap()
        self._keep_logs()
        leave(self._layout.folder)

    def _keep_logs(self) -> None:
        with contextlib.suppress(OSError):
            place = Path(self._layout.path(layout.LOGS).read_text())
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self._layout.path("logs"), place)


def leave(folder: Path) -> None:
    """Removes what a cluster has outside of its folder."""
    cgroups.remove(folder.name)


def main() -> int:
    """Serves until the last user is gone."""
    return lifetime.serve(Path(sys.argv[1]), _Cluster)


if __name__ == "__main__":
    sys.exit(main())
