"""Split thresholds of trees, traced back to the cells of the model's inputs where that can be done exactly enough."""

import json

import numpy as np

from paritygate.agent.frameworks.model import Threshold

_CATEGORICAL = 1
"""Bit of LightGBM's decision type."""
_CELLS = 1 << 20
"""Cells that a scaler is given at once."""
_NO_SPLITS = (np.zeros(0, dtype=np.int64), np.zeros(0))
_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")


def thresholds_of_sklearn(estimator, matrix, names):
    """Thresholds of an estimator or pipeline. `matrix`: name of its one input; None = one input per name of `names`."""
    before, last = [], estimator
    while hasattr(last, "steps"):
        before += [step for _, step in last.steps[:-1]]
        last = last.steps[-1][1]
    features, values = (np.concatenate(parts) for parts in zip(_NO_SPLITS, *_splits(last)))
    found = {}
    for feature in np.unique(features):
        place = (int(feature), np.unique(values[features == feature]))
        for step in reversed(before + _own_preprocessor(last)):
            place = _back(step, *place) if place else None
        if place:
            found.setdefault(place[0], set()).update(place[1][np.isfinite(place[1])].tolist())
    return thresholds({feature: values for feature, values in found.items() if values}, matrix, names)


def thresholds_of_lightgbm(booster, matrix, names):
    """Thresholds of the numerical splits of a LightGBM booster."""
    found = {}
    # Read from the model's text: its JSON, of nodes within nodes, takes ten times as long.
    fields = {"split_feature": (), "threshold": ()}
    for line in booster.model_to_string().splitlines():
        name, _, values = line.partition("=")
        if name in fields:
            fields[name] = values.split()
        elif name == "decision_type":
            for feature, value, kind in zip(fields["split_feature"], fields["threshold"], values.split()):
                if not int(kind) & _CATEGORICAL:
                    found.setdefault(int(feature), set()).add(float(value))
    return thresholds(found, matrix, names)


def thresholds_of_xgboost(booster, matrix, names):
    """Thresholds of the numerical splits of an XGBoost booster."""
    positions = {name: position for position, name in enumerate(booster.feature_names or ())}
    found = {}
    for text in booster.get_dump(dump_format="json"):
        queue = [json.loads(text)]
        while queue:
            node = queue.pop()
            queue += node.get("children", [])
            if isinstance(node.get("split_condition"), (int, float)):
                split = node["split"]
                position = positions[split] if split in positions else int(split[1:])
                found.setdefault(position, set()).add(float(node["split_condition"]))
    return thresholds(found, matrix, names)


def thresholds(found, matrix, names):
    """`Threshold` list from a dict of feature position → set of values."""
    listed = []
    for feature in sorted(found):
        values = np.asarray(sorted(found[feature]))
        listed.append(Threshold(matrix, feature, values) if matrix else Threshold(names[feature], 0, values))
    return listed


def _splits(estimator):
    """(features, thresholds) of the numerical splits of each tree of a tree, forest or gradient boosting model."""
    if hasattr(estimator, "_predictors"):
        for split in _histogram_splits(estimator):
            yield split
    elif hasattr(estimator, "tree_"):
        features = estimator.tree_.feature
        inner = features >= 0
        yield features[inner], estimator.tree_.threshold[inner]
    elif hasattr(estimator, "estimators_"):
        drawn = getattr(estimator, "estimators_features_", None)
        for place, part in enumerate(np.asarray(estimator.estimators_, dtype=object).reshape(-1)):
            for features, values in _splits(part):
                # Bags and isolation forests give each tree some of the columns, which it counts from 0.
                yield (features if drawn is None else np.asarray(drawn[place])[features]), values


def _histogram_splits(estimator):
    predictors = getattr(estimator, "_predictors", ())
    for predictor in (one for several in predictors for one in several):
        nodes = predictor.nodes
        inner = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
        yield inner["feature_idx"].astype(np.int64), inner["num_threshold"].astype(np.float64)


def _own_preprocessor(estimator):
    """The column transformer that histogram gradient boosting applies to its own input, where it has one."""
    preprocessor = getattr(estimator, "_preprocessor", None)
    return [preprocessor] if preprocessor is not None else []


def _back(step, feature, values):
    """The (feature, values) before a step that are (feature, values) after it; None = cannot be said."""
    if hasattr(step, "steps"):
        place = (feature, values)
        for _, inner in reversed(step.steps):
            place = _back(inner, *place) if place else None
        return place
    if hasattr(step, "transformers_") and hasattr(step, "output_indices_"):
        return _back_through_columns(step, feature, values)
    if type(step).__name__ in _SCALERS:
        return feature, _unscaled(step, feature, values)
    return (feature, values) if _keeps_cells(step) else None


def _unscaled(scaler, feature, values):
    parts, size = [], max(1, _CELLS // scaler.n_features_in_)
    for start in range(0, len(values), size):
        rows = np.zeros((len(values[start : start + size]), scaler.n_features_in_))
        rows[:, feature] = values[start : start + size]
        parts.append(scaler.inverse_transform(rows)[:, feature])
    return np.concatenate(parts)


def _keeps_cells(step):
    """Whether a step leaves present numbers as they are and where they are."""
    if step in ("passthrough", None):
        return True
    if type(step).__name__ == "SimpleImputer":
        return not getattr(step, "add_indicator", False) and not _is_nan(step.statistics_).any()
    if type(step).__name__ == "FunctionTransformer":
        func = getattr(step.func, "func", step.func)
        return func is None or getattr(func, "__name__", "") == "check_array"
    return False


def _back_through_columns(step, feature, values):
    for name, inner, columns in step.transformers_:
        places = step.output_indices_.get(name, slice(0, 0))
        if (isinstance(inner, str) and inner == "drop") or not places.start <= feature < places.stop:
            continue
        positions = _positions(step, columns)
        if len(positions) != places.stop - places.start:
            return None
        place = _back(inner, feature - places.start, values)
        return (positions[place[0]], place[1]) if place else None
    return None


def _positions(step, columns):
    """Positions of a column transformer's columns among its inputs."""
    width = step.n_features_in_
    if isinstance(columns, slice):
        return list(range(width))[columns]
    columns = [columns] if isinstance(columns, (str, int)) else list(columns)
    if len(columns) == width and all(isinstance(column, (bool, np.bool_)) for column in columns):
        return [position for position, chosen in enumerate(columns) if chosen]
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    return [names.index(column) if isinstance(column, str) else int(column) for column in columns]


def _is_nan(values):
    return np.asarray([isinstance(value, float) and np.isnan(value) for value in np.asarray(values, dtype=object)])
