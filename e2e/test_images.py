"""Our images run under the strictest standard as they are, and hold what they need and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cluster import pip_settings
from control_plane.client import Object
from suite import pods
from suite.access import Cluster

# As the restricted standard asks, and no user: the image's own is used.
_NO_USER = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
# Bytes of /opt/paritygate, not of the base; docs/reference/images.md gives the figures.
_BOUNDS = {"operator": 60_000_000, "server": 250_000_000, "worker": 1_000_000_000}
_LOOK = """
import importlib.util, json, os, pathlib, re, sys
def writable(folder):
    try:
        pathlib.Path(folder, "written").write_text("")
    except OSError as error:
        return error.strerror
def certificates(folder):
    texts = [path.read_text(errors="replace") for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return {one for text in texts for one in re.findall("-----BEGIN.*?-----END", text, re.S)}
kinds = (".cfg", ".json", ".toml", ".pth")
texts = [path for path in pathlib.Path("/opt/paritygate").rglob("*") if path.suffix in kinds]
json.dump({
    "user": [os.getuid(), os.getgid()],
    "writing": {folder: writable(folder) for folder in ("/", "/opt/paritygate", "/tmp")},
    "importable": [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name)],
    "bytes": sum(path.lstat().st_size for path in pathlib.Path("/opt/paritygate").rglob("*") if not path.is_dir()),
    "left": [path for path in ("/etc/pip.conf", "/run/package-index-ca.pem", "/source", "/wheels", "/opt/build")
             if os.path.lexists(path)],
    "environment": [name for name in os.environ if name.startswith("PIP_")],
    "strangers": len(certificates("/etc/ssl/certs") - certificates("/usr/share/ca-certificates")),
    "addresses": [str(path) for path in texts for word in sys.argv[2:] if word in path.read_text()],
}, sys.stdout)
"""
_NAMES = ("pip", "setuptools", "torch", "sklearn", "numpy", "pandas", "onnx", "kopf", "uvicorn", "onnxruntime")


def ended(cluster: Cluster, pod: Object) -> tuple[str, str]:
    """The phase that a pod ends in, and what it printed."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    cluster.api.create(pod)

    def phase() -> str | None:
        found = cluster.api.get("Pod", name, namespace)["status"].get("phase")
        return found if found in {"Succeeded", "Failed"} else None

    found = cluster.until(phase, f"the pod {name} ends", 120)
    return found, cluster.kubectl("logs", name, namespace=namespace).stdout


@pytest.fixture(scope="module")
def namespace(cluster: Cluster):
    with cluster.fresh_namespace() as name:
        yield name


@pytest.fixture(scope="module", params=["operator", "server", "worker"])
def seen(request, cluster: Cluster, images, namespace) -> tuple[str, dict[str, Any]]:
    """Name of an image, and what a pod of it sees."""
    known = pip_settings.settings(os.environ, pip_settings.files(os.environ, Path.home()))
    addresses = [value for key, value in known.items() if key in {"index-url", "extra-index-url", "proxy"}]
    command = ["python", "-c", _LOOK, json.dumps(_NAMES), *addresses]
    pod = pods.restricted(request.param, namespace, images[request.param].reference, command, securityContext=_NO_USER)
    phase, said = ended(cluster, pod)
    assert phase == "Succeeded", said
    return request.param, json.loads(said)


def test_runs_as_a_user_without_rights_on_a_root_that_cannot_be_written(seen):
    _, told = seen
    # The group is not the image's with every runtime (0 with containerd 1.6.20); chart and Jobs state both.
    assert told["user"][0] == 65532
    assert set(told["writing"].values()) == {"Read-only file system"}


def test_holds_what_it_needs_and_neither_pip_nor_frameworks_of_others(seen):
    name, told = seen
    assert (
        told["importable"]
        == {
            "operator": ["kopf"],
            "server": ["numpy", "uvicorn", "onnxruntime"],
            "worker": ["sklearn", "numpy", "pandas", "onnx", "uvicorn", "onnxruntime"],
        }[name]
    )


def test_keeps_nothing_of_how_and_where_it_was_built(seen):
    _, told = seen
    assert (told["left"], told["environment"], told["strangers"], told["addresses"]) == ([], [], 0, [])


def test_is_as_small_as_the_documentation_says(seen):
    name, told = seen
    assert _BOUNDS[name] / 3 < told["bytes"] < _BOUNDS[name]


def test_the_worker_states_its_identity(cluster, images, namespace):
    command = ["python", "-m", "paritygate.worker", "identity"]
    volumes = {"/tmp": {"emptyDir": {}}}  # noqa: S108 - in a pod of its own
    pod = pods.restricted("identity", namespace, images["worker"].reference, command, volumes=volumes)
    phase, said = ended(cluster, pod)
    assert phase == "Succeeded", said
    told = json.loads(said)
    assert told["SKLearn"]["converter"].startswith("sha256:")
    assert told["SKLearn"]["converter"] == told["XGBoost"]["converter"] != told["ONNX"]["converter"]  # by their extras


@pytest.mark.parametrize("name", ["s3", "pause"])
def test_programs_run_without_rights_and_without_anything_else(cluster, images, namespace, name):
    pod = pods.restricted(f"only-{name}", namespace, images[name].reference, ["/program"], securityContext=_NO_USER)
    if name == "s3":
        pod["spec"]["containers"][0]["args"] = ["--version"]
        phase, said = ended(cluster, pod)
        assert phase == "Succeeded", said
        return
    cluster.api.create(pod)
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/only-{name}", "--timeout=60s", namespace=namespace)
    # It ends at once when it is told to, and not after the grace period.
    cluster.kubectl("delete", "pod", f"only-{name}", "--grace-period=30", "--timeout=15s", namespace=namespace)


def test_the_users_own_image_runs_as_root_and_knows_nothing_of_us(cluster, images, namespace):
    look = (
        "import importlib.util, sklearn, sys; sys.exit(importlib.util.find_spec('paritygate') or sklearn.__version__)"
    )
    refused = pods.restricted(
        "root", namespace, images["legacy"].reference, ["python3", "-c", look], securityContext=_NO_USER
    )
    cluster.api.create(refused)
    reason = "{.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    cluster.kubectl("wait", f"--for=jsonpath={reason}", "pod/root", "--timeout=60s", namespace=namespace)
    phase, said = ended(
        cluster, pods.restricted("other", namespace, images["legacy"].reference, ["python3", "-c", look])
    )
    assert (phase, said.strip()) == ("Failed", "1.2.2")
