"""Where the processes of the control plane come from: KUBEBUILDER_ASSETS, or one binary built from Go modules.

`python tests/control_plane/binaries.py` builds what is missing. Binaries are kept in the user's cache, each by a digest
of all that goes into it, so that checkouts share them. Go's own build cache grows by about 3 GiB.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

COMPONENTS: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
KUBERNETES: Final = "1.36.3"
_TOOLS: Final = Path(__file__).parents[2] / "tools"
_VERSION: Final = "k8s.io/component-base/version.git"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
_EX_UNAVAILABLE: Final = 69


class NoToolchain(Exception):
    """There is no Go to build with, and nothing that was built before."""


class NotBuilt(Exception):
    """There is Go, but the program was not built, or building it failed."""


def cache() -> Path:
    """The folder in the user's cache for what tests keep between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paritygate"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock on a file, against every process that asks for the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of the module `tools/FOLDER`."""

    name: str
    """Of the file in the cache, before the digest."""
    folder: str
    title: str
    """What it is, in messages."""
    command: str
    """What the user types to build it."""
    time: str
    """How long a cold build takes, in words."""
    package: str = "."
    link: str = "-s -w"
    sources: tuple[str, ...] = ("go.mod", "go.sum", "main.go")

    @property
    def path(self) -> Path:
        """The program that was built. NoToolchain, NotBuilt: it was not."""
        place = self._place()
        if not place.exists():
            raise NotBuilt(f"Not built: {self.title}. Run `{self.command}` ({self.time}, once)")
        return place

    def build(self) -> Path:
        """Builds the program unless it is there. NoToolchain, NotBuilt: it cannot be built."""
        place = self._place()
        with locked(place.with_suffix(".lock")):
            if place.exists():
                return place
            sys.stderr.write(f"Building {self.title} from Go modules: {self.time}, once.\n")
            unfinished = place.with_suffix(".unfinished")
            module = _TOOLS / self.folder
            environment = {**os.environ, "CGO_ENABLED": "0"}
            command = ["go", *self._flags, "-o", str(unfinished), self.package]
            if subprocess.run(command, cwd=module, env=environment, check=False).returncode:
                raise NotBuilt(f"Go failed in {module} to build {self.title}; its words stand above")
            unfinished.rename(place)
        return place

    @property
    def _flags(self) -> tuple[str, ...]:
        return ("build", "-mod=readonly", "-trimpath", "-ldflags", self.link)

    def _place(self) -> Path:
        if shutil.which("go") is None:
            raise NoToolchain(f"Go is not installed (1.26, or 1.21 and newer, which fetches 1.26), for {self.title}")
        module = _TOOLS / self.folder
        asked = subprocess.run(["go", "env", "GOVERSION"], cwd=module, capture_output=True, text=True, check=False)
        if asked.returncode:
            raise NoToolchain(f"No Go that can build {self.title}: {asked.stderr.strip()}")
        digest = hashlib.sha256("\0".join((asked.stdout.strip(), *self._flags, self.package)).encode())
        for name in self.sources:
            digest.update((module / name).read_bytes())
        return cache() / f"{self.name}-{digest.hexdigest()[:16]}"


_PROGRAM: Final = Program(
    name="control-plane",
    folder="control-plane",
    title="the control plane for tests",
    command="make control-plane",
    time="about four minutes",
    # Without its version the server says v0.0.0, and refuses controllers that are newer.
    link=f"-s -w -X {_VERSION}Version=v{KUBERNETES} -X {_VERSION}Major={_MAJOR} -X {_VERSION}Minor={_MINOR}",
)


def commands() -> dict[str, tuple[str, ...]]:
    """The beginning of each component's command line. NoToolchain, NotBuilt: it is not there."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    given = {name: Path(assets) / name for name in COMPONENTS} if assets else {}
    if assets and not (given["etcd"].exists() and given["kube-apiserver"].exists()):
        raise NotBuilt(
            f"KUBEBUILDER_ASSETS={assets}: etcd or kube-apiserver is not in this folder; correct or unset it"
        )
    found = {name: (str(path),) for name, path in given.items() if path.exists()}
    if len(found) < len(COMPONENTS):
        ours = str(binary())
        found = {name: found.get(name, (ours, name)) for name in COMPONENTS}
    return found


def binary() -> Path:
    """The binary that was built. NoToolchain, NotBuilt: it was not."""
    return _PROGRAM.path


def build() -> Path:
    """Builds the binary unless it is there. NoToolchain, NotBuilt: it cannot be built."""
    return _PROGRAM.build()


def main() -> int:
    """Builds. Exit status 69: there is no Go; 1: the build failed."""
    try:
        print(build())  # noqa: T201 - what a command says
    except NoToolchain as error:
        sys.stderr.write(f"{error}. Tests that need it will be skipped.\n")
        return _EX_UNAVAILABLE
    except NotBuilt as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
