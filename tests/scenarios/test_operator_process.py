"""`paritygate operator` as a process, as an administrator meets it: how it starts, what it says and how it ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
import yaml

from control_plane.migrations import SETTINGS, migration
from paritygate import clock

SECONDS = 60


class Process:
    """The operator in a process of its own; `lines` are those of its log."""

    def __init__(self, folder, kubeconfig, *, port=0, config=None, **variables):
        file = folder / "operator.yaml"
        file.write_text(yaml.safe_dump({**SETTINGS, **(config or {})}))
        known = {key: value for key, value in os.environ.items() if not key.startswith(("KUBE", "POD_"))}
        if kubeconfig:
            known["KUBECONFIG"] = str(kubeconfig)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paritygate", "operator", "--config", str(file), "--port", str(port)],
            env={**known, **variables}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.text = []
        self.reader = threading.Thread(target=lambda: self.text.extend(self.process.stderr))
        self.reader.start()

    def end(self):
        """Exit status, once it ended by itself or was told to."""
        status = self.process.wait(SECONDS)
        self.reader.join()
        self.process.stderr.close()
        return status

    @property
    def lines(self):
        return [json.loads(line) for line in self.text]

    def until(self, message):
        ends = clock.monotonic() + SECONDS
        while not any(message in line for line in list(self.text)):
            assert self.process.poll() is None, "".join(self.text)
            assert clock.monotonic() < ends, "".join(self.text)
            threading.Event().wait(0.05)


@contextlib.contextmanager
def running(*arguments, **options):
    found = Process(*arguments, **options)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.end()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answer(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as found:
            return found.status, found.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_leads_works_and_stops_when_told_to_with_all_its_words_as_json(
    tmp_path, control_plane, migrations, namespace
):
    port = free_port()
    config = {"namespaces": [namespace]}
    started = running(
        tmp_path, control_plane.kubeconfig(), port=port, config=config, POD_NAMESPACE=namespace, POD_NAME="replica-1"
    )
    with started as operator:
        operator.until("replica-1 leads")
        migrations.create(migration(namespace, storage={"claimName": "models"}))
        migrations.until_listed("Job", namespace, lambda _: True)
        assert answer(port, "/livez") == (200, "ok")
        assert answer(port, "/readyz") == (200, "leading")
        assert "paritygate_stage_starts_total" in answer(port, "/metrics")[1]
        operator.process.send_signal(signal.SIGTERM)
        assert operator.end() == 0, "".join(operator.text)
    for line in operator.lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert line["level"] == "info" or not line["logger"].startswith("paritygate"), line
    (start,) = [line for line in operator.lines if line["message"] == "StartStage"]
    assert (start["namespace"], start["name"], start["stage"], start["attempt"]) == (namespace, "churn", "Assess", 1)
    assert operator.lines[-1]["message"] == "stopped as told"
    lease = migrations.get("Lease", "paritygate-operator", namespace)
    assert not lease["spec"]["holderIdentity"]  # the next one need not wait for it to run out


def test_one_that_stands_by_is_ready_and_stops_when_told_to(tmp_path, control_plane, migrations, namespace):
    port = free_port()
    now = "2026-01-01T00:00:00.000000Z"
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 600, "acquireTime": now, "renewTime": now}
    migrations.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec,
                       "metadata": {"name": "paritygate-operator", "namespace": namespace}})  # fmt: skip
    config = {"namespaces": [namespace]}
    with running(tmp_path, control_plane.kubeconfig(), port=port, config=config, POD_NAMESPACE=namespace) as operator:
        operator.until("stands by")
        assert answer(port, "/livez") == (200, "ok")
        assert answer(port, "/readyz") == (200, "standing by")
        operator.process.send_signal(signal.SIGTERM)
        assert operator.end() == 0
    assert migrations.get("Lease", "paritygate-operator", namespace)["spec"]["holderIdentity"] == "another"


def test_rights_that_are_missing_are_named(tmp_path, control_plane, migrations, namespace, identity):
    del migrations
    token = identity(
        {"apiGroups": ["paritygate.dev"], "resources": ["modelmigrations"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "patch"]},
    )
    kubeconfig = control_plane.kubeconfig(token)
    config = {"namespaces": [namespace]}
    with running(tmp_path, kubeconfig, config=config, POD_NAMESPACE=namespace) as operator:
        assert operator.end() == 3
    (line,) = operator.lines
    assert (line["level"], line["reason"]) == ("error", "RightsMissing")
    for said in (
        f"create, delete jobs.batch in namespace {namespace}",
        f"patch modelmigrations/status.paritygate.dev in namespace {namespace}",
        f"get, create, update leases.coordination.k8s.io in namespace {namespace}",
    ):
        assert said in line["message"]
    assert "list modelmigrations" not in line["message"]


def test_a_cluster_without_the_definition_is_told_with_the_command(tmp_path, own_control_plane):
    with running(tmp_path, own_control_plane.kubeconfig(), POD_NAMESPACE="default") as operator:
        assert operator.end() == 3
    assert operator.lines[-1]["reason"] == "CRDMissing"
    assert "paritygate crd | kubectl apply --server-side -f -" in operator.lines[-1]["message"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"caps": {"worker": 3}}, "caps.worker"),
        ({"images": {"worker": {"name": "registry.example/worker:latest"}}}, "images.worker.name"),
    ],
    ids=["an unknown field", "an image without a digest"],
)
def test_a_configuration_that_is_wrong_is_told_with_the_field(tmp_path, config, said):
    with running(tmp_path, None, config=config) as operator:
        assert operator.end() == 64
    assert said in "".join(operator.text)
    assert "Traceback" not in "".join(operator.text)


def test_without_a_cluster_it_says_where_it_looked(tmp_path):
    with running(tmp_path, None, HOME=str(tmp_path)) as operator:
        assert operator.end() == 64
    assert "set KUBECONFIG" in "".join(operator.text)


def test_a_server_that_is_not_there_is_told_with_its_address(tmp_path, control_plane):
    content = yaml.safe_load(control_plane.kubeconfig().read_text())
    content["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    with running(tmp_path, file) as operator:
        assert operator.end() == 3
    assert (operator.lines[-1]["level"], operator.lines[-1]["reason"]) == ("error", "Unavailable")
    assert content["clusters"][0]["cluster"]["server"].removeprefix("https://") in operator.lines[-1]["message"]


def test_a_port_that_is_taken_is_told(tmp_path, control_plane, migrations):
    del migrations
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104 - where the operator listens
        taken.listen()
        port = taken.getsockname()[1]
        with running(tmp_path, control_plane.kubeconfig(), port=port) as operator:
            assert operator.end() == 64
    assert f"--port {port}" in operator.lines[-1]["message"]
