"""Virtual environments of sources with the real uv: a real upgrade, and requirements that cannot be met."""

from __future__ import annotations

import pickle
import subprocess
import threading

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from paritygate.api.spec import VirtualEnvironment
from paritygate.local.environments import Environments

OLD = {"requirements": ["scikit-learn==1.2.2", "numpy<2", "scipy<1.12"]}
TRAINING = """
import pickle, numpy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
data = numpy.load("data.npz")
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(data["features"], data["benign"])
pickle.dump(model, open("model.pkl", "wb"))
"""


@pytest.fixture
def data(command_line):
    rows, labels = load_breast_cancer(return_X_y=True)
    np.savez(command_line.folder / "data.npz", features=rows, benign=labels)
    return {"uri": "data.npz", "label": "benign"}


def source(environment):
    return {"format": "SKLearn", "uri": "model.pkl", "environment": {"virtualenv": environment}}


def test_a_model_of_scikit_learn_1_2_answers_in_its_own_environment_and_is_converted_in_ours(command_line, data):
    asked = VirtualEnvironment.model_validate(OLD)
    environments = Environments(command_line.folder / ".paritygate" / "environments")
    lock = environments.solve(asked, threading.Event())
    interpreter = environments.build(lock, asked, threading.Event())
    assert "://" not in lock.file.read_text()
    subprocess.run([interpreter, "-I", "-c", TRAINING], cwd=command_line.folder, check=True)

    manifest = command_line.manifest("old", source(OLD), data)
    ended = command_line.run("run", manifest, "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (0, "Passed"), ended.err
    assert "rows answered by scikit-learn 1.2.2" in ended.err
    assert command_line.plan("old")["inputs"]["environment"] == lock.digest
    ours = command_line.manifest("ours", {"format": "SKLearn", "uri": "model.pkl"}, data)
    assert "VERSION-DIFFERS" in command_line.run("assess", ours).out
    assert "VERSION-DIFFERS" not in command_line.run("assess", manifest).out


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param(
            {"requirements": ["numpy==1.26.4", "numpy==2.0.0"]},
            ("cannot be solved", "numpy==1.26.4 and numpy==2.0.0", "change them"), id="contradict each other",
        ),
        pytest.param(
            {"requirements": ["numpy", "scikit-learn==99.0"]},
            ("cannot be solved", "no version of scikit-learn==99.0"), id="ask for a version that never was",
        ),
        pytest.param(
            {"requirements": ["numpy"], "python": "3.99"},
            ("there is no Python 3.99", "uv python install 3.99"), id="ask for a Python that is not here",
        ),
        pytest.param({"requirements": ["six"]}, ("bring no numpy", "add 'numpy'"), id="bring no numpy"),
    ],
)  # fmt: skip
def test_requirements_are_refused_that(command_line, data, environment, said):
    (command_line.folder / "model.pkl").write_bytes(pickle.dumps(LogisticRegression().fit([[0], [1]], [0, 1])))
    ended = command_line.run("capture", command_line.manifest("m", source(environment), data), "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (3, "Error")
    for part in ("spec.source.environment.virtualenv", *said):
        assert part in ended.result["message"]
    assert "://" not in ended.result["message"]
