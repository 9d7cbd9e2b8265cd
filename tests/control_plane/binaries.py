"""Where the processes of the control plane come from: KUBEBUILDER_ASSETS, or one binary built from Go modules.

`python tests/control_plane/binaries.py` builds what is missing. The binary is kept in the user's cache, by a digest of
all that goes into it, so that checkouts share it. Go's own build cache grows by about 3 GiB.
"""

import contextlib
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
_MODULE: Final = Path(__file__).parents[2] / "tools" / "control-plane"
_VERSION: Final = "k8s.io/component-base/version.git"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
# Without its version the server says v0.0.0, and refuses controllers that are newer.
_BUILD: Final = (
    "build",
    "-mod=readonly",
    "-trimpath",
    "-ldflags",
    f"-s -w -X {_VERSION}Version=v{KUBERNETES} -X {_VERSION}Major={_MAJOR} -X {_VERSION}Minor={_MINOR}",
)
_EX_UNAVAILABLE: Final = 69


class NoToolchain(Exception):
    """There is no Go to build with, and nothing that was built before."""


class NotBuilt(Exception):
    """There is Go, but the binary was not built, or building it failed."""


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
    path = _place()
    if not path.exists():
        raise NotBuilt("The control plane for tests is not built: run `make control-plane` (about four minutes, once)")
    return path


def build() -> Path:
    """Builds the binary unless it is there. NoToolchain, NotBuilt: it cannot be built."""
    path = _place()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if path.exists():
            return path
        sys.stderr.write("Building the Kubernetes control plane for tests from Go modules: about four minutes, once.\n")
        unfinished = path.with_suffix(".unfinished")
        environment = {**os.environ, "CGO_ENABLED": "0"}
        command = ["go", *_BUILD, "-o", str(unfinished), "."]
        if subprocess.run(command, cwd=_MODULE, env=environment, check=False).returncode:
            raise NotBuilt(
                f"The control plane for tests cannot be built: go failed in {_MODULE}; its words stand above"
            )
        unfinished.rename(path)
    return path


def _place() -> Path:
    if shutil.which("go") is None:
        raise NoToolchain(
            "Go is not installed (1.26, or 1.21 and newer, which fetches 1.26): no control plane for tests"
        )
    asked = subprocess.run(["go", "env", "GOVERSION"], cwd=_MODULE, capture_output=True, text=True, check=False)
    if asked.returncode:
        raise NoToolchain(f"No Go that can build the control plane for tests: {asked.stderr.strip()}")
    digest = hashlib.sha256("\0".join((asked.stdout.strip(), *_BUILD)).encode())
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((_MODULE / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "paritygate" / f"control-plane-{digest.hexdigest()[:16]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


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
