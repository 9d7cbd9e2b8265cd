"""`helm install --wait` says that ParityGate works only when it does."""

from __future__ import annotations

import pytest

from suite import release as releases
from suite.access import Cluster


def test_when_helm_returns_the_operators_are_ready_and_one_leads(cluster: Cluster, release):
    pods = release.pods()
    assert len(pods) == 2
    assert all(one["ready"] for pod in pods for one in pod["status"]["containerStatuses"])
    # Standing by is being ready: one of them comes to lead within moments.
    cluster.until(release.leader, "an operator leads", 30)
    status = cluster.helm("status", release.name, "--namespace", release.namespace).stdout
    assert "STATUS: deployed" in status
    assert "kubectl get mm -w" in status


def test_helm_does_not_return_in_peace_while_the_operator_does_not_run(cluster: Cluster, release, images):
    given = releases.values(images)
    given["images"]["operator"]["digest"] = f"sha256:{'0' * 64}"
    with cluster.fresh_namespace() as namespace:
        given |= {"namespaces": [namespace], "crds": {"install": False}}
        arguments = ("install", "broken", str(releases.CHART), "--namespace", namespace, "--values", "-")
        with pytest.raises(pytest.fail.Exception, match=r"(?i)timed out|deadline|not ready|context"):
            cluster.helm(*arguments, "--wait", "--timeout", "8s", given=given)
        cluster.helm("uninstall", "broken", "--namespace", namespace)
