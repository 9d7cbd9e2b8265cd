"""Guards refuse what the source refuses, and nothing that it answers."""

from __future__ import annotations

import numpy as np
import pytest

from paritygate.api.artifacts import CaptureManifest, Probe
from paritygate.api.report import Environment, Signature, TensorSignature
from paritygate.api.spec import Datatype, SourceFormat, Task
from paritygate.worker.guards import guards

DIGEST = "sha256:" + "0" * 64
VALUES = {"nan": np.nan, "inf": np.inf}


def capture(kind: str, refused: tuple[bool, ...]) -> CaptureManifest:
    """A capture of two columns in one input; `refused`: whether the source refuses the value in each."""
    return CaptureManifest(
        format=SourceFormat.SKLEARN, framework="scikit-learn", framework_version="1.9.0", source=DIGEST,
        dataset=DIGEST, rows=3, columns=("a", "b"), task=Task.CLASSIFICATION,
        signature=Signature(
            inputs=(TensorSignature(name="features", datatype=Datatype.FP64, shape=(-1, 2)),), outputs=()
        ),
        source_datatypes={}, cast_exact=True,
        environment=Environment(python="3.11.8", platform="Linux x86_64", packages={}), noise=(),
        probes=tuple(
            Probe(description=kind, kind=kind, inside_domain=False, refused="ValueError" if no else None)
            for no in refused
        ),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["nan", "inf"])
@pytest.mark.parametrize(
    ("refused", "in_dataset", "guarded"),
    [
        pytest.param((True, True), False, True, id="refused in every column"),
        pytest.param((True, False), False, False, id="answered in one column"),
        pytest.param((True, True), True, False, id="answered in a row of the dataset"),
        pytest.param((False, False), False, False, id="answered everywhere"),
    ],
)
def test_a_guard_refuses_nothing_that_the_source_answers(
    kind: str, refused: tuple[bool, ...], in_dataset: bool, guarded: bool
) -> None:
    probes = np.zeros((2, 2))
    probes[0, 0] = probes[1, 1] = VALUES[kind]
    rows = np.zeros((3, 2))
    rows[1, 1] = VALUES[kind] if in_dataset else 0.0
    found = guards(capture(kind, refused), {"features": probes}, {"features": rows}, {})
    assert bool(found) is guarded
    assert all(guard.reject_nan is (kind == "nan") and guard.reject_infinite is (kind == "inf") for guard in found)
