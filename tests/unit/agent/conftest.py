"""A capture in one call, and small data that every framework can learn."""

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paritygate.agent import capture, exchange
from paritygate.api.artifacts import CaptureManifest

ZEROS = "sha256:" + 64 * "0"
Take = Callable[..., "Captured"]


class Captured:
    """A capture folder with its manifest, checked against the API model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = CaptureManifest.model_validate_json((folder / "capture.json").read_bytes())
        self.signature = self.manifest.signature
        self.inputs = {i.name: (i.datatype.value, i.shape) for i in self.signature.inputs}
        self.outputs = {o.name: (o.datatype.value, o.shape, o.role.value) for o in self.signature.outputs}
        self.rules = [finding.rule for finding in self.manifest.findings]

    def table(self, name: str) -> "OrderedDict[str, Any]":
        return exchange.load(str(self.folder / f"{name}.npz"))

    def probes(self, kind: str) -> list[Any]:
        return [probe for probe in self.manifest.probes if probe.kind == kind]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Captures a model: `take(format, model path, table, **request fields)`."""
    taken = []

    def take(source_format: str, model: Path, table: dict[str, Any], **request: Any) -> Captured:
        rows = tmp_path / f"rows-{len(taken)}.npz"
        exchange.save(str(rows), OrderedDict(table))
        folder = tmp_path / f"capture-{len(taken)}"
        folder.mkdir()
        taken.append(folder)
        request.update(format=source_format, model=str(model), rows=str(rows), sourceDigest=ZEROS, datasetDigest=ZEROS)
        capture.capture(json.loads(json.dumps(request)), str(folder))
        return Captured(folder)

    return take


@pytest.fixture
def features() -> np.ndarray[Any, Any]:
    """(80, 4) float64, exactly representable in float32."""
    return np.random.default_rng(7).normal(size=(80, 4)).astype(np.float32).astype(np.float64)


@pytest.fixture
def columns(features: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The features as columns a to d, and a binary label y."""
    table: dict[str, Any] = dict(zip("abcd", features.T, strict=True))
    table["y"] = (features[:, 0] + features[:, 1] > 0).astype(np.int64)
    return table
