"""Pickles are read without running them; what they say, and what is said about files that are none."""

from __future__ import annotations

import os
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import pytest
import sklearn
import skops.io
from sklearn import compose, datasets, ensemble, linear_model, pipeline, preprocessing

from paritygate.api.artifacts import Assessment, AssessRequest
from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.worker import assess
from paritygate.worker.pickles import read_pickle
from paritygate.worker.rules import pickled
from paritygate.worker.sniff import sniffed
from paritygate.worker.sources import sklearn as source

FEATURES, TARGET = datasets.load_iris(return_X_y=True)


def twice(values: Any) -> Any:
    return values * 2


@pytest.fixture(scope="module")
def model() -> Any:
    steps = [("scale", preprocessing.StandardScaler()), ("model", linear_model.LogisticRegression(max_iter=200))]
    return pipeline.Pipeline(steps).fit(FEATURES, TARGET)


def assessed(path: Path) -> Assessment:
    return source.assess(path, Source(format=SourceFormat.SKLEARN, uri=path.name))


WRITERS = {
    "a pickle": lambda model, path: path.write_bytes(pickle.dumps(model)),
    "a pickle of protocol 0": lambda model, path: path.write_bytes(pickle.dumps(model, protocol=0)),
    "a pickle of protocol 2": lambda model, path: path.write_bytes(pickle.dumps(model, protocol=2)),
    "a joblib file": joblib.dump,
    "joblib with zlib": lambda model, path: joblib.dump(model, path, compress=("zlib", 3)),
    "joblib with gzip": lambda model, path: joblib.dump(model, path, compress=("gzip", 3)),
    "joblib with bz2": lambda model, path: joblib.dump(model, path, compress=("bz2", 3)),
    "joblib with xz": lambda model, path: joblib.dump(model, path, compress=("xz", 3)),
    "joblib with lzma": lambda model, path: joblib.dump(model, path, compress=("lzma", 3)),
    "a skops file": skops.io.dump,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_way_of_storing_is_read(name: str, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    WRITERS[name](model, path)
    found = assessed(path)
    assert found.framework_version == sklearn.__version__
    assert found.estimators == (
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.linear_model._logistic.LogisticRegression",
    )
    assert found.size == path.stat().st_size
    assert found.custom_code == ()
    assert found.parameters is not None
    assert found.parameters >= 3 * 4 + 3 + 2 * 4


def test_parameters_are_the_numbers_in_arrays(tmp_path: Path) -> None:
    weights = linear_model.LinearRegression().fit(FEATURES, TARGET)
    joblib.dump(weights, tmp_path / "model.pkl")
    assert assessed(tmp_path / "model.pkl").parameters == 4 + 1 * 0 + weights.singular_.size


def test_nothing_in_a_pickle_runs(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    estimator = linear_model.LinearRegression().fit(FEATURES, TARGET)
    estimator.extra = Payload()
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    found = assessed(path)
    assert not (tmp_path / "ran").exists()
    assert "posix.system" in found.imports
    assert [finding.rule for finding in found.findings] == ["PICKLE-SUSPICIOUS-IMPORT"]
    pickle.loads(path.read_bytes())  # noqa: S301 - the payload is the test's own
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "function", [eval, exec, subprocess.run, os.remove, __import__], ids=["eval", "exec", "run", "remove", "import"]
)
def test_dangerous_imports_are_found(function: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps([function]))
    assert pickled.suspicious_import(read_pickle(tmp_path / "model.pkl")) is not None


def test_an_ordinary_model_imports_nothing_suspicious(model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    contents = read_pickle(tmp_path / "model.pkl")
    assert pickled.suspicious_import(contents) is None
    assert pickled.custom_code(contents) is None


def test_rules_find_what_is_known_to_go_wrong(tmp_path: Path) -> None:
    columns = compose.ColumnTransformer(
        [("codes", preprocessing.OneHotEncoder(sparse_output=False), [0])], remainder="passthrough"
    )
    steps = [
        ("twice", preprocessing.FunctionTransformer(twice)), ("columns", columns),
        ("scale", preprocessing.StandardScaler()), ("model", ensemble.RandomForestClassifier(4)),
    ]  # fmt: skip
    joblib.dump(pipeline.Pipeline(steps).fit(FEATURES, TARGET), tmp_path / "model.pkl")
    found = {finding.rule: finding.message for finding in assessed(tmp_path / "model.pkl").findings}
    assert set(found) == {
        "CUSTOM-CODE", "FUNCTION-TRANSFORMER", "FOREST-TIES", "SCALER-CANCELLATION", "UNKNOWN-CATEGORIES",
    }  # fmt: skip
    assert f"{twice.__module__}.twice" in found["CUSTOM-CODE"]
    assert "4 trees" in found["FOREST-TIES"]


def test_trees_of_a_forest_inside_an_ensemble_are_counted_once(tmp_path: Path) -> None:
    forest = ensemble.RandomForestClassifier(4)
    joblib.dump(
        ensemble.StackingClassifier([("a", forest), ("b", forest)], cv=2).fit(FEATURES, TARGET), tmp_path / "m.pkl"
    )
    found = {finding.rule: finding.message for finding in assessed(tmp_path / "m.pkl").findings}
    assert found["FOREST-TIES"] == "forests of 4 trees vote on classes"


@pytest.mark.parametrize(
    ("installed", "differs"), [(sklearn.__version__, False), ("1.2.2", True), ("0.24.0", True)]
)  # fmt: skip
def test_another_version_is_a_finding(installed: str, differs: bool, model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    finding = pickled.version_differs(read_pickle(tmp_path / "model.pkl"), {"scikit-learn": installed})
    assert (finding is not None) == differs
    assert finding is None or installed in finding.message


def test_versions_do_not_differ_where_the_source_has_its_own_environment(model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    environment = {"virtualenv": {"requirements": ["scikit-learn==1.2.2"]}}
    own = Source(format=SourceFormat.SKLEARN, uri="model.pkl", environment=environment)
    with mock.patch.object(source, "version", return_value="1.2.2"):
        rules = [{finding.rule for finding in source.assess(tmp_path / "model.pkl", where).findings}
                 for where in (Source(format=SourceFormat.SKLEARN, uri="model.pkl"), own)]  # fmt: skip
    assert ["VERSION-DIFFERS" in found for found in rules] == [True, False]


def test_numpy_is_told_apart_by_its_modules(model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    assert assessed(tmp_path / "model.pkl").packages["numpy"] == ">=2"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", ["a pickle", "a joblib file", "joblib with zlib", "a skops file"])
def test_a_truncated_file_is_named(name: str, share: float, model: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    WRITERS[name](model, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ConfigurationError, match=r"source\.uri: model\.pkl is not a pickle") as caught:
        read_pickle(path)
    assert caught.value.reason == "ModelUnreadable"


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


FOREIGN = {
    "a parquet table": (lambda path: path.write_bytes(b"PAR1" + bytes(50)), "a parquet table", "model's file"),
    "a LightGBM text": (lambda path: path.write_bytes(b"tree\nversion=v4\n"), "LightGBM", "source.format: LightGBM"),
    "an XGBoost JSON": (
        lambda path: path.write_bytes(b'{"learner":{"attributes":{}}}'), "XGBoost", "source.format: XGBoost",
    ),
    "an XGBoost UBJSON": (
        lambda path: path.write_bytes(b"{L" + bytes(7) + b"\x07learner{"), "XGBoost", "source.format: XGBoost",
    ),
    "a TorchScript archive": (
        lambda path: zipped(path, "m/data.pkl", "m/constants.pkl"), "TorchScript", "source.format: TorchScript",
    ),
    "an exported program": (
        lambda path: zipped(path, "m/archive_format", "m/byteorder"), "torch.export", "source.format: TorchExport",
    ),
    "torch weights": (lambda path: zipped(path, "m/data.pkl"), "torch.save", "source.format: PyTorch"),
    "a numpy archive": (lambda path: zipped(path, "a.npy", "b.npy"), "npz", "model's file"),
    "a Git LFS pointer": (lambda path: path.write_bytes(b"version https://git-lfs\n"), "Git LFS", "model's file"),
    "an HDF5 file": (lambda path: path.write_bytes(b"\x89HDF\r\n"), "HDF5", "model's file"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_format_is_recognised(name: str, tmp_path: Path) -> None:
    write, what, advice = FOREIGN[name]
    path = tmp_path / "model.bin"
    write(path)
    with pytest.raises(ConfigurationError) as caught:
        assessed(path)
    assert what in caught.value.message
    assert advice in caught.value.message


def test_an_onnx_file_is_recognised(tmp_path: Path) -> None:
    from paritygate.api.spec import Datatype
    from paritygate.worker.targets.onnx_graph import GraphBuilder

    builder = GraphBuilder(18)
    builder.output("y", builder.input("x", Datatype.FP32, (-1, 2)), Datatype.FP32, (-1, 2))
    (tmp_path / "m.onnx").write_bytes(builder.model("m").SerializeToString())
    looks = sniffed(tmp_path / "m.onnx")
    assert looks is not None
    assert looks.format is SourceFormat.ONNX


@pytest.mark.parametrize(
    "content", [{"weights": [1, 2]}, "text", None, [1.5]], ids=["a dict", "text", "nothing", "a list"]
)
def test_a_pickle_without_an_estimator_is_refused(content: Any, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ConfigurationError, match=r"model\.pkl (is not a pickle|holds an? \w+ and no estimator)"):
        assessed(tmp_path / "model.pkl")


def test_a_folder_must_hold_one_model(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="found none"):
        assessed(tmp_path)
    joblib.dump(model, tmp_path / "a.joblib")
    (tmp_path / "code.py").write_text("x = 1\n")
    assert assessed(tmp_path).framework == "scikit-learn"
    joblib.dump(model, tmp_path / "b.pkl")
    with pytest.raises(ConfigurationError, match=r"a\.joblib, b\.pkl"):
        assessed(tmp_path)


def request(folder: Path, model: Path) -> Path:
    body = AssessRequest(source=Source(format=SourceFormat.SKLEARN, uri="model.pkl"), model=str(model))
    (folder / "request.json").write_text(body.model_dump_json(by_alias=True))
    return folder / "request.json"


def test_the_stage_writes_its_assessment(model: Any, tmp_path: Path) -> None:
    joblib.dump(model, tmp_path / "model.pkl")
    for out in ("first", "second"):
        assess.run(request(tmp_path, tmp_path / "model.pkl"), tmp_path / out)
    written = (tmp_path / "first" / "assessment.json").read_bytes()
    assert written == (tmp_path / "second" / "assessment.json").read_bytes()
    assert Assessment.model_validate_json(written).framework == "scikit-learn"


@pytest.mark.parametrize(("content", "reason"), [(None, "SourceMissing"), (b"", "ModelUnreadable")])
def test_the_stage_says_what_is_not_there(content: bytes | None, reason: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"source\.uri: model\.pkl") as caught:
        assess.run(request(tmp_path, tmp_path / "model.pkl"), tmp_path / "out")
    assert caught.value.reason == reason


def test_a_boosters_own_transformers_are_not_the_users(tmp_path: Path) -> None:
    rows = np.array([[0.0, 1.5], [1.0, 0.5], [2.0, 2.5], [0.0, 3.5]] * 10)
    model = ensemble.HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(rows, rows[:, 1])
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(model))
    found = pickled.pickle_findings(read_pickle(path), installed={})
    assert [finding.rule for finding in found] == ["HGB-CATEGORICAL"]
