"""The control plane for tests: shared, private, limited, mended, and gone without a trace."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
import yaml

from control_plane import binaries, fixtures, identities, plane, volumes
from control_plane.client import Refused
from control_plane.kubelet import Kubelet
from paritygate import clock

TESTS = Path(__file__).parents[1]
# Another process that uses the control plane of a session, says so, and waits to be told to go.
USER = """
import pathlib, sys
from control_plane import plane
with plane.shared(pathlib.Path(sys.argv[1])) as used:
    print(used.folder, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_user(session):
    with subprocess.Popen(
        [sys.executable, "-c", USER, str(session)],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        try:
            yield user, Path(user.stdout.readline().strip())
        finally:
            user.kill()


def until(holds, seconds=20):
    ends = clock.monotonic() + seconds
    while not holds():
        assert clock.monotonic() < ends
        threading.Event().wait(0.01)


def alive(group):
    """Whether anything of a process group still runs; what merely waits to be reaped does not."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats.append(path.read_text().rsplit(")", 1)[1].split())
    return any(int(fields[2]) == group and fields[0] != "Z" for fields in stats)


@pytest.fixture(autouse=True)
def built():
    try:
        binaries.commands()
    except binaries.NoToolchain as missing:
        pytest.skip(str(missing))


def test_one_is_shared_and_ends_with_its_last_user_however_that_ends(tmp_path):
    with another_user(tmp_path) as (first, folder), another_user(tmp_path) as (second, same):
        assert same == folder
        groups = plane._described(folder).processes.values()
        assert len(groups) == 4
        first.stdin.close()
        first.wait()
        with plane.shared(tmp_path) as used, used.client() as client:
            assert [node["metadata"]["name"] for node in client.list("Node")] == [used.node]
        assert all(map(alive, groups))
        second.kill()
        second.wait()
        until(lambda: not folder.exists())
        until(lambda: not any(map(alive, groups)))


def test_leaves_no_process_when_its_daemon_is_killed_and_the_next_sweeps_its_files(tmp_path):
    with another_user(tmp_path) as (user, folder):
        groups = plane._described(folder).processes.values()
        (daemon,) = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if path.read_bytes().endswith(f"control_plane.daemon\0{folder}\0".encode())
        ]
        os.kill(daemon, signal.SIGKILL)
        until(lambda: not any(map(alive, groups)))
        user.kill()
        user.wait()
    assert folder.exists()
    (tmp_path / "next").mkdir()
    with plane.shared(tmp_path / "next"):
        assert not folder.exists()


def test_records_the_requests_that_a_policy_asks_for(tmp_path):
    rules = [{"level": "Metadata", "verbs": ["create"]}, {"level": "None"}]
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}
    with plane.shared(tmp_path, policy) as used, used.client() as api:
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen", "namespace": "default"}}
        api.create(item)
        api.get("ConfigMap", "seen", "default")
        (log,) = used.folder.glob("audit*.log")
        seen = [event for event in map(json.loads, log.read_text().splitlines())
                if event["objectRef"].get("name") == "seen"]  # fmt: skip
    assert [(event["verb"], event["responseStatus"]["code"]) for event in seen] == [("create", 201)]


def test_starts_again_under_the_same_address_what_was_killed(own_control_plane):
    with own_control_plane.client() as client, Kubelet(own_control_plane, "default"):
        client.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}})
        before = own_control_plane.processes
        own_control_plane.signal("kube-apiserver", signal.SIGKILL)

        def answers():
            with contextlib.suppress(OSError, Refused, httpx.TransportError):
                return client.find("ConfigMap", "kept", "default")

        until(lambda: own_control_plane.processes != before and answers())


def test_says_why_it_does_not_start(tmp_path, monkeypatch):
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(plane.StartFailed, match=r"(?s)ended with 3.*out of order"), plane.shared(tmp_path):
        pass


def test_takes_the_binaries_of_kubebuilder_assets(tmp_path, monkeypatch):
    ours = binaries.binary()
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).write_text(f'#!/bin/sh\ntouch "{tmp_path}/{name}.used"\nexec "{ours}" {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with plane.shared(tmp_path) as started, started.client() as client:
        assert client.list("Node")
    assert sorted(path.name for path in tmp_path.glob("*.used")) == ["etcd.used", "kube-apiserver.used"]


def test_says_that_kubebuilder_assets_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(binaries.NotBuilt, match="etcd or kube-apiserver is not in this folder"):
        binaries.commands()


def test_says_that_there_is_no_go(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(binaries.NoToolchain, match="Go is not installed"):
        binaries.commands()
    done = subprocess.run([sys.executable, binaries.__file__], capture_output=True, text=True, check=False)
    assert done.returncode == 69
    assert "Tests that need it will be skipped" in done.stderr


def test_says_that_it_is_not_built(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(binaries.NotBuilt, match="Run `make control-plane`"):
        binaries.commands()


def test_uses_an_existing_cluster(control_plane, tmp_path):
    with plane.existing(control_plane.kubeconfig(), tmp_path) as found, found.client() as client:
        assert found.url == control_plane.url
        assert found.node == control_plane.node
        assert client.list("Node")


@pytest.mark.parametrize(
    ("server", "said", "meant"),
    [
        ("https://127.0.0.1:6443", "", True),
        ("https://prod.example:6443", "", False),
        ("https://ci.example", "true", True),
    ],
    ids=["on this machine", "elsewhere", "elsewhere, on purpose"],
)
def test_spares_clusters_that_nobody_meant(tmp_path, monkeypatch, server, said, meant):
    monkeypatch.setenv("USE_EXISTING_CLUSTER", said)
    path = tmp_path / "config"
    path.write_text(plane.kubeconfig(server, tmp_path / "ca.crt", "token"))
    assert plane.meant_for_tests(path) is meant


def test_an_identity_may_do_only_what_it_was_granted(control_plane, api, namespace, identity):
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain", "namespace": namespace}})
    token = identity({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]})
    with control_plane.client(token) as limited:
        assert limited.get("ConfigMap", "plain", namespace)
        with pytest.raises(Refused) as refused:
            limited.list("Secret", namespace)
        assert refused.value.code == 403
        with pytest.raises(Refused):
            limited.get("ConfigMap", "kube-root-ca.crt", "default")


def test_what_an_identity_may_do_everywhere_ends_with_the_test(control_plane, api, namespace):
    rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    token = identities.identity(api, namespace, (), [rule])
    with control_plane.client(token) as limited:
        assert limited.list("Node")
        identities.discard(api, namespace)

        def refused():
            try:
                limited.list("Node")
            except Refused:
                return True
            return False

        until(refused)


def test_provides_volumes(api, namespace):
    claim = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "shared",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    metadata = {"name": "models", "namespace": namespace}
    api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    bound = volumes.provide(api, namespace, "models")
    assert bound["status"]["capacity"] == {"storage": "1Gi"}


def test_takes_the_first_kubeconfig_that_is_there(tmp_path, monkeypatch):
    present = tmp_path / "config"
    present.touch()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}{os.pathsep}{present}")
    assert plane.kubeconfig_given() == present
    monkeypatch.delenv("KUBECONFIG")
    assert plane.kubeconfig_given() is None


def test_says_that_a_kubeconfig_cannot_be_used(tmp_path):
    path = tmp_path / "config"
    user = {"exec": {"command": "none-such"}}
    config = yaml.safe_load(plane.kubeconfig("https://127.0.0.1:1", tmp_path / "ca.crt", "token"))
    path.write_text(yaml.safe_dump({**config, "users": [{"name": "test", "user": user}]}))
    with (
        pytest.raises(plane.StartFailed, match="neither a token nor a client certificate"),
        plane.existing(path, tmp_path),
    ):
        pass


def test_nobody_gets_in_without_a_token(control_plane):
    with control_plane.client("wrong") as stranger, pytest.raises(Refused) as refused:
        stranger.list("Node")
    assert refused.value.code == 401


def test_a_namespace_goes_with_all_its_pods(control_plane, api):
    name = "test-discarded"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api.until("ServiceAccount", "default", name, lambda _: True)
    pod = {"containers": [{"name": "server", "image": "registry.example/server:1"}]}
    with Kubelet(control_plane, name) as kubelet:
        api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "namespace": name}, "spec": pod})
        kubelet.until_seen(1)
    fixtures.discard(api, name)
    api.until_gone("Namespace", name, None)
