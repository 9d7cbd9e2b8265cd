"""The cluster that scenarios act on: through kubectl and helm as users do, and through the API to look."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from control_plane.client import Client, Object
from paritygate import clock

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = ROOT / "examples" / "05-cluster"
_TOOLS: Final = ROOT / ".build" / "tools"
_FORWARD_SECONDS: Final = 20.0
_LEVEL: Final = "pod-security.kubernetes.io/enforce"

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Image:
    """An image that nodes have, and that is never pulled."""

    reference: str
    """With its digest."""
    tagged: str
    digest: str

    @property
    def repository(self) -> str:
        """Without its digest."""
        return self.reference.rpartition("@")[0]


@dataclass
class Cluster:
    """A cluster, its administrator's programs, and the namespaces that scenarios made in it."""

    api: Client
    kubeconfig: Path
    folder: Path
    """For what programs are given and what they leave."""
    namespaces: list[str] = field(default_factory=list)
    """That are there now: what is told of a failure is looked for in them."""

    def kubectl(
        self,
        *arguments: str,
        namespace: str | None = None,
        given: str | Mapping[str, Any] | None = None,
        check: bool = True,
        seconds: float = 90,
    ) -> Ended:
        """Runs kubectl to its end. AssertionError: it failed, and `check` is asked for.

        `given`: what stands on its standard input; an object is written as JSON.
        """
        head = [*self._head(), *(("--namespace", namespace) if namespace else ())]
        text = given if given is None or isinstance(given, str) else json.dumps(given)
        return _ended([*head, *arguments], text, seconds, check=check)

    def helm(self, *arguments: str, given: Mapping[str, Any] | None = None, seconds: float = 360) -> Ended:
        """Runs helm to its end; `given`: values, where `--values -` asks for them. AssertionError: it failed."""
        head = [program("helm"), "--kubeconfig", str(self.kubeconfig)]
        return _ended([*head, *arguments], json.dumps(given) if given is not None else None, seconds, check=True)

    def started(self, *arguments: str, into: Path) -> subprocess.Popen[str]:
        """Starts a kubectl that goes on, such as `get -w`; the test ends it. What it prints goes to a file."""
        with into.open("w") as out:
            return subprocess.Popen([*self._head(), *arguments], stdout=out, stderr=out, text=True)

    def apply(self, manifest: Path | Object, namespace: str) -> None:
        """`kubectl apply`, as users do."""
        if isinstance(manifest, Path):
            self.kubectl("apply", "-f", str(manifest), namespace=namespace)
        else:
            self.kubectl("apply", "-f", "-", given=manifest, namespace=namespace)

    def waits(self, namespace: str, name: str, condition: str, seconds: int = 800) -> None:
        """`kubectl wait` for a condition of a migration. AssertionError: it does not come; with how things stand."""
        ended = self.kubectl(
            "wait", f"--for=condition={condition}", f"mm/{name}", f"--timeout={seconds}s",
            namespace=namespace, check=False, seconds=seconds + 30,
        )  # fmt: skip
        if ended.returncode:
            status = self.api.get("ModelMigration", name, namespace).get("status", {})
            pytest.fail(f"{ended.stderr}{json.dumps(status, indent=1)}", pytrace=False)

    @contextlib.contextmanager
    def forwarded(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """Host and port at which a port of a pod or Service answers here, on any cluster, while this is entered."""
        command = [*self._head(), "--namespace", namespace, "port-forward", "--address=127.0.0.1", target, f":{port}"]
        errors = self.folder / f"port-forward-{secrets.token_hex(4)}.log"
        with errors.open("w") as told:
            forward = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True)
        # A line that never comes must not be waited for without end.
        late = threading.Timer(_FORWARD_SECONDS, forward.kill)
        late.start()
        try:
            line = forward.stdout.readline() if forward.stdout else ""
            late.cancel()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            assert found, f"kubectl port-forward {target}: {line}{errors.read_text()}"
            yield found.group()
        finally:
            late.cancel()
            forward.kill()
            forward.communicate()

    @contextlib.contextmanager
    def fresh_namespace(self, level: str = "restricted", prefix: str = "test") -> Iterator[str]:
        """A namespace that enforces a Pod Security Standard; deleted afterwards, and not waited for."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        labels = {_LEVEL: level, f"{_LEVEL}-version": "latest"}
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        # Pods are refused until it is there.
        self.api.until("ServiceAccount", "default", name, lambda _: True)
        self.namespaces.append(name)
        try:
            yield name
        finally:
            self.namespaces.remove(name)
            # A test may have deleted it.
            self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")

    def has(self, namespace: str) -> bool:
        """Whether there is such a namespace. One that is being deleted is waited for, and then there is none."""
        found = self.api.find("Namespace", namespace)
        if found is not None and "deletionTimestamp" in found["metadata"]:
            self.api.until_gone("Namespace", namespace, None, 180)
            return False
        return found is not None

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 60) -> Any:
        """What `holds` says, as soon as it is true. AssertionError: it never is."""
        ends = clock.monotonic() + seconds
        while not (found := holds()):
            assert clock.monotonic() < ends, f"not within {seconds:.0f} s: {what}"
            threading.Event().wait(0.05)
        return found

    def _head(self) -> list[str]:
        return [program("kubectl"), "--kubeconfig", str(self.kubeconfig)]


def program(name: str) -> str:
    """Path of kubectl or helm: as `make e2e` installs them, else as on the PATH. Fails where there is neither."""
    found = str(_TOOLS / name) if (_TOOLS / name).exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"there is no {name}: `make e2e` installs it on Linux on x86-64; elsewhere put it on the PATH")
    return found


def images() -> dict[str, Image]:
    """Images by name, as the file says that PARITYGATE_IMAGES names."""
    path = os.environ.get("PARITYGATE_IMAGES")
    if not path:
        pytest.exit("PARITYGATE_IMAGES names no images: run `make e2e`, which builds them and starts a cluster", 2)
    told = json.loads(Path(path).read_text())
    return {name: Image(one["reference"], one["tagged"], one["digest"]) for name, one in told.items()}


def _ended(command: list[str], given: str | None, seconds: float, *, check: bool) -> Ended:
    ended = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if check and ended.returncode:
        pytest.fail(f"{' '.join(command)} ended with {ended.returncode}\n{ended.stdout}{ended.stderr}", pytrace=False)
    return ended
