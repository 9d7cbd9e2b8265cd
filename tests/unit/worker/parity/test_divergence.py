"""The first step that differs is named: conversions are broken in one step, and the gate is asked which."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from paritygate.agent import exchange
from paritygate.agent.capture import capture as record
from paritygate.api.artifacts import CandidateManifest, CaptureManifest, ConvertRequest
from paritygate.api.digests import canonical_json
from paritygate.api.spec import Dataset, Equivalence, Source, SourceFormat, Target, Validation
from paritygate.worker import convert
from paritygate.worker.parity.divergence import Divergence, locate
from paritygate.worker.parity.evidence import Evidence, Policy
from paritygate.worker.tracing import Graph

DIGEST = "sha256:" + "0" * 64
ROWS = 200
Break = Callable[[onnx.ModelProto], None]


class Case:
    """A source that was captured and converted for real."""

    def __init__(self, folder: Path, model: Any, table: dict[str, Any]) -> None:
        import joblib

        self.folder = folder
        joblib.dump(model, folder / "model.joblib")
        exchange.save(str(folder / "rows.npz"), table)
        (folder / "capture").mkdir()
        request = {
            "format": "SKLearn", "model": str(folder / "model.joblib"), "rows": str(folder / "rows.npz"),
            "sourceDigest": DIGEST, "datasetDigest": DIGEST,
        }  # fmt: skip
        record(json.loads(json.dumps(request)), str(folder / "capture"))
        self.capture = CaptureManifest.model_validate_json((folder / "capture" / "capture.json").read_bytes())
        ask = ConvertRequest(
            source=Source(format=SourceFormat.SKLEARN, uri="model.joblib"), target=Target(format="ONNX"),
            model_name="m", model=str(folder / "model.joblib"), capture=str(folder / "capture"),
        )  # fmt: skip
        (folder / "convert.json").write_bytes(canonical_json(ask.to_dict()))
        convert.run(folder / "convert.json", folder / "candidate")
        self.manifest = CandidateManifest.model_validate_json((folder / "candidate" / "candidate.json").read_bytes())

    @property
    def path(self) -> Path:
        return self.folder / "candidate" / "model.onnx"

    def broken(self, change: Break) -> Case:
        """The same with the candidate's graph changed."""
        model = onnx.load(str(self.path))
        change(model)
        onnx.save(model, str(self.path))
        return self

    def evidence(self, *, named: bool = True) -> Evidence:
        """What the gate sees. `named`: the candidate says where steps are."""
        table = {
            name: dict(exchange.load(str(self.folder / "capture" / f"{name}.npz"))) for name in ("inputs", "reference")
        }
        session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        names = [output.name for output in self.capture.signature.outputs]
        return Evidence(
            capture=self.capture,
            policy=Policy(Equivalence.NUMERIC, Validation(dataset=Dataset(uri="rows.npz"))),
            inputs=table["inputs"],
            reference=table["reference"],
            candidate=dict(zip(names, session.run(names, table["inputs"]), strict=True)),
            manifest=self.manifest if named else self.manifest.model_copy(update={"steps": (), "name": "brought"}),
        )

    def located(self, *, named: bool = True) -> Divergence | None:
        """What the gate says."""
        steps = dict(exchange.load(str(self.folder / "capture" / "steps.npz")))
        return locate(self.evidence(named=named), steps, Graph(self.path))


def scaled(factor: float, of: str) -> Break:
    """Multiplies the double constants that nodes of one step read by a factor."""

    def change(model: onnx.ModelProto) -> None:
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        read = [name for node in model.graph.node if f"/{of}/" in f"/{node.name}" for name in node.input]
        changed = 0
        for name in dict.fromkeys(read):
            array = numpy_helper.to_array(constants[name]) if name in constants else np.zeros(0, dtype=np.int64)
            if array.dtype == np.float64 and array.size:
                constants[name].CopyFrom(numpy_helper.from_array(array * factor, name))
                changed += 1
        assert changed

    return change


@pytest.fixture
def frame() -> dict[str, Any]:
    random = np.random.default_rng(3)
    table: dict[str, Any] = {name: random.normal(size=ROWS) * 5 + 20 for name in ("age", "income")}
    table["height"] = np.where(random.random(ROWS) < 0.2, np.nan, random.normal(size=ROWS))
    table["city"] = np.asarray(["Berlin", "Paris", "Rome"], dtype=object)[random.integers(0, 3, ROWS)]
    return table


@pytest.fixture
def columns_case(tmp_path: Path, frame: dict[str, Any]) -> Case:
    """A column transformer with three branches before a classifier."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

    prepare = ColumnTransformer(
        [
            ("numbers", Pipeline([("impute", SimpleImputer()), ("scale", StandardScaler())]), ["age", "height"]),
            ("income", MinMaxScaler(), ["income"]),
            ("city", OneHotEncoder(), ["city"]),
        ]
    )
    target = (frame["age"] > 20).astype(int)
    model = Pipeline([("prepare", prepare), ("classify", LogisticRegression())]).fit(pd.DataFrame(frame), target)
    return Case(tmp_path, model, frame)


@pytest.fixture
def matrix_case(tmp_path: Path) -> Case:
    """Two scalers and a classifier on a matrix."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    random = np.random.default_rng(1)
    x = random.normal(size=(ROWS, 4)) * [1, 5, 10, 2]
    model = make_pipeline(StandardScaler(), MinMaxScaler(), LogisticRegression()).fit(x, x[:, 0] + x[:, 1] > 0)
    return Case(tmp_path, model, {name: x[:, place] for place, name in enumerate("abcd")})


@pytest.mark.parametrize("named", [True, False], ids=["where steps are named", "by values alone"])
@pytest.mark.parametrize(
    ("of", "place"),
    [
        ("standardscaler", "step standardscaler (StandardScaler)"),
        ("minmaxscaler", "step minmaxscaler (MinMaxScaler)"),
        ("logisticregression", "step logisticregression (LogisticRegression)"),
    ],
)
def test_the_broken_step_of_a_pipeline_is_named(matrix_case: Case, of: str, place: str, named: bool) -> None:
    found = matrix_case.broken(scaled(1.5, of)).located(named=named)
    assert found is not None
    if not named and of == "standardscaler":
        # Both scalers' tensors have one shape, so that none of them can be laid beside it.
        place += " or what follows it"
        assert "no tensor of the artefact holds its values" in found.sentence
    assert found.place == place, found.sentence


@pytest.mark.parametrize("named", [True, False], ids=["where steps are named", "by values alone"])
@pytest.mark.parametrize(
    ("of", "place"),
    [
        ("prepare/numbers/scale", "step prepare/numbers/scale (StandardScaler)"),
        ("prepare/income", "step prepare/income (MinMaxScaler)"),
        ("classify", "step classify (LogisticRegression)"),
    ],
)
def test_the_broken_branch_of_a_column_transformer_is_named(
    columns_case: Case, of: str, place: str, named: bool
) -> None:
    found = columns_case.broken(scaled(1.5, of)).located(named=named)
    assert found is not None
    assert found.place == place, found.sentence


def test_the_sentence_says_row_error_and_what_agrees(columns_case: Case) -> None:
    found = columns_case.broken(scaled(1.001, "prepare/income")).located()
    assert found is not None
    assert "row " in found.sentence
    assert "times what rounding explains" in found.sentence
    assert "2 steps agree before it" in found.sentence


def test_a_sound_conversion_diverges_nowhere(columns_case: Case) -> None:
    assert columns_case.located() is None
    assert {step.name for step in columns_case.manifest.steps} >= {
        "prepare/numbers/impute", "prepare/numbers/scale", "prepare/income", "prepare/city", "prepare",
    }  # fmt: skip


def test_every_step_of_the_capture_is_found_in_the_candidate(columns_case: Case) -> None:
    tensors = set(Graph(columns_case.path).tensors)
    assert all(set(step.tensors) <= tensors for step in columns_case.manifest.steps)


def test_rows_that_were_not_looked_into_cannot_tell(matrix_case: Case) -> None:
    evidence = matrix_case.evidence()
    row = next(row for row in range(ROWS) if row not in evidence.capture.step_rows)
    probabilities = evidence.candidate["probabilities"].copy()
    probabilities[row] = probabilities[row][::-1]
    found = locate(
        evidence.with_candidate({**evidence.candidate, "probabilities": probabilities}),
        dict(exchange.load(str(matrix_case.folder / "capture" / "steps.npz"))),
        Graph(matrix_case.path),
    )
    assert found is not None
    assert found.place is None
    assert "none of the 32 rows" in found.sentence


def test_answers_that_only_the_server_gives_are_laid_to_optimisation(matrix_case: Case) -> None:
    evidence = matrix_case.evidence()
    wrong = {**evidence.candidate, "probabilities": evidence.candidate["probabilities"][:, ::-1]}
    steps = dict(exchange.load(str(matrix_case.folder / "capture" / "steps.npz")))
    found = locate(evidence.with_candidate(wrong), steps, Graph(matrix_case.path))
    assert found is not None
    assert "an optimisation" in found.sentence


def test_a_reason_not_to_record_is_told(matrix_case: Case) -> None:
    evidence = matrix_case.broken(scaled(2, "minmaxscaler")).evidence()
    silent = evidence.capture.model_copy(update={"steps": (), "steps_skipped": "the values take 99 MiB per row"})
    found = locate(replace(evidence, capture=silent), {}, Graph(matrix_case.path))
    assert found == Divergence("it could not be told: the values take 99 MiB per row")


def test_without_onnxruntime_it_says_what_to_install(matrix_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    evidence = matrix_case.broken(scaled(2, "minmaxscaler")).evidence()
    steps = dict(exchange.load(str(matrix_case.folder / "capture" / "steps.npz")))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = locate(evidence, steps, Graph(matrix_case.path))
    assert found is not None
    assert "paritygate[server]" in found.sentence


def test_the_same_evidence_gives_the_same_sentence(columns_case: Case) -> None:
    columns_case.broken(scaled(1.01, "prepare/income"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert columns_case.located() == columns_case.located()
