"""Fixtures of the end-to-end suite: a real cluster, ParityGate installed in it by helm, models in a bucket.

`make e2e` builds images and a cluster and runs this suite in it; CONTRIBUTING.md tells more. Scenarios act through
kubectl and helm, as users do, and look through the API.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import models
from control_plane import binaries, plane
from control_plane.client import Object
from control_plane.nothing_skipped import pytest_sessionfinish
from suite import access, evidence, killing
from suite import release as releases
from suite import store as stores
from suite.access import Cluster, Image
from suite.killing import Killer
from suite.release import Release
from suite.store import Store
from suite.traffic import Load

__all__ = ["pytest_sessionfinish"]

_CLUSTER = pytest.StashKey[Cluster]()
_TOLD = pytest.StashKey[list[BaseException]]()
SECONDS = 1200
"""A scenario's limit where it names none: on a busy machine each container of a pod takes many seconds to start."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives every scenario time."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster that KUBECONFIG names: `cluster.kubectl(…)`, `cluster.helm(…)`, and `cluster.api` to look with."""
    given = plane.kubeconfig_given()
    if given is None:
        pytest.exit("KUBECONFIG names no cluster: run `make e2e`, which starts one", 2)
    folder = tmp_path_factory.mktemp("cluster")
    with plane.existing(given, folder) as found, found.client() as api:
        one = Cluster(api, given, folder)
        request.config.stash[_CLUSTER] = one
        yield one


@pytest.fixture(scope="session")
def images() -> dict[str, Image]:
    """Images by name: operator, server, worker, legacy, s3, base."""
    return access.images()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], contextlib.AbstractContextManager[Path]]:
    """Lets one worker of pytest-xdist in at a time, by a name, and gives a folder that all of them share."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent

    @contextlib.contextmanager
    def entered(name: str) -> Iterator[Path]:
        with binaries.locked(session / f"{name}.lock"):
            yield session

    return entered


@pytest.fixture(scope="session")
def trained(once: Any) -> Path:
    """The examples' models and data sets in folders of their names, as they lie in the bucket `models`."""
    # One of them needs a package index, which the cluster's network does not lead to.
    if given := os.environ.get("PARITYGATE_MODELS"):
        return Path(given)
    with once("models"):
        return models.make()


@pytest.fixture(scope="session")
def store(cluster: Cluster, images: dict[str, Image], trained: Path, once: Any) -> Iterator[Store]:
    """An S3 server in the cluster, with all that the examples' manifests name; removed again, as ParityGate is."""
    with once("store") as session:
        there = cluster.has(stores.NAMESPACE)
        found = stores.bring_up(cluster, images["s3"], images["base"])
        if not (session / "uploaded").exists():
            found.upload(trained)
            (session / "uploaded").touch()
    yield found
    if not there and "PYTEST_XDIST_WORKER" not in os.environ:
        cluster.kubectl("delete", "namespace", stores.NAMESPACE, "--wait=false")


@pytest.fixture(scope="session")
def release(cluster: Cluster, images: dict[str, Image], once: Any) -> Iterator[Release]:
    """ParityGate for the whole cluster, installed by `helm --wait`; removed again where it was not there before.

    Workers of pytest-xdist cannot know who is last, and leave it.
    """
    with once("release") as session:
        found = cluster.helm("list", "--namespace", releases.NAMESPACE, "--short").stdout.split()
        if not (session / "installed").exists():
            releases.install(cluster, releases.values(images))
            (session / "installed").touch()
    yield Release(cluster, "paritygate", releases.NAMESPACE)
    if "paritygate" not in found and "PYTEST_XDIST_WORKER" not in os.environ:
        cluster.helm("uninstall", "paritygate", "--namespace", releases.NAMESPACE)


@pytest.fixture
def namespace(cluster: Cluster, store: Store) -> Iterator[str]:
    """A fresh namespace that enforces the `restricted` standard, with the store's Secret `artefact-store`."""
    with cluster.fresh_namespace() as name:
        cluster.api.create(store.secret(name))
        yield name


@pytest.fixture(scope="module")
def shared_namespace(cluster: Cluster, store: Store) -> Iterator[str]:
    """The same, for the tests of a file."""
    with cluster.fresh_namespace() as name:
        cluster.api.create(store.secret(name))
        yield name


@pytest.fixture(scope="session")
def load(cluster: Cluster, images: dict[str, Image]) -> Load:
    """Starts clients that ask 100 times a second in each of two ways, until the context that it gives is left."""
    return Load(cluster, images["worker"])


@pytest.fixture(scope="session")
def sigkill(cluster: Cluster, images: dict[str, Image], once: Any) -> Iterator[Killer]:
    """`sigkill(namespace, pod)` kills the processes of a container, as the kernel does."""
    with once("killer"):
        found = Killer(cluster, images["base"])
    yield found
    if "PYTEST_XDIST_WORKER" not in os.environ:
        cluster.kubectl("delete", "namespace", killing.NAMESPACE, "--wait=false")


@pytest.fixture
def migration(cluster: Cluster, namespace: str) -> Callable[[str], Object]:
    """The migration of a name in the namespace, as it is now."""
    return lambda name: cluster.api.get("ModelMigration", name, namespace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Adds to the report of a failure what the cluster tells of it."""
    report = yield
    found = item.config.stash.get(_CLUSTER, None)
    if report.failed and found is not None and _is_news(item, call):
        try:
            for section in evidence.gathered(found):
                report.sections.append(section)
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - the failure is told whatever else fails
            report.sections.append(("cluster", f"could not be asked: {error!r}"))
    return report


def _is_news(item: pytest.Item, call: pytest.CallInfo[None]) -> bool:
    """Whether a failure was not told of yet: that of a shared fixture comes up in each test that asks for it."""
    told, error = item.config.stash.setdefault(_TOLD, []), call.excinfo.value if call.excinfo else None
    if error is None or any(error is other for other in told):
        return False
    told.append(error)
    return True
