"""Control groups of a cluster's pods: one group of the cluster's name, in every hierarchy of the machine."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from paritygate import clock

ROOT: Final = Path("/sys/fs/cgroup")
_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05
_UNIFIED: Final = "cgroup.controllers"
"""The file that a hierarchy of version 2 has."""
_SHARES: Final = "cpu.shares"
_COMPONENTS: Final = "components"
_WEIGHT: Final = 8
"""Times a usual group's. On a machine that is busy otherwise an API server that waits for its turn ends by itself."""
_WANTED: Final = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")


def make(name: str, root: Path = ROOT) -> None:
    """Makes the group, with what its children need. OSError: control groups cannot be made here."""
    if (root / _UNIFIED).exists():
        _delegate(root)
        (root / name).mkdir()
        _delegate(root / name)
        (root / name / "cpu.weight").write_text(f"{100 * _WEIGHT}")
        return
    for hierarchy in _hierarchies(root):
        if (hierarchy / _UNIFIED).exists():
            continue
        (hierarchy / name).mkdir()
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / file).exists():
                (hierarchy / name / file).write_text((hierarchy / file).read_text())
        if (hierarchy / _SHARES).exists():
            (hierarchy / name / _SHARES).write_text(f"{1024 * _WEIGHT}")


def join(name: str, process: int, root: Path = ROOT) -> None:
    """Lets a process, and what it will start, have the processor that the group has, beside its pods."""
    found = [root] if (root / _UNIFIED).exists() else [h for h in _hierarchies(root) if (h / _SHARES).exists()]
    for hierarchy in found:
        (hierarchy / name / _COMPONENTS).mkdir()
        (hierarchy / name / _COMPONENTS / "cgroup.procs").write_text(str(process))


def remove(name: str, root: Path = ROOT) -> None:
    """Removes the group with all below. OSError: processes live in it still, after ten seconds."""
    ends = clock.monotonic() + _SECONDS
    while left := [path for hierarchy in (root, *_hierarchies(root)) if (path := hierarchy / name).is_dir()]:
        for path in left:
            for group in [*sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True), path]:
                with contextlib.suppress(OSError):
                    group.rmdir()
        if all(not path.exists() for path in left):
            return
        if clock.monotonic() > ends:
            raise OSError(f"{left[0]} cannot be removed: processes of the cluster live in it still")
        threading.Event().wait(_POLL_SECONDS)


def _hierarchies(root: Path) -> Iterator[Path]:
    """Of version 1, one folder each; links are other names of the same."""
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists():
            yield path


def _delegate(group: Path) -> None:
    """Lets children of a group of version 2 have controllers. One that is missing is none of ours."""
    for controller in _WANTED:
        with contextlib.suppress(OSError):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
