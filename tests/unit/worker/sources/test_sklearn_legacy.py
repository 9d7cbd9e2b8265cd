"""Models that an older scikit-learn wrote. Their files are made here, as 1.2 would have written today's models."""

from __future__ import annotations

import io
import pickle
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.base
from sklearn import datasets, ensemble, linear_model, neighbors
from sklearn.tree._tree import Tree

from paritygate.errors import ConfigurationError
from paritygate.worker.sources._sklearn import legacy

FEATURES, TARGET = datasets.load_breast_cancer(return_X_y=True)
OLD_FIELDS = [
    "left_child", "right_child", "feature", "threshold", "impurity", "n_node_samples", "weighted_n_node_samples",
]  # fmt: skip


class OldPickler(pickle.Pickler):
    """Writes trees without `missing_go_to_left`, and class counts in place of shares."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, Tree):
            return NotImplemented
        kind, arguments, state = value.__reduce__()
        nodes = np.zeros(len(state["nodes"]), dtype=[(name, state["nodes"].dtype[name]) for name in OLD_FIELDS])
        for name in OLD_FIELDS:
            nodes[name] = state["nodes"][name]
        values = state["values"]
        if arguments[1].max() > 1:
            values = values * nodes["weighted_n_node_samples"].reshape(-1, 1, 1)
        return kind, arguments, {**state, "nodes": nodes, "values": values}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Path]:
    """Stores an estimator as scikit-learn 1.2.2 would have."""

    def write(estimator: Any) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(sklearn.base, "__version__", "1.2.2")
            buffer = io.BytesIO()
            OldPickler(buffer, protocol=4).dump(estimator)
        path = tmp_path / "model.pkl"
        path.write_bytes(buffer.getvalue())
        return path

    return write


def outputs(wire: Any) -> list[Any]:
    return [
        wire.output("label", "Label", "INT64", (-1,)),
        wire.output("probabilities", "Probabilities", "FP64", (-1, 2)),
    ]


def check(model: Any, candidate: Any) -> None:
    answers = candidate.answer({"features": FEATURES})
    assert answers["label"].tolist() == model.predict(FEATURES).tolist()
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(FEATURES), rtol=1e-12)


def test_trees_without_missing_values_are_read(
    written: Callable[[Any], Path], converted_model: Callable[..., Any], wire: Any
) -> None:
    model = ensemble.RandomForestClassifier(6, max_depth=4, random_state=0).fit(FEATURES, TARGET)
    path = written(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="incompatible dtype"):
            pickle.loads(path.read_bytes())  # noqa: S301 - the test's own file
    candidate = converted_model("SKLearn", path, [wire.tensor("features", "FP64", (-1, 30))], outputs(wire))
    check(model, candidate)
    finding = candidate.converted.findings[0]
    assert finding.rule == "LEGACY-UPGRADED"
    assert "1.2.2" in finding.message


def test_losses_of_gradient_boosting_have_moved(
    written: Callable[[Any], Path],
    converted_model: Callable[..., Any],
    wire: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ensemble.GradientBoostingClassifier(n_estimators=4, random_state=0).fit(FEATURES, TARGET)
    module = types.ModuleType("sklearn.ensemble._gb_losses")
    module.BinomialDeviance = type("BinomialDeviance", (), {"__module__": module.__name__})
    present = model._loss
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        model._loss = module.BinomialDeviance()
        model._loss.K = 1
        path = written(model)
    model._loss = present
    check(model, converted_model("SKLearn", path, [wire.tensor("features", "FP64", (-1, 30))], outputs(wire)))


def test_what_no_conversion_reads_may_be_lost(
    written: Callable[[Any], Path], converted_model: Callable[..., Any], wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = neighbors.KNeighborsClassifier(3).fit(FEATURES, TARGET)
    module = types.ModuleType("sklearn.metrics._gone")
    module.Distance = type("Distance", (), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        model.leftover = module.Distance()
        path = written(model)
    check(model, converted_model("SKLearn", path, [wire.tensor("features", "FP64", (-1, 30))], outputs(wire)))


def test_classes_that_became_an_attribute_are_filled_in(
    written: Callable[[Any], Path], converted_model: Callable[..., Any], wire: Any
) -> None:
    model = linear_model.RidgeClassifier().fit(FEATURES, TARGET)
    expected = model.predict(FEATURES)
    del model.classes_
    path = written(model)
    candidate = converted_model("SKLearn", path, [wire.tensor("features", "FP64", (-1, 30))], outputs(wire)[:1])
    assert candidate.answer({"features": FEATURES})["label"].tolist() == expected.tolist()


@pytest.mark.parametrize(("stated", "factor"), [("multinomial", 2.0), ("ovr", 1.0), ("auto", 1.0)])
def test_the_old_choice_of_probabilities_is_kept(
    stated: str, factor: float, written: Callable[[Any], Path], converted_model: Callable[..., Any], wire: Any
) -> None:
    model = linear_model.LogisticRegression(max_iter=5000, solver="newton-cholesky").fit(FEATURES, TARGET)
    model.multi_class = stated
    candidate = converted_model("SKLearn", written(model), [wire.tensor("features", "FP64", (-1, 30))], outputs(wire))
    found = candidate.answer({"features": FEATURES})["probabilities"][:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-factor * model.decision_function(FEATURES))), rtol=1e-9)


def test_a_model_that_cannot_be_loaded_says_which_version_wrote_it(
    written: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("departed_package")
    module.Thing = type("Thing", (), {"__module__": module.__name__})
    model = linear_model.LinearRegression().fit(FEATURES, TARGET)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        model.thing = module.Thing()
        path = written(model)
    with pytest.raises(ConfigurationError, match=r"written by scikit-learn 1\.2\.2") as caught:
        legacy.load(path)
    assert caught.value.reason == "ModelUnloadable"
    assert "departed-package" in caught.value.message
    assert "target.candidate" in caught.value.message
