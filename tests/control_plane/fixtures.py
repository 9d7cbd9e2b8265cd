"""The fixtures that tests/conftest.py offers to every test."""

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from control_plane import binaries, identities, plane
from control_plane.client import Client, Refused, path_of
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, operating
from control_plane.plane import ControlPlane
from paritygate.api import crd


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A Kubernetes control plane, shared by all tests and workers of the session: use namespaces of your own."""
    given = plane.kubeconfig_given()
    if given and plane.meant_for_tests(given):
        with plane.existing(given, tmp_path_factory.mktemp("cluster")) as found:
            yield found
        return
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    with started(session) as found:
        yield found


@pytest.fixture
def own_control_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """A control plane of the test's own, whose components it may kill."""
    with started(tmp_path) as found:
        yield found


@contextlib.contextmanager
def started(session: Path) -> Iterator[ControlPlane]:
    """The control plane of all who name this folder; skips where none can be started."""
    try:
        with plane.shared(session) as found:
            yield found
    except binaries.NoToolchain as missing:
        pytest.skip(str(missing))
    except binaries.NotBuilt as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[Client]:
    """A client that may do everything."""
    with control_plane.client() as client:
        yield client


@pytest.fixture(scope="session")
def migrations(api: Client) -> Client:
    """A client of a server that knows ModelMigration."""
    definition = crd.crd()
    api.apply(definition, force="true")
    name = definition["metadata"]["name"]

    def served(found: dict) -> bool:
        told = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions") or ()}
        return told.get("Established") == "True" and told.get("NamesAccepted") == "True"

    found = api.until("CustomResourceDefinition", name, None, served)
    assert "NonStructuralSchema" not in {c["type"] for c in found["status"]["conditions"]}
    # Established is said before every handler serves it.
    api.until_served("ModelMigration")
    return api


@pytest.fixture
def namespace(api: Client) -> Iterator[str]:
    """A fresh namespace that enforces the `restricted` Pod Security Standard. It is deleted, but not waited for."""
    with fresh_namespace(api) as name:
        yield name


@contextlib.contextmanager
def fresh_namespace(api: Client) -> Iterator[str]:
    """The same, for tests that share one."""
    name = f"test-{secrets.token_hex(5)}"
    labels = {
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    # Pods are refused until it is there.
    api.until("ServiceAccount", "default", name, lambda _: True)
    yield name
    discard(api, name)


def discard(api: Client, namespace: str) -> None:
    """Deletes a namespace with its pods, which no kubelet stops any more. The test may have done so."""
    try:
        api.delete("Namespace", namespace)
        api.request("DELETE", path_of("Pod", namespace), {"gracePeriodSeconds": 0})
    except Refused as refused:
        if refused.code not in {httpx.codes.NOT_FOUND, httpx.codes.CONFLICT}:
            raise


@pytest.fixture
def kubectl(control_plane: ControlPlane, namespace: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`kubectl("get", "mm")` in the namespace: how it ended, and what it printed."""
    program = tool("kubectl")
    head = [program, "--kubeconfig", str(control_plane.kubeconfig()), "--namespace", namespace]

    def run(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*head, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)

    return run


def tool(name: str) -> str:
    """Path of kubectl or helm: as `make test` installs them, else as on the PATH. Skips where there is neither."""
    installed = Path(__file__).parents[2] / ".build" / "tools" / name
    found = str(installed) if installed.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: `make test` installs it on Linux on x86-64; elsewhere put it on the PATH")
    return found


@pytest.fixture
def scene(control_plane: ControlPlane, migrations: Client, namespace: str) -> Iterator[Work]:
    """The operator and a node at work in the namespace; what Jobs hand in is for the test to say."""
    work = Work()
    labels = {"paritygate.dev/allowed": "true"}
    metadata = {"name": "store", "namespace": namespace, "labels": labels}
    migrations.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    with Kubelet(control_plane, namespace, work), operating(control_plane, namespace):
        yield work


@pytest.fixture
def identity(api: Client, namespace: str) -> Iterator[Callable[..., str]]:
    """`identity(*rules, everywhere=[…])` is the token of a new ServiceAccount that may do what these RBAC rules say.

    The first rules hold in the namespace, the others in every namespace and for what has none.
    """
    yield lambda *rules, everywhere=(): identities.identity(api, namespace, rules, everywhere)
    identities.discard(api, namespace)
