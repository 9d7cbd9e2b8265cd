"""Guards refuse what the source refuses, and nothing that it answers."""

from __future__ import annotations

import numpy as np
import pytest

from paritygate.api.artifacts import CaptureManifest, InputGuard, Probe
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
        pytest.param((True, True), False, "everywhere", id="refused in every column"),
        pytest.param((True, False), False, (0,), id="answered in one column"),
        pytest.param((False, True), False, (1,), id="answered in the other column"),
        pytest.param((True, True), True, (0,), id="answered in one column of the dataset"),
        pytest.param((False, True), True, (), id="refused beside other values only"),
        pytest.param((False, False), False, (), id="answered everywhere"),
    ],
)
def test_a_guard_refuses_nothing_that_the_source_answers(
    kind: str, refused: tuple[bool, ...], in_dataset: bool, guarded: str | tuple[int, ...]
) -> None:
    probes = np.zeros((2, 2))
    probes[0, 0] = probes[1, 1] = VALUES[kind]
    rows = np.zeros((3, 2))
    rows[1, 1] = VALUES[kind] if in_dataset else 0.0
    found = guards(capture(kind, refused), {"features": probes}, {"features": rows}, {})
    everywhere, cells = ("reject_nan", "nan_cells") if kind == "nan" else ("reject_infinite", "infinite_cells")
    expected = {everywhere: True} if guarded == "everywhere" else {cells: guarded}
    assert found == ((InputGuard(input="features", **expected),) if guarded else ())


def test_a_refused_row_of_many_values_blames_no_cell() -> None:
    probes = np.zeros((2, 3))
    probes[0, :] = probes[1, 2] = np.nan
    found = guards(capture("nan", (True, False)), {"features": probes}, {"features": np.zeros((3, 3))}, {})
    assert found == ()
