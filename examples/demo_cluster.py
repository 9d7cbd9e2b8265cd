"""The demo on a cluster: models that are migrated by the operator, in pods. `make demo-cluster`.

Needs a cluster, in KUBECONFIG, on which `python -m cluster.install` has put the operator, a bucket with the models of
examples/05-cluster, and a namespace. Runs the commands that a user would type, shows each before it runs, and checks
what each must come to: a demo that does not go as it says ends with status 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import demo

MANIFESTS = "examples/05-cluster"
ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = "--timeout=10m"
FORWARD_SECONDS = 60.0


class Cluster:
    """The cluster, as kubectl shows it to a user of one namespace."""

    def __init__(self, kubectl: str, namespace: str) -> None:
        self._kubectl, self._namespace = kubectl, namespace

    def shown(self, *arguments: str) -> None:
        """Shows a command and what it prints; the demo ends if it fails."""
        self._show(arguments)
        status = subprocess.run([self._kubectl, *self._in(arguments)], cwd=ROOT, check=False).returncode
        demo.require(f"this command ends with status 0, and not with {status}", holds=status == 0)

    def migration(self, name: str) -> dict[str, Any]:
        """A migration as it is now."""
        return dict(json.loads(self._said("get", "mm", name, "--output=json")))

    def there(self, kind: str, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self._said("get", kind, name, "--ignore-not-found", "--output=name"))

    @contextmanager
    def forwarded(self, service: str) -> Iterator[str]:
        """The address at which a Service answers here while this is entered."""
        arguments = ("port-forward", f"service/{service}", ":80")
        self._show(arguments)
        with subprocess.Popen([self._kubectl, *self._in(arguments)], stdout=subprocess.PIPE, text=True) as forward:
            late = threading.Timer(FORWARD_SECONDS, forward.kill)
            late.start()
            try:
                assert forward.stdout is not None  # noqa: S101 - says to the type checker what PIPE means
                found = re.search(r"127\.0\.0\.1:\d+", forward.stdout.readline())
                late.cancel()
                demo.require("the Service can be reached", holds=found is not None)
                yield f"http://{found.group() if found else ''}"
            finally:
                late.cancel()
                forward.kill()

    def _in(self, arguments: tuple[str, ...]) -> list[str]:
        return ["--namespace", self._namespace, *arguments]

    def _show(self, arguments: tuple[str, ...]) -> None:
        demo.show(("kubectl", "-n", self._namespace, *arguments))

    def _said(self, *arguments: str) -> str:
        command = [self._kubectl, *self._in(arguments)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def passes(cluster: Cluster, models: Path) -> None:
    """A pipeline passes and is served; its answers are the model's own."""
    demo.say("1. A scikit-learn pipeline lies in a bucket. The cluster is to move it to ONNX and to serve it.")
    cluster.shown("apply", "-f", f"{MANIFESTS}/migration.yaml")
    cluster.shown("wait", "mm/tumours", "--for=condition=Ready", TIMEOUT)
    cluster.shown("get", "mm")
    demo.say("It passed, so it serves. Any Open Inference client can call it.")
    with cluster.forwarded("tumours") as url:
        demo.call(models / "tumours", url)


def is_stopped(cluster: Cluster) -> None:
    """The usual export of a booster is silently wrong, and never serves."""
    demo.say("2. A gradient boosting model was exported as most people do it. The file loads and answers.")
    cluster.shown("apply", "-f", f"{MANIFESTS}/brought.yaml")
    cluster.shown("wait", "mm/progression", "--for=condition=Stalled", TIMEOUT)
    cluster.shown("get", "mm")
    _tell_message(cluster, "progression")
    demo.require("it was the evidence that stopped it", holds=_verdict(cluster, "progression") == "Failed")
    demo.require("nothing serves it", holds=not cluster.there("service", "progression"))


def serves_on(cluster: Cluster, models: Path) -> None:
    """A bad edit of what serves is stopped too, and what served goes on."""
    demo.say("3. The first model was trained anew, and the export of the model before is brought for it by mistake.")
    before = cluster.migration("tumours")["status"]["revisions"]
    cluster.shown("apply", "-f", f"{MANIFESTS}/stale.yaml")
    cluster.shown("wait", "mm/tumours", "--for=condition=Stalled", TIMEOUT)
    _tell_message(cluster, "tumours")
    demo.require("it was the evidence that stopped it", holds=_verdict(cluster, "tumours") == "Failed")
    names = {one["name"] for one in cluster.migration("tumours")["status"]["revisions"]}
    demo.require("the same revision serves", holds=names == {one["name"] for one in before})
    demo.say("The model before goes on serving, with the same answers.")
    with cluster.forwarded("tumours") as url:
        demo.call(models / "tumours", url)


def _verdict(cluster: Cluster, name: str) -> str:
    return str(cluster.migration(name)["status"]["verdict"]["result"])


def _tell_message(cluster: Cluster, name: str) -> None:
    path = "jsonpath={.status.conditions[?(@.type=='Stalled')].message}"
    cluster.shown("get", "mm", name, f"--output={path}{{'\\n'}}")


def main() -> None:
    """Runs the demo on the cluster of KUBECONFIG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubectl", default="kubectl", help="default: the one on the PATH")
    parser.add_argument("--namespace", default="models", help="default: %(default)s")
    parser.add_argument("--models", type=Path, required=True, help="the folder that was uploaded")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.kubectl, arguments.namespace)
    passes(cluster, arguments.models)
    is_stopped(cluster)
    serves_on(cluster, arguments.models)
    demo.say("That is all.")


if __name__ == "__main__":
    main()
