"""The demo on a cluster tells the truth, in a namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suite.access import ROOT, Cluster, program


@pytest.mark.timeout(600)
def test_the_demo_on_a_cluster_goes_as_it_says(cluster: Cluster, release, namespace: str, trained: Path):
    demo = [sys.executable, "examples/demo_cluster.py", "--namespace", namespace, "--models", str(trained)]
    ended = subprocess.run(
        [*demo, "--kubectl", program("kubectl")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"$ kubectl -n {namespace} apply -f examples/05-cluster/migration.yaml" in ended.stdout
    assert "label: ['benign']" in ended.stdout
    assert ended.stdout.count("Asked for all 285 tumours") == 2
    assert ended.stdout.count("; report in s3://artefacts/migrations/") == 2
