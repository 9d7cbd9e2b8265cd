"""What happens inside a source is recorded for a few rows, and never at the cost of the capture."""

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from paritygate.agent import steps
from paritygate.agent.frameworks import torchlike


def joblib_of(path, model):
    import joblib

    joblib.dump(model, path)
    return path


def test_pipelines_are_recorded_step_by_step(tmp_path, take, columns, features):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, columns["y"])
    taken = take("SKLearn", joblib_of(tmp_path / "m.joblib", model), columns, label="y")
    assert [(one.name, one.kind, one.recorded) for one in taken.manifest.steps] == [
        ("standardscaler", "StandardScaler", True),
        ("logisticregression", "LogisticRegression", False),
    ]
    rows = list(taken.manifest.step_rows)
    assert len(rows) == 32
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(taken.table("steps")["standardscaler"], model[0].transform(features)[rows])


def test_branches_are_recorded_before_the_whole(tmp_path, take):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": random.normal(size=90),
            "city": np.asarray(["x", "y"], dtype=object)[random.integers(0, 2, 90)],
        }
    )
    frame.loc[41, "city"] = "rare"
    prepare = ColumnTransformer(
        [
            ("both", FeatureUnion([("once", StandardScaler()), ("again", StandardScaler())]), ["a"]),
            ("city", OrdinalEncoder(), ["city"]),
        ]
    )
    model = Pipeline([("prepare", prepare), ("classify", LogisticRegression())]).fit(frame, frame["a"] > 0)
    table = {name: frame[name].to_numpy() for name in frame}
    taken = take("SKLearn", joblib_of(tmp_path / "m.joblib", model), table)
    found = {one.name: one.branches for one in taken.manifest.steps}
    assert list(found) == [
        "prepare/both/once",
        "prepare/both/again",
        "prepare/both",
        "prepare/city",
        "prepare",
        "classify",
    ]
    assert found["prepare/both/again"] == ("prepare/both", "prepare/both/again")
    assert found["prepare/city"] == ("prepare/city",)
    # The only row of a category is among those that are looked into.
    assert 41 in taken.manifest.step_rows


def test_sparse_values_are_recorded_as_far_as_they_fit(tmp_path, take, monkeypatch):
    words = np.asarray(["one two", "two three", "three", "four one"] * 20, dtype=object)
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(words, np.arange(80) % 2)
    path = joblib_of(tmp_path / "m.joblib", model)
    values = take("SKLearn", path, {"text": words}).table("steps")["countvectorizer"]
    assert 28 <= len(values) <= 32
    assert values.shape[1] == 4
    monkeypatch.setattr(steps, "BYTES", 10 * 4 * 8)
    taken = take("SKLearn", path, {"text": words})
    assert len(taken.manifest.step_rows) == len(taken.table("steps")["countvectorizer"]) == 10
    monkeypatch.setattr(steps, "BYTES", 8)
    taken = take("SKLearn", path, {"text": words})
    assert "MiB per row" in taken.manifest.steps_skipped
    assert not (taken.folder / "steps.npz").exists()


def test_a_source_that_cannot_be_looked_into_is_captured_all_the_same(tmp_path, take, columns, features, monkeypatch):
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, columns["y"])
    path = joblib_of(tmp_path / "m.joblib", model)
    monkeypatch.setattr("paritygate.agent.frameworks.pipelines._step", None)
    taken = take("SKLearn", path, columns, label="y")
    assert taken.manifest.steps == ()
    assert taken.manifest.steps_skipped.startswith("recording them failed: ")
    assert len(taken.table("reference")["label"]) == 80


def test_a_single_estimator_is_one_step_whose_values_are_the_outputs(tmp_path, take, columns, features):
    path = joblib_of(tmp_path / "m.joblib", LogisticRegression().fit(features, columns["y"]))
    taken = take("SKLearn", path, columns, label="y")
    assert [(one.name, one.recorded) for one in taken.manifest.steps] == [("LogisticRegression", False)]
    assert taken.manifest.steps_skipped is None
    assert not (taken.folder / "steps.npz").exists()


def test_onnx_tensors_keep_their_names(tmp_path, take, columns, features):
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["inner"]), helper.make_node("Relu", ["inner"], ["y"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["rows", 4])],
        [value("y", TensorProto.FLOAT, ["rows", 2])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    taken = take("ONNX", tmp_path / "m.onnx", columns, label="y")
    assert [(one.name, one.kind) for one in taken.manifest.steps] == [("inner", "MatMul")]
    expected = features.astype(np.float32)[list(taken.manifest.step_rows)] @ numpy_helper.to_array(weights)
    np.testing.assert_allclose(taken.table("steps")["inner"], expected, rtol=1e-5)


@pytest.mark.torch
def test_modules_are_recorded_in_the_order_of_their_calls(tmp_path, take, columns):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "inner_steps_net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last, self.first = torch.nn.Linear(3, 2), torch.nn.Linear(4, 3)\n"
        "        self.act = torch.nn.ReLU(inplace=True)\n"
        "    def forward(self, x):\n"
        "        return self.act(self.last(self.act(self.first(x))))\n"
        "def build(folder):\n"
        "    torch.manual_seed(0)\n"
        "    return Net().eval()\n"
    )
    taken = take("PyTorch", tmp_path / "net", columns, label="y", loader="inner_steps_net:build")
    assert [one.name for one in taken.manifest.steps] == ["first", "act", "last", "act#2"]
    values = taken.table("steps")
    # Recorded before the activation changed it in place.
    assert (values["first"] < 0).any()
    np.testing.assert_array_equal(values["act"], np.maximum(values["first"], 0))


@pytest.mark.torch
def test_of_many_modules_the_deepest_level_that_is_few_enough_is_observed():
    torch = pytest.importorskip("torch")
    blocks = torch.nn.Sequential(*[torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU()) for _ in range(40)])
    found = [name for name, _ in torchlike._observable(blocks)]
    assert found == [str(place) for place in range(40)]
    assert len(torchlike._observable(blocks[:10])) == 20
