"""Single stages of one small model, one after the other, as a user calls them."""

from __future__ import annotations

import json
import pickle
import signal

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


@pytest.fixture
def iris(command_line):
    """Writes the files of a migration."""
    rows, labels = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(rows, labels)
    (command_line.folder / "iris.pkl").write_bytes(pickle.dumps(model))
    np.savez(command_line.folder / "iris.npz", features=rows, species=labels)
    command_line.manifest(
        "iris", {"format": "SKLearn", "uri": "iris.pkl"}, {"uri": "iris.npz", "label": "species"}
    )  # fmt: skip
    return command_line


def test_each_stage_ends_with_what_it_made_and_the_next_goes_on(iris):
    read = iris.run("assess", "iris.yaml")
    assert read.status == 0
    assert "LogisticRegression" in read.out
    assessed = iris.run("assess", "iris.yaml", "--output", "json")
    assert (assessed.status, assessed.result["verdict"]) == (0, None)
    assert assessed.result["assessment"]["framework"] == "scikit-learn"

    folder = iris.folder / "answers"
    captured = iris.run("capture", "iris.yaml", "--out", "answers", "--output", "json")
    assert (captured.status, captured.result["output"]["path"]) == (0, "answers")
    assert json.loads((folder / "capture.json").read_text())["rows"] == 150
    assert iris.plan("iris")["stages"][0]["reused"]
    again = iris.run("capture", "iris.yaml", "--out", "answers")
    assert again.status == 64
    assert "--out answers is there" in again.err

    converted = iris.run("convert", "iris.yaml", "--out", "candidate", "--output", "json")
    assert (converted.status, sorted(converted.result["stages"])) == (0, ["Assess", "Capture", "Convert"])
    onnx.checker.check_model(onnx.load(iris.folder / "candidate" / "model.onnx"))

    assert "was not judged here" in iris.run("report", "iris").err
    judged = iris.run("validate", "iris", "--output", "json")
    assert (judged.status, judged.result["verdict"]) == (0, "Passed")
    assert [stage["reused"] for stage in iris.plan("iris")["stages"]] == [True, True, True, False]
    for named in ("iris", "iris.yaml", ".paritygate/iris/report.json"):
        assert "PASSED  iris" in iris.run("report", named).out
    told = iris.run("report", "iris", "--html", "page.html", "--output", "json")
    assert told.result["checks"] == judged.result["checks"]
    assert "<html" in (iris.folder / "page.html").read_text()
    assert iris.unfinished() == []


def test_only_what_passed_is_served_and_any_file_may_be_looked_at(iris):
    candidate = iris.run("convert", "iris.yaml", "--out", "candidate", "--output", "json").result["output"]["path"]
    file = iris.folder / candidate / "model.onnx"
    process = iris.start("serve", "--model", candidate, "--port", "0", "--output", "json")
    try:
        assert json.loads(process.stdout.readline())["event"] == "listening"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0

    damaged = onnx.load(file)
    weights = max(damaged.graph.initializer, key=lambda tensor: onnx.numpy_helper.to_array(tensor).size)
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) * 1.5, weights.name))
    onnx.save(damaged, iris.folder / "damaged.onnx")
    iris.manifest(
        "iris", {"format": "SKLearn", "uri": "iris.pkl"}, {"uri": "iris.npz", "label": "species"},
        target={"format": "ONNX", "candidate": {"uri": "damaged.onnx", "equivalence": "Numeric"}},
    )  # fmt: skip
    refused = iris.run("serve", "iris.yaml", "--output", "json")
    assert (refused.status, refused.result["verdict"]) == (1, "Failed")
    assert "url" not in refused.result
    assert "Serve: failed: ParityFailed: only what passed is served" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["serve"], "MANIFEST", id="serves nothing"),
        pytest.param(["serve", "iris.yaml", "--port", "http"], "'http' is not a port", id="serves at no port"),
        pytest.param(["assess", "iris.yaml", "--quick"], "--quick", id="has an unknown option"),
        pytest.param(["report", "never"], "never: cannot be read", id="asks for a report that is not there"),
        pytest.param(["convert", "never.yaml"], "never.yaml", id="names a manifest that is not there"),
    ],
)
def test_a_command_line_that_says_what_is_wrong(command_line, arguments, said):
    ended = command_line.run(*arguments)
    assert (ended.status, ended.out) == (64, "")
    assert said in ended.err
    assert "Traceback" not in ended.err
