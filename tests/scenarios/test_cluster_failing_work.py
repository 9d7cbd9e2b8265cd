"""What goes wrong in pods that really run, and how the migration says it."""

from __future__ import annotations

import operator
import pickle
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import RadiusNeighborsClassifier

from control_plane.client import condition
from control_plane.real_work import CLAIM, working
from control_plane.sandbox import obstacle

pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster(control_plane, api, migrations, tmp_path_factory):  # noqa: ARG001 - the definition must be there
    with working(control_plane, api, tmp_path_factory.mktemp("real-work")) as found:
        yield found


class Call:
    """Pickles as a call of a function, which is made while the model is loaded."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def surprising(call):
    found = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    found.surprise_ = call
    return found


@dataclass(frozen=True)
class Bad:
    """A migration that must end before there is a verdict."""

    reason: str
    says: tuple[str, ...]
    """Parts of the message."""
    ends: dict | None
    """Exit status of each container that ran; None = it was stopped from outside, and its pod is gone."""
    model: object = field(default_factory=lambda: LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    source: dict = field(default_factory=dict)
    spec: dict = field(default_factory=dict)


BAD = {
    "wrong-digest": Bad(
        "DigestMismatch", ("fetch: spec.source.digest is sha256:000", "correct the digest"), {"fetch": 3},
        source={"digest": "sha256:" + 64 * "0"},
    ),
    "nothing-there": Bad(
        "NotFound", ("fetch: spec.source.uri", "pvc://models/bad/nothing-there.pkl"), {"fetch": 3}, model=None,
    ),
    "raises": Bad(
        "ModelUnreadable", ("capture: ", "division by zero"), {"fetch": 0, "capture": 3},
        model=surprising(Call(operator.truediv, 1, 0)),
    ),
    "unsupported": Bad(
        "ConversionUnsupported", ("convert: ", "RadiusNeighborsClassifier"), {"fetch": 0, "capture": 0, "convert": 3},
        model=RadiusNeighborsClassifier(9.0).fit([[0.0], [1.0]], [0, 1]),
    ),
    "greedy": Bad(
        "OutOfMemory", ("container capture", "limit of 700Mi", "spec.jobs.convert.resources.limits.memory: 1400Mi"),
        {"fetch": 0, "capture": 137},
        model=surprising(Call(np.ones, 1 << 28)),
        spec={"jobs": {"retries": 0, "convert": {"resources": {"limits": {"memory": "700Mi"}}}}},
    ),
    "heavy": Bad(
        "OutOfMemory", ("container candidate", "limit of 32Mi", "spec.serving.resources.limits.memory: 64Mi"), None,
        spec={"serving": {"replicas": 1, "resources": {"limits": {"memory": "32Mi"}}}},
    ),
    "slow": Bad(
        "DeadlineExceeded", ("ran longer than spec.jobs.deadline, 20s",), None,
        model=surprising(Call(time.sleep, 600)), spec={"jobs": {"retries": 0, "deadline": "20s"}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(cluster):
    """All of them, applied at once."""
    folder = cluster.store / "bad"
    folder.mkdir(parents=True)
    pd.DataFrame({"x": np.linspace(0, 1, 60), "y": np.arange(60) % 2}).to_csv(folder / "rows.csv", index=False)
    for name, one in BAD.items():
        if one.model is not None:
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(one.model))
        source = {"format": "SKLearn", "uri": f"pvc://{CLAIM}/bad/{name}.pkl", **one.source}
        dataset = {"uri": f"pvc://{CLAIM}/bad/rows.csv", "label": "y"}
        spec = {"source": source, "target": {"format": "ONNX"}, "validation": {"dataset": dataset}, **one.spec}
        cluster.create(name, spec)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_in_a_pod_is_said_in_the_migration(cluster, name):
    one = BAD[name]
    found = cluster.until(name, one.reason)
    message = condition(found, "Stalled")["message"]
    assert all(part in message for part in one.says), message
    pods = cluster.pods(name)
    if one.ends is None:
        for pod in pods:
            if pod["status"]["phase"] != "Succeeded":  # an earlier Job's
                cluster.api.until_gone("Pod", pod["metadata"]["name"], cluster.namespace)
    else:
        (pod,) = pods
        states = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
        ended = {s["name"]: s["state"]["terminated"]["exitCode"] for s in states if "terminated" in s["state"]}
        assert ended == one.ends
    assert not list(cluster.store.glob(f"*/{name}/receipts/Validate-*"))
