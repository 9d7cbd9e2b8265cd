"""What a user gets wrong ends with what happened, where and what to do, the right status, and nothing half-written."""

from __future__ import annotations

import json
import pickle
import resource
import sys
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.timeout(240)
ZEROS = "sha256:" + 64 * "0"
ERROR, USAGE = 3, 64


class Reduced:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@dataclass
class Bad:
    """One thing wrong with a migration that is otherwise right."""

    source: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=lambda: {"retries": 0})
    write: Callable[[Any], None] = lambda _: None
    before: Callable[[], None] | None = None
    """Called in the process before it runs."""
    says: tuple[str, ...] = ()


def model(content: bytes) -> Callable[[Any], None]:
    return lambda folder: (folder / "iris.pkl").write_bytes(content)


def model_with(reduced: Reduced) -> Callable[[Any], None]:
    """A classifier that calls something while it is loaded."""
    fitted = LogisticRegression().fit([[0], [1]], [0, 1])
    fitted.surprise_ = reduced
    return model(pickle.dumps(fitted))


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Any], None]:
    return lambda folder: change(pd.read_csv(folder / "iris.csv")).to_csv(folder / "iris.csv", index=False)


def foreign_package(folder: Any) -> None:
    """A model of a class in a package that is gone."""
    package = types.ModuleType("house_models")
    package.Scorer = type("Scorer", (), {"__module__": "house_models"})
    sys.modules["house_models"] = package
    try:
        (folder / "iris.pkl").write_bytes(pickle.dumps(package.Scorer()))
    finally:
        del sys.modules["house_models"]


def foreign_onnx(folder: Any) -> None:
    graph = onnx.helper.make_graph([], "none", [], [])
    onnx.save(onnx.helper.make_model(graph), folder / "iris.pkl")


def limit(what: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


BAD: dict[str, Bad] = {
    "a model that does not exist": Bad(
        source={"uri": "irsi.pkl"}, says=("spec.source.uri", "irsi.pkl", "no such file or folder", "check the path"),
    ),
    "a truncated pickle": Bad(
        write=lambda folder: (folder / "iris.pkl").write_bytes((folder / "iris.pkl").read_bytes()[:300]),
        says=("ModelUnreadable", "iris.pkl", "truncated", "again"),
    ),
    "an empty model": Bad(write=model(b""), says=("ModelUnreadable", "iris.pkl", "is empty", "copy the model again")),
    "a picture in place of a model": Bad(
        write=model(b"\x89PNG\r\n\x1a\n" + 100 * b"\0"), says=("ModelUnreadable", "iris.pkl", "pickle"),
    ),
    "an ONNX file that is called a pickle": Bad(
        write=foreign_onnx, says=("iris.pkl", "an ONNX model", "use source.format: ONNX"),
    ),
    "a dataset in place of the model": Bad(
        source={"uri": "iris.csv"},
        says=("ModelUnreadable", "iris.csv", "looks like a CSV table", "name the model's file instead"),
    ),
    "a pickle that needs a package that is not there": Bad(
        write=foreign_package,
        says=("PackageMissing", "house_models", "install", "source.environment.virtualenv.requirements"),
    ),
    "a pickle that raises": Bad(
        write=model_with(Reduced(int, "seven")), says=("ModelUnreadable", "iris.pkl", "ValueError", "'seven'"),
    ),
    "a model that hangs": Bad(
        write=model_with(Reduced(time.sleep, 600)), jobs={"deadline": "6s", "retries": 0},
        says=("DeadlineExceeded", "Capture", "spec.jobs.deadline", "6s"),
    ),
    "a model that takes more memory than there is": Bad(
        write=model_with(Reduced(bytearray, 6 << 30)), before=limit(resource.RLIMIT_AS, 5 << 30),
        says=("OutOfMemory", "memory is exhausted", "free memory"),
    ),
    "a pickle that is no model": Bad(
        write=model(pickle.dumps({"weights": [1, 2]})),
        says=("WrongFormat", "iris.pkl", "a dict", "save the fitted estimator"),
    ),
    "a dataset that does not exist": Bad(
        dataset={"uri": "data/iris.csv"}, says=("NotFound", "spec.validation.dataset.uri", "data/iris.csv", "no such"),
    ),
    "a dataset that lacks a column": Bad(
        write=table(lambda frame: frame.drop(columns="petal width (cm)")),
        says=("DatasetMismatch", "4 columns", "petal", "the dataset"),
    ),
    "a dataset without the label": Bad(
        dataset={"label": "kind"}, says=("validation.dataset.label", "'kind'", "no such column", "'species'"),
    ),
    "a dataset with text in a column of numbers": Bad(
        write=table(lambda frame: frame.assign(**{"petal width (cm)": "wide"})),
        says=("DatasetMismatch", "petal width (cm)", "text"),
    ),
    "a dataset with a word among the numbers": Bad(
        write=table(lambda frame: frame.assign(**{"petal width (cm)": ["wide", *frame["petal width (cm)"][1:]]})),
        says=("DatasetMixedTypes", "iris.csv", "petal width (cm)", "row", "'wide'"),
    ),
    "a dataset without rows": Bad(
        write=table(lambda frame: frame.head(0)), says=("DatasetEmpty", "iris.csv", "no rows"),
    ),
    "a csv whose lines have different lengths": Bad(
        write=lambda folder: (folder / "iris.csv").write_text("a,b\n1,2\n3,4,5\n"),
        says=("DatasetUnreadable", "iris.csv", "line 3"),
    ),
    "a dataset of no known kind": Bad(
        write=lambda folder: (folder / "iris.xlsx").write_bytes(b"PK"), dataset={"uri": "iris.xlsx"},
        says=("iris.xlsx", "*.parquet", "*.csv", "*.jsonl", "*.npz"),
    ),
    "a model with another digest": Bad(
        source={"digest": ZEROS}, says=("DigestMismatch", "spec.source.digest", ZEROS, "correct the digest"),
    ),
    "a dataset with another digest": Bad(
        dataset={"digest": ZEROS}, says=("spec.validation.dataset.digest", ZEROS, "iris.csv"),
    ),
    "an environment that contradicts itself": Bad(
        source={"environment": {"virtualenv": {"requirements": ["numpy==1.26.4", "numpy==2.0.0"]}}},
        says=("EnvironmentUnsolvable", "source.environment.virtualenv.requirements", "numpy==1.26.4", "change them"),
    ),
    "an interpreter that is not there": Bad(
        source={"environment": {"virtualenv": {"requirements": ["numpy"], "python": "3.2"}}},
        says=("spec.source.environment.virtualenv.python", "Python 3.2"),
    ),
}  # fmt: skip


@pytest.fixture
def iris(command_line):
    """A migration of a real model, in a folder of its own."""
    rows, species = load_iris(return_X_y=True, as_frame=True)
    fitted = LogisticRegression(max_iter=500).fit(rows.to_numpy(), species)
    (command_line.folder / "iris.pkl").write_bytes(pickle.dumps(fitted))
    rows.assign(species=species).to_csv(command_line.folder / "iris.csv", index=False)
    return command_line


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_ends_with_what_where_and_what_to_do(bad, iris):
    bad.write(iris.folder)
    source = {"format": "SKLearn", "uri": "iris.pkl", **bad.source}
    manifest = iris.manifest("iris", source, {"uri": "iris.csv", "label": "species", **bad.dataset}, jobs=bad.jobs)
    ended = iris.run("run", manifest, "--output", "json", before=bad.before)
    assert ended.status == ERROR, ended.err
    assert_said(bad.says, ended.err)
    assert (ended.result["verdict"], ended.result["report"], ended.result["candidate"]) == ("Error", None, None)
    assert f"ERROR: {ended.result['reason']}" in ended.err
    assert_nothing_left(iris)


def test_a_disk_that_takes_no_more_is_an_error_that_a_later_run_recovers_from(iris):
    source, dataset = {"format": "SKLearn", "uri": "iris.pkl"}, {"uri": "iris.csv", "label": "species"}
    manifest = iris.manifest("iris", source, dataset, jobs={"retries": 0})
    for size in (4096, 20_000, 60_000):
        ended = iris.run("run", manifest, "--output", "json", before=limit(resource.RLIMIT_FSIZE, size))
        assert (ended.status, ended.result["verdict"]) == (ERROR, "Error"), ended.err
        assert_said(("DiskFull", "File too large", "choose another --workdir"), ended.err)
        assert_nothing_left(iris)
    ended = iris.run("run", manifest, "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (0, "Passed"), ended.err


def test_every_mistake_in_a_manifest_is_named_with_its_line(command_line):
    (command_line.folder / "iris.yaml").write_text("""\
apiVersion: paritygate.dev/v1alpha1
kind: ModelMigration
metadata: {name: iris}
spec:
  source: {formt: SKLearn, uri: iris.pkl}
  target: {format: ONNXX}
  validation:
    dataset: {uri: iris.csv}
    numeric: {rtol: 1e-4}
""")
    ended = command_line.run("run", "iris.yaml", "--output", "json")
    assert (ended.status, ended.out) == (USAGE, "")
    assert_said(
        ("iris.yaml:5: spec.source.formt", "'format'", "iris.yaml:6: spec.target.format", "'ONNXX'", "ONNX",
         "iris.yaml:9: spec.validation.numeric.rtol", "quotes"),
        ended.err,
    )  # fmt: skip
    assert not (command_line.folder / ".paritygate").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("run",), ("MANIFEST", "--help"), id="no manifest"),
        pytest.param(("run", "none.yaml"), ("none.yaml",), id="a manifest that does not exist"),
        pytest.param(("run", "iris.yaml", "--sevre"), ("--sevre", "--help"), id="an option that does not exist"),
        pytest.param(("rnu", "iris.yaml"), ("'rnu'", "run"), id="a command that does not exist"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments, says, command_line):
    ended = command_line.run(*arguments)
    assert (ended.status, ended.out) == (USAGE, "")
    assert_said(says, ended.err)
    assert "Traceback" not in ended.err


TORCH = {
    "a loader that raises": ("raise RuntimeError('no weights here')", ("LoaderFailed", "no weights here")),
    "a loader that returns something else": ("return 7", ("LoaderFailed", "int", "torch.nn.Module")),
    "a loader that ends the process": ("import sys; sys.exit(5)", ("LoaderFailed", "SystemExit")),
    "a loader that needs a package that is not there": (
        "import house_models", ("PackageMissing", "house_models", "install"),
    ),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize(("code", "says"), TORCH.values(), ids=TORCH.keys())
def test_a_bad_loader_is_named(code, says, command_line):
    pytest.importorskip("torch")
    (command_line.folder / "net").mkdir()
    (command_line.folder / "net" / "bad_loader.py").write_text(f"def build(folder):\n    {code}\n")
    np.savez(command_line.folder / "data.npz", x=np.zeros((50, 4), np.float32))
    source = {"format": "PyTorch", "uri": "net", "loader": "bad_loader:build"}
    manifest = command_line.manifest("net", source, {"uri": "data.npz"}, jobs={"retries": 0})
    ended = command_line.run("run", manifest)
    assert ended.status == ERROR, ended.err
    assert_said((*says, "bad_loader:build"), ended.err)
    assert_nothing_left(command_line, "net")


def assert_said(fragments: tuple[str, ...], said: str) -> None:
    """Every fragment stands in `said`, however its lines are broken."""
    whole = "".join(said.split())
    for fragment in fragments:
        assert "".join(fragment.split()) in whole, f"{fragment!r} is not in:\n{said}"


def assert_nothing_left(command_line, name: str = "iris") -> None:
    """No result, nothing half-written, no process."""
    assert not command_line.processes()
    assert not command_line.unfinished()
    found = {path for path in command_line.results(name) if not path.startswith("logs/")}
    assert found <= {"lock", "logs", "scratch", "plan.json"}
    if "plan.json" in found:
        assert json.dumps(command_line.plan(name))
