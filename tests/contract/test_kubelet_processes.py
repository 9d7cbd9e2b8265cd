"""Pods carried out as processes: what holds in a pod of Kubernetes holds in them, and nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from control_plane.client import condition, holds
from control_plane.kubelet import Kubelet
from control_plane.machine import Machine
from control_plane.sandbox import Interpreter, obstacle

OWN = "/tmp"  # noqa: S108 - a volume of the container's own
IMAGE = "registry.example/python:1"
ROOT = Path(__file__).parents[2]
SECURITY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY = {
    "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
pytestmark = pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))


@pytest.fixture
def machine(tmp_path, api):
    with Machine(tmp_path / "machine", {IMAGE: Interpreter.of(Path(sys.executable))}, api) as machine:
        yield machine


@pytest.fixture
def node(control_plane, namespace, machine):
    with Kubelet(control_plane, namespace, machine):
        yield machine


def python(name, code, **more):
    mounts = [
        {"name": "work", "mountPath": "/work-folder", **({"readOnly": True} if more.pop("looks", False) else {})},
        {"name": "scratch", "mountPath": OWN, "subPath": name},
    ]
    security = {**SECURITY, **more.pop("security", {})}
    return {"name": name, "image": IMAGE, "command": ["python", "-c", code], "volumeMounts": mounts,
            "securityContext": security, **more}  # fmt: skip


def job(namespace, *init, main):
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False, "securityContext": POD_SECURITY,
        "terminationGracePeriodSeconds": 5,
        "initContainers": list(init), "containers": [main],
        "volumes": [{"name": "work", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}],
    }  # fmt: skip
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }  # fmt: skip


def ended(api, namespace, machine, ends="Complete"):
    """The end of each container of the Job's pod, by name."""
    api.until("Job", "work", namespace, lambda found: holds("Complete")(found) or holds("Failed")(found), 20)
    (pod,) = api.list("Pod", namespace)
    assert holds(ends)(api.get("Job", "work", namespace)), machine.logs(pod["metadata"]["name"])
    status = pod["status"]
    states = {c["name"]: c["state"] for c in (*status.get("initContainerStatuses", ()), *status["containerStatuses"])}
    return {name: state["terminated"] for name, state in states.items() if "terminated" in state}


TELL = "def tell(x):\n import json\n open('/dev/termination-log', 'w').write(json.dumps(x))\n"


def test_init_containers_come_one_after_another_and_hand_on_files(api, namespace, node):
    write = "import time; time.sleep(0.3); open('/work-folder/first', 'w').write(str(time.time()))"
    read = f"{TELL}import time\ntell([float(open('/work-folder/first').read()) < time.time()])"
    api.create(job(namespace, python("first", write), main=python("last", read, looks=True)))
    found = ended(api, namespace, node)
    assert found["last"]["message"] == "[true]"
    assert found["first"]["finishedAt"] <= found["last"]["startedAt"]


PLACES = """
import os, socket
def refused(what):
    try:
        what()
    except OSError as error:
        return error.strerror
    return "done"
def write(path):
    return refused(lambda: open(path + "/new", "w").close())
def call():
    socket.create_connection(("10.0.0.1", 80), 2)
tell({
    "root": write("/"), "system": write("/usr"), "python": write(os.path.dirname(os.__file__)),
    "mount": write("/work-folder"), "tmp": write("/tmp"), "home of the tests": os.path.exists(%r),
    "network": refused(call),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapEff", "CapBnd"))],
    "variables": sorted(os.environ), "processes": len([p for p in os.listdir("/proc") if p.isdigit()]),
    "user": [os.getuid(), os.getgid(), os.getgroups()],
})
"""


@pytest.fixture
def places(api, namespace, node, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_TEST", "1")
    code = TELL + PLACES % str(tmp_path)
    api.create(job(namespace, main=python("look", code, looks=True, env=[{"name": "HOME", "value": OWN}])))
    return json.loads(ended(api, namespace, node)["look"]["message"])


def test_a_container_writes_to_its_mounts_only_and_reaches_nobody(places):
    refused = "Read-only file system"
    assert {places[name] for name in ("root", "system", "python", "mount")} == {refused}
    assert places["tmp"] == "done"
    assert not places["home of the tests"]
    assert places["network"] == "Network is unreachable"
    assert {int(found, 16) for found in places["capabilities"]} == {0}
    assert set(places["variables"]) - {"LC_CTYPE"} == {"HOME", "HOSTNAME", "PATH"}
    assert places["processes"] == 2

    assert places["user"][:2] == [65532, 65532]


def test_users_of_one_group_share_what_they_write(api, namespace, node):
    write = "import os; os.mkdir('/work-folder/made'); open('/work-folder/made/file', 'w').write('x')"
    look = "import os\nopen('/work-folder/made/file').read(); s = os.stat('/work-folder/made/file')\n"
    other = f"{TELL}{look}tell([os.getuid(), s.st_uid, s.st_gid])"
    api.create(job(namespace, python("first", write), main=python("other", other, security={"runAsUser": 1001})))
    # Without root there is one user under several names, who sees all files as its own.
    owner = 65532 if os.geteuid() == 0 else 1001
    assert json.loads(ended(api, namespace, node)["other"]["message"]) == [1001, owner, 65532]


def test_a_sidecar_runs_beside_and_ends_last(api, namespace, node):
    serve = (
        "import http.server, signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "http.server.test(http.server.SimpleHTTPRequestHandler, port=8080, bind='127.0.0.1')"
    )
    ask = (
        "import time, urllib.request\nfor _ in range(200):\n try:\n"
        "  tell(urllib.request.urlopen('http://127.0.0.1:8080').status)\n  break\n except OSError:\n  time.sleep(0.05)"
    )
    sidecar = {**python("beside", serve), "restartPolicy": "Always"}
    api.create(job(namespace, sidecar, python("ask", TELL + ask), main=python("last", "pass")))
    found = ended(api, namespace, node)
    assert found["ask"]["message"] == "200"
    assert found["beside"]["exitCode"] == 0
    assert found["beside"]["finishedAt"] >= found["last"]["finishedAt"]


def test_a_sidecar_that_ends_is_started_again(api, namespace, node):
    once = "import os, sys, time\nif os.path.exists('/tmp/been'): time.sleep(60)\nopen('/tmp/been', 'w'); sys.exit(4)"
    sidecar = {**python("beside", once), "restartPolicy": "Always"}
    wait = "import time; time.sleep(1)"
    api.create(job(namespace, sidecar, python("wait", wait), main=python("last", "pass")))
    ended(api, namespace, node)
    (pod,) = api.list("Pod", namespace)
    beside = next(c for c in pod["status"]["initContainerStatuses"] if c["name"] == "beside")
    assert beside["restartCount"] == 1
    assert beside["lastState"]["terminated"]["exitCode"] == 4


def test_a_container_that_fails_ends_the_pod_with_its_status(api, namespace, node):
    api.create(job(namespace, python("fails", f"{TELL}tell('why'); raise SystemExit(3)"), main=python("last", "pass")))
    found = ended(api, namespace, node, "Failed")
    assert (found["fails"]["exitCode"], found["fails"]["message"]) == (3, '"why"')
    assert "last" not in found


def test_a_container_that_holds_more_than_its_limit_is_killed(api, namespace, node):
    greedy = "import time\nheld = []\nfor _ in range(64):\n held.append(b'x' * (8 << 20)); time.sleep(0.01)"
    main = python("greedy", greedy, resources={"limits": {"memory": "128Mi"}})
    api.create(job(namespace, main=main))
    found = ended(api, namespace, node, "Failed")["greedy"]
    assert (found["exitCode"], found["reason"]) == (137, "OOMKilled")


def test_a_pod_that_is_deleted_may_end_in_order(api, namespace, node):
    patient = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('waits', flush=True); time.sleep(60)"
    )
    api.create(job(namespace, main=python("patient", patient)))
    (pod,) = api.until_listed("Pod", namespace, lambda found: found["status"].get("phase") == "Running")
    name = pod["metadata"]["name"]
    while "waits" not in node.logs(name):
        threading.Event().wait(0.02)
    api.delete("Job", "work", namespace)
    api.until_gone("Pod", name, namespace)
    assert not running(name)


@pytest.mark.usefixtures("node")
def test_a_pod_whose_image_is_unknown_waits_for_it(api, namespace):
    api.create(job(namespace, main={**python("work", "pass"), "image": "registry.example/none:1"}))

    def waits(pod):
        states = [c["state"] for c in pod["status"].get("containerStatuses", ())]
        return any(state.get("waiting", {}).get("reason") == "ImagePullBackOff" for state in states)

    (pod,) = api.until_listed("Pod", namespace, waits)
    assert condition(pod, "Ready")["status"] == "False"


def running(mark):
    """Process numbers whose variables hold the mark."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return [number for number in found if number != os.getpid()]


CRASH = """
import asyncio, sys, tempfile
from pathlib import Path
sys.path.insert(0, %r)
from control_plane.sandbox import Interpreter, Process, Sandbox, User

async def main():
    sandbox = Sandbox(Path(sys.argv[1]))
    await sandbox.open()
    code = "import subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True); time.sleep(60)"
    python, user = Interpreter.of(Path(sys.executable)), User(65532, 65532)
    sandbox.start(Process("held", ["python", "-c", code], python, user, {"MARK": sys.argv[2]}))
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_nothing_outlives_a_test_that_is_killed(tmp_path):
    mark = f"crash-{tmp_path.name}-{os.getpid()}"
    code = CRASH % str(ROOT / "tests")
    folder = tmp_path / "pod"
    with subprocess.Popen([sys.executable, "-c", code, folder, mark], stdout=subprocess.PIPE, text=True) as crashing:
        assert crashing.stdout.readline() == "started\n"
        ends = time.monotonic() + 10
        while len(running(f"MARK={mark}")) < 2 and time.monotonic() < ends:
            time.sleep(0.02)
        assert len(running(f"MARK={mark}")) == 2, (folder / "logs" / "held").read_text()
        crashing.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 10
    while running(f"MARK={mark}") and time.monotonic() < ends:
        time.sleep(0.02)
    assert not running(f"MARK={mark}")
    mounts = Path("/proc/self/mounts").read_text()
    assert str(tmp_path) not in mounts
