"""Probabilities that `predict` computed anyway: the same bits, and only where that is shown."""

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from paritygate.agent.answering import answer
from paritygate.agent.frameworks.overheard import Overheard
from paritygate.agent.frameworks.sklearn import SklearnModel

ROWS = np.random.default_rng(0).normal(size=(200, 4))
LABELS = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 1).astype(np.int64) + (ROWS[:, 2] > 1)


class Counting(RandomForestClassifier):
    """Counts how often probabilities are computed."""

    calls = 0

    def predict_proba(self, X):  # noqa: N803 - scikit-learn's name
        """Probabilities."""
        self.calls += 1
        return super().predict_proba(X)


def forest(kind=RandomForestClassifier, **options):
    return make_pipeline(StandardScaler(), kind(10, random_state=0, **options)).fit(ROWS, LABELS)


def test_forest_in_a_pipeline_answers_once_with_the_same_bits(monkeypatch):
    model = forest()
    expected = model.predict(ROWS), model.predict_proba(ROWS)
    once = Overheard(model)
    once.listen(lambda: ROWS[:64])
    assert once.listens
    monkeypatch.setattr(RandomForestClassifier, "predict_proba", None)
    labels, probabilities = once(ROWS)
    assert np.array_equal(labels, expected[0])
    assert probabilities.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("last", [LogisticRegression(), GradientBoostingClassifier(n_estimators=5)])
def test_classifier_that_predicts_otherwise_is_asked_twice(last):
    model = make_pipeline(StandardScaler(), last).fit(ROWS, LABELS)
    once = Overheard(model)
    once.listen(lambda: ROWS[:64])
    assert not once.listens
    assert "predict_proba" not in vars(last)
    assert np.array_equal(once(ROWS)[1], model.predict_proba(ROWS))


def test_class_of_the_users_own_is_asked_twice():
    model = forest(Counting)
    once = Overheard(model)
    once.listen(lambda: ROWS[:64])
    assert not once.listens
    once(ROWS)
    assert model[-1].calls == 2


def test_refusal_while_listening_leaves_the_classifier_as_it_was():
    model = forest()
    once = Overheard(model)
    once.listen(lambda: ROWS[:64, :2])
    assert not once.listens
    assert "predict_proba" not in vars(model[-1])


def test_batches_side_by_side_answer_as_one_after_the_other():
    model = SklearnModel(forest(n_jobs=2), {})
    model.workers, model.batch = 3, 7
    inputs = model.settle({"features": ROWS})
    together = answer(model, inputs)
    model.workers = 1
    alone = answer(model, inputs)
    assert all(together[name].tobytes() == alone[name].tobytes() for name in ("label", "probabilities"))


def test_error_in_a_batch_side_by_side_names_its_row():
    model = SklearnModel(make_pipeline(StandardScaler(), RandomForestClassifier(5, n_jobs=2)).fit(ROWS, LABELS), {})
    model.workers, model.batch = 2, 7
    rows = ROWS.copy()
    rows[100] = np.inf
    with pytest.raises(Exception, match="row 100 of the dataset"):
        answer(model, {"features": rows})


def test_forest_of_the_users_own_class_is_not_asked_in_threads():
    assert SklearnModel(forest(Counting, n_jobs=2), {}).workers == 1
