"""A model of an old scikit-learn answers in the environment that it was made in, with nothing of ours installed."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from uv import find_uv_bin

from paritygate.agent import build_zipapp, exchange
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.sklearn import load
from paritygate.api.artifacts import CaptureManifest

REQUIREMENTS = ("scikit-learn==1.2.2", "numpy<2", "scipy<1.12", "pandas<2.1")
ROOT = Path(__file__).parents[2]
ZEROS = "sha256:" + 64 * "0"
TRAINING = """
import json, pickle, sys
import numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

folder = sys.argv[1]
frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
frame = frame.iloc[:, :5].copy()
frame["side"] = numpy.where(frame["mean area"] > 500, "left", "right")
steps = make_column_transformer((StandardScaler(), list(frame.columns[:5])), (OneHotEncoder(), ["side"]))
model = make_pipeline(steps, GradientBoostingClassifier(n_estimators=10, random_state=0))
model.fit(frame, numpy.where(label == 1, "benign", "malignant"))
with open(folder + "/model.pkl", "wb") as stream:
    pickle.dump(model, stream)
frame.assign(diagnosis=label).to_csv(folder + "/data.csv", index=False)
rows = pandas.read_csv(folder + "/data.csv").drop(columns="diagnosis")
numpy.save(folder + "/expected.npy", model.predict_proba(rows))
"""


@pytest.fixture(scope="module")
def old_python() -> Path:
    """The interpreter of an environment with scikit-learn 1.2.2, built once and kept under `.build`."""
    key = hashlib.sha256("\n".join((*REQUIREMENTS, sys.version)).encode()).hexdigest()[:16]
    folder = ROOT / ".build" / "test-environments" / key
    if not folder.exists():
        aside = folder.with_name(f"{key}.part-{os.getpid()}")
        uv = [find_uv_bin(), "--quiet"]
        subprocess.run([*uv, "venv", "--python", sys.executable, "--relocatable", aside], check=True)
        subprocess.run(
            [*uv, "pip", "install", "--only-binary", ":all:", "--python", aside / "bin" / "python", *REQUIREMENTS],
            check=True,
        )
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
    return folder / "bin" / "python"


@pytest.mark.timeout(600)
def test_model_of_scikit_learn_1_2_is_captured_where_it_was_made(tmp_path, old_python):
    run([old_python, "-I", "-c", TRAINING, tmp_path], tmp_path)
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
