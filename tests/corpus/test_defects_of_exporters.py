"""Silent defects of today's exporters, made by running them: each must be stopped."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from paritygate.api.report import CheckName, Gap, Verdict
from paritygate.api.spec import Equivalence, SourceFormat

pytestmark = pytest.mark.filterwarnings("ignore")


def exported(model: Any, width: int, *, double: bool = False, **options: Any) -> Any:
    """What skl2onnx makes of a model, as people call it."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if double else FloatTensorType
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"zipmap": False, **options} if hasattr(model, "predict_proba") else options
        return to_onnx(model, initial_types=[("features", kind([None, width]))], options=settings or None)


def test_categories_of_histogram_boosting_become_numbers(gate: Any, case: Any, corpus: Any) -> None:
    random = np.random.default_rng(0)
    x = np.column_stack([random.integers(0, 12, 3000), random.normal(size=3000)]).astype(float)
    y = np.isin(x[:, 0], [1, 4, 6, 9]).astype(int)
    model = HistGradientBoostingClassifier(categorical_features=[0], max_iter=20, random_state=0).fit(
        x[:1000], y[:1000]
    )
    report = gate.brought(case(model, corpus.matrix(x[1000:], y=y[1000:]), label="y"), exported(model, 2))
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.gap is Gap.CANDIDATE


def test_zero_as_missing_of_lightgbm_is_forgotten(gate: Any, case: Any, corpus: Any) -> None:
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    random = np.random.default_rng(1)
    x = np.where(random.random((3000, 5)) < 0.3, 0.0, random.normal(size=(3000, 5))).astype(np.float32)
    y = (np.where(x[:, 0] == 0, 1, x[:, 0]) + x[:, 1] > 0.3).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=20, zero_as_missing=True, verbose=-1, random_state=0)
    model.fit(x[:1000], y[:1000])
    artefact = convert_lightgbm(model, initial_types=[("features", FloatTensorType([None, 5]))], zipmap=False)
    rows = corpus.matrix(x[1000:], y=y[1000:])
    report = gate.brought(case(model, rows, SourceFormat.LIGHTGBM, label="y"), artefact)
    assert report.verdict is Verdict.FAILED


def test_epoch_milliseconds_are_cut_to_float32(gate: Any, case: Any, corpus: Any) -> None:
    random = np.random.default_rng(2)
    x = np.column_stack([1.7e12 + random.integers(0, 60_000, 2000), random.normal(size=2000)]).astype(float)
    y = ((x[:, 0] // 5000) % 2).astype(int)
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(x[:1000], y[:1000])
    report = gate.brought(case(model, corpus.matrix(x[1000:])), exported(model, 2))
    assert report.verdict is Verdict.FAILED


def test_ties_of_a_forest_are_broken_otherwise(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, truth = corpus.classification(seed=3)
    model = RandomForestClassifier(10, random_state=0).fit(x, y)
    report = gate.brought(case(model, corpus.matrix(held, y=truth), label="y"), exported(model, 8, double=True))
    assert report.verdict is Verdict.FAILED


def test_thresholds_of_boosting_are_rounded_to_float32(gate: Any, case: Any, corpus: Any) -> None:
    random = np.random.default_rng(4)
    x = random.integers(0, 50, size=(3000, 4)) / 10 + 1e6
    y = (x[:, 0] > 1e6 + 2.2).astype(int) ^ (x[:, 1] > 1e6 + 3.1)
    model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(x[:1500], y[:1500])
    # Values one double step above a threshold: in float32 they are the threshold.
    edges = np.sort(model._bin_mapper.bin_thresholds_[0])
    x[1500:, 0] = np.nextafter(edges[random.integers(0, len(edges), 1500)], np.inf)
    report = gate.brought(case(model, corpus.matrix(x[1500:])), exported(model, 4))
    assert report.verdict is Verdict.FAILED


def test_the_scaler_is_left_out(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, truth = corpus.classification(seed=5)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x * 3 + 1, y)
    artefact = exported(model[-1], 8, double=True)
    report = gate.brought(case(model, corpus.matrix(held * 3 + 1, y=truth), label="y"), artefact)
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.check is CheckName.NUMERIC


def test_the_imputer_is_left_out(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification(seed=6)
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(x, y)
    held = np.where(np.random.default_rng(0).random(held.shape) < 0.05, np.nan, held)
    report = gate.brought(case(model, corpus.matrix(held)), exported(model[-1], 8, double=True))
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.check is CheckName.CONTRACT


def test_an_older_training_run_is_exported(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification(seed=7)
    model = LogisticRegression().fit(x, y)
    older = LogisticRegression().fit(x[:590], y[:590])
    report = gate.brought(case(model, corpus.matrix(held)), exported(older, 8, double=True))
    assert report.verdict is Verdict.FAILED


def test_a_feature_order_of_its_own(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification(seed=8)
    model = LogisticRegression().fit(x, y)
    swapped = LogisticRegression().fit(x[:, [1, 0, *range(2, 8)]], y)
    report = gate.brought(case(model, corpus.matrix(held)), exported(swapped, 8, double=True))
    assert report.verdict is Verdict.FAILED


def test_raw_scores_instead_of_probabilities(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification(classes=3, seed=9)
    model = LogisticRegression().fit(x, y)
    artefact = exported(model, 8, double=True, raw_scores=True)
    report = gate.brought(case(model, corpus.matrix(held)), artefact)
    assert report.verdict is Verdict.FAILED


def test_the_tokenizer_forgets_to_lower_case(gate: Any, case: Any) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType

    random = np.random.default_rng(10)
    words = np.asarray(["good", "bad", "fine", "poor", "Great", "AWFUL", "plot", "Film"])
    texts = np.asarray([" ".join(random.choice(words, 6)) for _ in range(900)], dtype=object)
    y = np.asarray([("good" in t.lower()) ^ ("awful" in t.lower()) for t in texts]).astype(int)
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts[:400], y[:400])
    wrong = make_pipeline(CountVectorizer(lowercase=False, vocabulary=model[0].vocabulary_), model[1])
    artefact = to_onnx(wrong, initial_types=[("text", StringTensorType([None, 1]))], options={"zipmap": False})
    report = gate.brought(case(model, {"text": texts[400:]}), artefact)
    assert report.verdict is Verdict.FAILED


def test_dynamic_int8_collapses(gate: Any, case: Any, corpus: Any, tmp_path: Any) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    x, y, held, truth = corpus.classification(seed=11)
    x, held = x * np.r_[300.0, np.ones(7)], held * np.r_[300.0, np.ones(7)]
    model = MLPClassifier((16,), max_iter=150, random_state=0).fit(x, y)
    (tmp_path / "plain.onnx").write_bytes(exported(model, 8).SerializeToString())
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QInt8)
    rows = corpus.matrix(held, y=truth)
    report = gate.brought(
        case(model, rows, label="y", equivalence=Equivalence.DECISION), (tmp_path / "int8.onnx").read_bytes()
    )
    assert report.verdict is Verdict.FAILED
    flips = next(check for check in report.checks if check.name is CheckName.DECISIONS)
    assert flips.result is Verdict.FAILED


def test_a_regression_tree_is_exported_as_its_first_level(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification(seed=12)
    model = DecisionTreeRegressor(max_depth=6, random_state=0).fit(x, x[:, 0] * y)
    shallow = DecisionTreeRegressor(max_depth=5, random_state=0).fit(x, x[:, 0] * y)
    report = gate.brought(case(model, corpus.matrix(held)), exported(shallow, 8))
    assert report.verdict is Verdict.FAILED
