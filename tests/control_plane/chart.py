"""The Helm chart, rendered by a real helm with the values that tests try."""

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from control_plane.client import Object, Refused
from control_plane.fixtures import tool
from paritygate import clock

CHART: Final = Path(__file__).parents[2] / "charts" / "paritygate"
DIGEST: Final = f"sha256:{'1' * 64}"
PINNED: Final = {"images": {"worker": {"digest": DIGEST}, "server": {"digest": DIGEST}}}
MONITORED: Final = {
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"},
        "alerts": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Models"}},
    },
}
EVERYTHING: Final = MONITORED | {
    "images": {
        "operator": {"repository": "registry.example/operator", "digest": DIGEST},
        "worker": {
            "repository": "registry.example/worker",
            "digest": DIGEST,
            "identity": {"SKLearn": {"converter": DIGEST, "source": DIGEST}},
        },
        "server": {"repository": "registry.example/server", "digest": DIGEST, "identity": DIGEST},
        "pullSecrets": [{"name": "registry"}],
    },
    "config": {
        "floors": {"loosestEquivalence": "Decision", "registries": ["registry.example/"], "maxDrop": "0.01"},
        "caps": {"activeRuns": 4, "activeRunsPerNamespace": 2, "deadline": "1d12h"},
        "defaults": {"storage": {"claimName": "models"}},
    },
    "replicas": 1,
    "nodeSelector": {"role": "system"},
    "tolerations": [{"key": "system", "operator": "Exists"}],
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"team": "ml"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn"}},
    "secretNames": ["artefact-store"],
    "networkPolicy": {"apiServerPorts": [8443]},
    "admissionPolicy": {
        "actions": ["Warn", "Audit"],
        "exempt": {"users": ["system:serviceaccount:velero:velero"], "groups": ["system:masters"]},
    },
}
_IN_FORCE_SECONDS: Final = 30.0
JOBS_CLOSED: Final = {"networkPolicy": {"jobs": {"enabled": True, "egress": [{"ports": [{"port": 443}]}]}}}
MATRIX: Final = {
    f"{name}, {where}": values | ({} if where == "everywhere" else {"namespaces": ["NAMESPACE"]})
    for (name, values), where in itertools.product(
        {"as little as can be": PINNED, "everything stated": EVERYTHING}.items(), ("everywhere", "one namespace")
    )
} | {
    "closed Jobs": PINNED | JOBS_CLOSED | {"namespaces": ["NAMESPACE"]},
    "neither CRD nor account nor metrics nor policies": PINNED
    | {
        "crds": {"install": False},
        "serviceAccount": {"create": False, "name": "given"},
        "metrics": {"service": False},
        "networkPolicy": {"operator": False},
        "admissionPolicy": {"enabled": False},
    },
}


def render(values: Mapping[str, Any], namespace: str = "paritygate", release: str = "pg") -> list[Object]:
    """Objects that helm renders. ValueError: it refuses, and this is what it says."""
    command = [tool("helm"), "template", release, str(CHART), "--namespace", namespace, "--values", "-"]
    given = json.dumps(values).replace("NAMESPACE", namespace)
    ended = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=60)
    if ended.returncode:
        raise ValueError(ended.stderr)
    return [one for one in yaml.safe_load_all(ended.stdout) if one]


def until_refused(attempt: Callable[[], object], told: str = "") -> None:
    """Returns as soon as an attempt is refused with these words: the API server looks for policies once a second."""
    ends = clock.monotonic() + _IN_FORCE_SECONDS
    while True:
        try:
            attempt()
        except Refused as refused:
            if told in refused.message:
                return
        assert clock.monotonic() < ends, "the policies are not in force"
        threading.Event().wait(0.05)


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of these kinds."""
    return [one for one in objects if one["kind"] in kinds]
