"""A model of an old scikit-learn answers in the environment that it was made in, with nothing of ours installed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paritygate.agent import build_zipapp, exchange
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.sklearn import load
from paritygate.api.artifacts import CaptureManifest

ZEROS = "sha256:" + 64 * "0"


@pytest.mark.timeout(600)
def test_model_of_scikit_learn_1_2_is_captured_where_it_was_made(tmp_path, old_python, old_model):
    old_model(tmp_path)
    run([sys.executable, "-m", "paritygate.worker", "dataset", "--uri", "data.csv", "--out", "dataset"], tmp_path)
    installed = subprocess.run([old_python, "-I", "-c", "import paritygate"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in installed.stderr

    build_zipapp(tmp_path / "agent.pyz")
    request = {
        "kind": "CaptureRequest",
        "format": "SKLearn",
        "model": str(tmp_path / "model.pkl"),
        "sourceDigest": ZEROS,
        "rows": str(tmp_path / "dataset" / "rows.npz"),
        "datasetDigest": ZEROS,
        "label": "diagnosis",
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    for out in ("capture", "again"):
        run([old_python, "-I", "agent.pyz", "capture", "--request", "request.json", "--out", out], tmp_path)

    manifest = CaptureManifest.model_validate_json((tmp_path / "capture" / "capture.json").read_bytes())
    assert (manifest.framework, manifest.framework_version) == ("scikit-learn", "1.2.2")
    assert manifest.environment.packages["numpy"].startswith("1.")
    assert manifest.environment.packages["scikit-learn"] == "1.2.2"
    assert manifest.signature.outputs[0].classes == ("benign", "malignant")
    assert {i.datatype for i in manifest.signature.inputs} == {"FP64", "BYTES"}
    reference = exchange.load(str(tmp_path / "capture" / "reference.npz"))
    np.testing.assert_array_equal(reference["probabilities"], np.load(tmp_path / "expected.npy"))
    for path in (tmp_path / "capture").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name

    with pytest.raises(AgentError, match=r"source\.environment\.virtualenv\.requirements"):
        load(str(tmp_path / "model.pkl"))


def run(command: list[object], folder: Path) -> None:
    """Runs a command that must succeed; its output is shown where it does not."""
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
