"""Answers recorded on one machine judge a candidate on another, where the source's framework is not installed."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from paritygate.storage.digests import digest_of_path

DATASET = {"uri": "iris.npz", "label": "species"}


@pytest.fixture(scope="module")
def first_machine(tmp_path_factory, command_line_in):
    """A folder with a model, another model, a dataset, recorded answers and a candidate that was converted there."""
    folder = tmp_path_factory.mktemp("first")
    rows, labels = load_iris(return_X_y=True)
    for name, strength in (("iris", 1.0), ("other", 0.01)):
        model = LogisticRegression(C=strength, max_iter=500).fit(rows, labels)
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(model))
    np.savez(folder / "iris.npz", features=rows, species=labels)
    machine = command_line_in(folder)
    manifest = machine.manifest("iris", {"format": "SKLearn", "uri": "iris.pkl"}, DATASET)
    assert machine.run("capture", manifest, "--out", "answers").status == 0
    assert machine.run("convert", manifest, "--out", "candidate").status == 0
    shutil.rmtree(folder / ".paritygate")
    return folder


@pytest.fixture
def recorded(command_line, first_machine):
    """What was carried over from the first machine."""
    shutil.copytree(first_machine, command_line.folder, dirs_exist_ok=True)
    command_line.capture = digest_of_path(command_line.folder / "answers")
    return command_line


@pytest.fixture
def without_framework(tmp_path):
    """A Python with everything that is installed here except scikit-learn."""
    folder = tmp_path / "machine"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    hidden = f"import site, sys; sys.modules['sklearn'] = None; site.addsitedir({ours!r})\n"
    (packages / "hidden.pth").write_text(hidden)
    return (str(folder / "bin" / "python"), "-m", "paritygate")


def described(command_line, source, target=None):
    more = {"target": {"format": "ONNX", **target}} if target else {}
    return command_line.manifest("iris", {"format": "SKLearn", **source}, DATASET, **more)


BROUGHT = {"candidate": {"uri": "candidate/model.onnx", "equivalence": "Numeric"}}


@pytest.mark.parametrize("model", ["iris.pkl", "gone.pkl"])
def test_a_brought_candidate_is_judged_by_recorded_answers(recorded, without_framework, model):
    stated = {"uri": "answers", "digest": recorded.capture}
    manifest = described(recorded, {"uri": model, "capture": stated}, BROUGHT)
    command = [*without_framework, "run", manifest, "--workdir", "elsewhere/work", "--output", "json"]
    ended = subprocess.run(command, cwd=recorded.folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f'"Capture": "{recorded.capture}"' in ended.stdout
    assert ('"Assess"' in ended.stdout) == (model == "iris.pkl")


def test_the_same_manifest_gives_the_same_digests_in_another_place(recorded, tmp_path_factory):
    manifest = described(recorded, {"uri": "iris.pkl"})
    first = recorded.run("run", manifest, "--output", "json")
    moved = type(recorded)(tmp_path_factory.mktemp("moved"))
    for name in ("iris.pkl", "iris.npz", "iris.yaml"):
        (moved.folder / name).write_bytes((recorded.folder / name).read_bytes())
    second = moved.run("run", manifest, "--workdir", "some/other/folder", "--output", "json")
    assert first.result["verdict"] == "Passed"
    assert second.result["stages"] == first.result["stages"]


def damage(command_line):
    path = command_line.folder / "answers" / "reference.npz"
    path.write_bytes(path.read_bytes().replace(b"probabilities", b"probabilitiez"))


def remove(command_line):
    (command_line.folder / "answers" / "reference.npz").unlink()


@pytest.mark.parametrize(
    ("spoil", "source", "said"),
    [
        pytest.param(damage, {"digest": True}, "spec.source.capture.digest is sha256:", id="was changed"),
        pytest.param(remove, {}, "lacks reference.npz", id="is not complete"),
        pytest.param(None, {"uri": "other.pkl"}, "was recorded on a model with digest", id="is of another model"),
        pytest.param(None, {"uri": "gone.pkl"}, "converting needs the model itself", id="has no model to convert"),
        pytest.param(None, {"capture": "candidate"}, "holds no readable capture.json", id="is something else"),
    ],
)
def test_a_capture_is_refused_that(recorded, spoil, source, said):
    if spoil is not None:
        spoil(recorded)
    stated = {"uri": source.get("capture", "answers")}
    if source.get("digest"):
        stated["digest"] = recorded.capture
    ended = recorded.run("run", described(recorded, {"uri": source.get("uri", "iris.pkl"), "capture": stated}))
    assert (ended.status, "Traceback" in ended.err) == (3, False), ended.err
    assert said in " ".join(ended.err.split()), ended.err
