"""Puts on a cluster what there must be to try things: models in a bucket, the operator, and a namespace to work in.

`python -m cluster.install FOLDER`, with the cluster in KUBECONFIG and its images in PARITYGATE_IMAGES; `make cluster`
and `make demo-cluster` do so. FOLDER holds the examples' models. Each step may be repeated.
"""

from __future__ import annotations

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
    if not folder.is_dir():
        sys.exit(f"There is no {folder}: `python -m cluster prepare` trains the examples' models.")
    _tell("starting an S3 server, and bringing the models into its bucket `models`")
    bucket = store.bring_up(cluster, images["s3"], images["base"])
    bucket.upload(folder)
    _tell("installing ParityGate with helm")
    release.install(cluster, release.values(images))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    cluster.api.apply(bucket.secret(NAMESPACE))


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
