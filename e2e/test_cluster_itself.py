"""The cluster for tests is one: pods, names, Services, volumes, logs; and it keeps to itself and leaves nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

import pytest

from cluster import bare
from cluster.layout import OURS, PREFIX
from control_plane.client import condition
from paritygate import clock
from suite.pods import restricted

ASK = """
import sys, time, urllib.request
for chance in range(20, -1, -1):  # that a pod is ready reaches the node's rules up to a second later
    try:
        print(urllib.request.urlopen(sys.argv[1], timeout=10).status)
        break
    except OSError:
        if not chance:
            raise
        time.sleep(0.5)
"""
LEAVE = """
import socket, time
began = time.monotonic()
for ask in (lambda: socket.create_connection(("192.0.2.1", 443), timeout=10),
            lambda: socket.getaddrinfo("registry.example", 443)):
    try:
        ask()
    except OSError:
        print("refused after", round(time.monotonic() - began), "s")
"""
SHARE = """
import os, pathlib, sys
os.umask(0o002)
path = pathlib.Path("/data/written")
if path.exists():
    print(path.read_text(), os.stat("/data").st_gid)
path.write_text(f"by {os.getuid()}")
"""


@pytest.fixture
def place(cluster):
    """A fresh namespace, without a store."""
    with cluster.fresh_namespace() as name:
        yield name


@pytest.fixture
def ours(cluster):
    if OURS not in cluster.api.list("Node")[0]["metadata"]["labels"]:
        pytest.skip("this is not a cluster of our own making: what its network does is not ours to test")


def ran(cluster, pod):
    """What a pod printed, after it has succeeded."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    cluster.api.create(pod)
    ended = cluster.api.until("Pod", name, namespace, lambda found: found["status"]["phase"] in {"Succeeded", "Failed"})
    said = cluster.kubectl("logs", name, namespace=namespace).stdout
    assert ended["status"]["phase"] == "Succeeded", said
    return said.strip()


def test_its_node_is_ready(cluster):
    assert all(condition(node, "Ready")["status"] == "True" for node in cluster.api.list("Node"))


def test_a_pod_finds_another_by_the_name_of_its_service(cluster, images, place):
    base = images["base"].reference
    server = restricted("server", place, base, ("python3", "-m", "http.server", "8080"), labels={"app": "server"})
    server["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    cluster.api.create(server)
    spec = {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}
    cluster.api.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": place}, "spec": spec}
    )
    cluster.kubectl("wait", "--for=condition=Ready", "pod/server", "--timeout=30s", namespace=place)
    url = f"http://web.{place}.svc/"
    assert ran(cluster, restricted("client", place, base, ("python3", "-c", ASK, url))) == "200"
    assert cluster.kubectl("exec", "server", "--", "id", "-u", namespace=place).stdout == "65532\n"
    if OURS in cluster.api.list("Node")[0]["metadata"]["labels"]:
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.status == 200


def test_a_claim_belongs_to_the_group_of_its_pods(cluster, images, place):
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    metadata = {"name": "data", "namespace": place}
    cluster.api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim})
    volume = {"/data": {"persistentVolumeClaim": {"claimName": "data"}}}
    said = []
    for user in (1001, 1002):
        pod = restricted(f"user-{user}", place, images["base"].reference, ("python3", "-c", SHARE), volumes=volume)
        pod["spec"]["securityContext"] |= {"runAsUser": user, "runAsGroup": user, "fsGroup": 2000}
        said.append(ran(cluster, pod))
    assert said == ["", "by 1001 2000"]


@pytest.mark.usefixtures("ours")
def test_nothing_leaves_it_and_who_tries_is_told_at_once(cluster, images, place):
    pod = restricted("leaving", place, images["base"].reference, ("python3", "-c", LEAVE))
    assert ran(cluster, pod).splitlines() == ["refused after 0 s"] * 2
    with pytest.raises(OSError, match=r"."), socket.create_connection(("192.0.2.1", 443), timeout=5):
        pass
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("registry.example", 443)


def processes_of(folder):
    """What runs in a cluster or for it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in path.read_bytes():
                found.append(path.parent.name)
    return found


def until(holds, seconds=60):
    ends = clock.monotonic() + seconds
    while not (found := holds()):
        assert clock.monotonic() < ends
        threading.Event().wait(0.05)
    return found


@pytest.fixture
def disk():
    """A folder with a short name: sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="e2e-", dir=bare.place()) as folder:
        yield Path(folder)


@pytest.mark.usefixtures("ours")
def test_one_whose_daemon_is_killed_leaves_nothing_to_the_next(disk):
    """Another cluster beside this one, with a pod in it when it dies."""
    environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
    environment |= {"PARITYGATE_CLUSTER": "bare", "PARITYGATE_CLUSTER_FOLDER": str(disk)}
    environment["PYTHONPATH"] = os.pathsep.join(str(bare.ROOT / name) for name in ("e2e", "tests"))
    run = [sys.executable, "-m", "cluster", "run", "--"]
    images = json.loads(Path(os.environ["PARITYGATE_IMAGES"]).read_text())
    image = images["base"]["reference"]
    (disk / "images.json").write_text(json.dumps({name: images[name] for name in ("base", "pause")}))
    environment["PARITYGATE_IMAGES"] = str(disk / "images.json")
    pod = "kubectl run sleeper --image=$0 --command -- sleep 600 && kubectl wait --for=condition=Ready pod/sleeper"
    with subprocess.Popen([*run, "sh", "-c", f"{pod} && sleep 600", image], env=environment) as user:
        until(lambda: user.poll() is not None or list(disk.glob(f"{PREFIX}*/state.json")), 120)
        assert user.poll() is None
        (folder,) = disk.glob(f"{PREFIX}*")
        state = json.loads((folder / "state.json").read_text())
        until(lambda: list(Path("/sys/fs/cgroup").rglob(f"{folder.name}/kubepods/**/pod*")))
        os.kill(state["daemon"], signal.SIGKILL)
        until(lambda: not processes_of(folder))
        user.kill()
    assert folder.exists()
    done = subprocess.run([*run, "true"], env=environment, check=False)
    assert done.returncode == 0
    assert [path.name for path in disk.iterdir()] == ["images.json"]
    assert list(Path("/sys/fs/cgroup").glob(f"**/{folder.name}")) == []
    assert str(disk) not in Path("/proc/mounts").read_text()
