"""`paritygate run` on real models: one that passes, is served and called by a stock client, and one that is stopped."""

import json
import pickle
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tritonclient.http
import yaml
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

COMMAND = [sys.executable, "-m", "paritygate", "run", "iris.yaml", "--output", "json"]


@pytest.fixture
def iris(tmp_path):
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    (tmp_path / "iris.pkl").write_bytes(pickle.dumps(model))
    np.savez(tmp_path / "iris.npz", features=rows, species=labels)
    spec = {
        "source": {"format": "SKLearn", "uri": "iris.pkl"},
        "target": {"format": "ONNX"},
        "validation": {"dataset": {"uri": "iris.npz", "label": "species"}},
    }
    write(tmp_path, spec)
    return tmp_path, spec, model, rows


def write(folder, spec):
    document = {
        "apiVersion": "paritygate.dev/v1alpha1",
        "kind": "ModelMigration",
        "metadata": {"name": "iris"},
        "spec": spec,
    }
    (folder / "iris.yaml").write_text(yaml.safe_dump(document))


def test_a_sound_model_is_served_and_a_damaged_candidate_is_stopped(iris):
    folder, spec, model, rows = iris
    with subprocess.Popen([*COMMAND, "--serve"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        told = json.loads(process.stdout.readline())
        try:
            assert told["verdict"] == "Passed"
            client = tritonclient.http.InferenceServerClient(told["url"].removeprefix("http://"))
            tensor = tritonclient.http.InferInput("features", [3, 4], "FP64")
            tensor.set_data_from_numpy(rows[[0, 60, 140]])
            answer = client.infer("iris", [tensor])
            assert answer.as_numpy("label").tolist() == model.predict(rows[[0, 60, 140]]).tolist()
            client.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    damaged = onnx.load(told["candidate"]["path"])
    weights = max(damaged.graph.initializer, key=lambda tensor: len(onnx.numpy_helper.to_array(tensor).ravel()))
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.5, weights.name))
    onnx.save(damaged, folder / "damaged.onnx")
    spec["target"] = {"format": "ONNX", "candidate": {"uri": "damaged.onnx", "equivalence": "Numeric"}}
    write(folder, spec)
    ended = subprocess.run([*COMMAND, "--serve"], cwd=folder, capture_output=True, text=True, check=False)
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (ended.returncode, told["verdict"]) == (1, "Failed")
    assert "url" not in told
