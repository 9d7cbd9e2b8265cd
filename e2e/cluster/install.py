"""Puts on a cluster what there must be to try things: models in a bucket, the operator, and a namespace to work in.

`python -m cluster.install FOLDER`, with the cluster in KUBECONFIG and its images in PARITYGATE_IMAGES; `make cluster`
and `make demo-cluster` do so. FOLDER gets the models. Each step may be repeated.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from cluster import bare
from control_plane import plane
from suite import access, release, store
from suite.access import Cluster

NAMESPACE: Final = "models"
"""To work in. It enforces the restricted Pod Security Standard, and its Secret `artefact-store` opens the buckets."""
NEXT: Final = f"""
ParityGate looks after this cluster, and the models of examples/05-cluster lie in a bucket. Type next:
  .build/cluster/enter bash    # a shell inside, in which kubectl and helm know the cluster; then, in it:
  kubectl apply -n {NAMESPACE} -f examples/05-cluster/migration.yaml
  kubectl get mm -n {NAMESPACE} -w    # a line with every step; Ctrl-C ends it
  curl http://tumours.{NAMESPACE}.svc/v2/models/tumours/infer --data @examples/05-cluster/request.json
docs/tutorials/first-migration-on-a-cluster.md goes on from there. `make cluster-down` ends the cluster.
"""


def installed(cluster: Cluster, folder: Path) -> None:
    """All of it. AssertionError, or pytest's own failure: a step did not come to its end."""
    images = access.images()
    _tell("training the examples' models")
    if not folder.exists():
        _train(folder.with_name(f"{folder.name}.unfinished")).rename(folder)
    _tell("starting an S3 server, and bringing the models into its bucket `models`")
    bucket = store.bring_up(cluster, images["s3"], images["base"])
    bucket.upload(folder)
    _tell("installing ParityGate with helm")
    release.install(cluster, release.values(images))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    cluster.api.apply(bucket.secret(NAMESPACE))


def _train(folder: Path) -> Path:
    """The models, but for one that needs another Python than there may be: what is missing is told."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(access.EXAMPLES / "models.py"), str(folder)]
    subprocess.run([*command, "tumours", "progression"], check=True, stdout=sys.stderr)
    if subprocess.run([*command, "wine"], check=False, stdout=sys.stderr).returncode:
        _tell("`wine` could not be trained, as is said above: examples/05-cluster/legacy.yaml will not find it")
    return folder


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> None:
    """On the cluster of KUBECONFIG."""
    folder, given = Path(sys.argv[1]).resolve(), plane.kubeconfig_given()
    if given is None:
        sys.exit("KUBECONFIG names no cluster: run this by `make cluster`, which starts one")
    with (
        tempfile.TemporaryDirectory() as scratch,
        plane.existing(given, Path(scratch)) as found,
        found.client() as api,
    ):
        try:
            installed(Cluster(api, given, Path(scratch)), folder)
        except pytest.fail.Exception as failed:
            sys.exit(str(failed))
    if bare.BUILD.joinpath("enter").exists():
        print(NEXT)


if __name__ == "__main__":
    main()
