"""Reads XGBoost's models, JSON or UBJSON: trees, start values and what surrounds a prediction.

The schema is documented at https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html; how a tree decides
stands in include/xgboost/tree_model.h and src/common/categorical.h.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np

from paritygate.errors import ConfigurationError
from paritygate.worker.sources import _ubjson
from paritygate.worker.targets.onnx_trees import NO_SET, Ensemble, Tree

LOGISTIC: Final = {"binary:logistic", "reg:logistic", "binary:logitraw"}
EXPONENTIAL: Final = {"count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"}


@dataclass(frozen=True)
class Document:
    """A model document."""

    version: str
    """Of XGBoost, such as '3.2.0'; '' = not stated."""
    learner: Mapping[str, Any]
    device: str
    """On which it was trained, where a pickle says so; '' = not stated."""

    @property
    def objective(self) -> str:
        """Such as 'binary:logistic'."""
        return str(self.learner["objective"]["name"])

    @property
    def attributes(self) -> Mapping[str, str]:
        """What the user or the wrapper stored, such as best_iteration."""
        return dict(self.learner.get("attributes") or {})

    @property
    def booster(self) -> str:
        """gbtree, dart or gblinear."""
        return str(self.learner["gradient_booster"]["name"])

    @property
    def model(self) -> Mapping[str, Any]:
        """The trees with what belongs to them."""
        booster = self.learner["gradient_booster"]
        found: Mapping[str, Any] = booster["gbtree"]["model"] if "gbtree" in booster else booster["model"]
        return found

    @property
    def features(self) -> int:
        """Number of columns."""
        return int(self.learner["learner_model_param"]["num_feature"])

    @property
    def targets(self) -> int:
        """Values per row: classes, or targets of a regression."""
        parameters = self.learner["learner_model_param"]
        return max(1, int(parameters.get("num_class", 0)), int(parameters.get("num_target", 1)))

    @property
    def best_iteration(self) -> int | None:
        """The iteration after which training stopped to improve; None = there was no early stopping."""
        stored = self.attributes.get("best_iteration")
        return int(stored) if stored is not None else None

    @property
    def trees(self) -> int:
        """Number of trees."""
        return len(self.model.get("trees", ()))


def parse(content: bytes) -> Document:
    """A model in JSON or UBJSON, or a serialised Booster. ConfigurationError: it is truncated or something else."""
    try:
        document = _decoded(content)
        # Pickles hold the configuration of training beside the model.
        configuration = document.get("Config") or {}
        document = document.get("Model", document)
        device = str(configuration.get("learner", {}).get("generic_param", {}).get("device", ""))
        learner = document["learner"]
        version = ".".join(str(part) for part in document.get("version", ()))
        parsed = Document(version, learner, device)
        _ = parsed.objective, parsed.features, parsed.targets, parsed.booster != "gblinear" and parsed.trees
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            "ModelUnreadable",
            f"the file is no complete XGBoost model in JSON or UBJSON ({type(error).__name__}: {error}); copy it "
            f"again, or save it again with save_model('model.ubj')",
        ) from error
    return parsed


def ensemble_of(document: Document, *, missing: float, iterations: int | None) -> Ensemble:
    """The trees as the builder takes them; `iterations`: how many boosting rounds to keep, None = all.

    ConfigurationError: the booster is linear, or its leaves are vectors.
    """
    if document.booster == "gblinear":
        raise ConfigurationError(
            "ConversionUnsupported",
            "the XGBoost model is linear (booster=gblinear), not trees; fit scikit-learn's linear model in its place, "
            "or bring target.candidate",
        )
    model = document.model
    count = _kept(document, iterations)
    base = _start(document)
    weights = np.asarray(document.learner["gradient_booster"].get("weight_drop", ()), dtype=np.float32)
    sets: dict[tuple[int, frozenset[int]], int] = {}
    trees = []
    try:
        for order, (tree, target) in enumerate(zip(model["trees"][:count], model["tree_info"], strict=False)):
            # DART scales each tree by a weight of its own.
            weight = weights[order] if len(weights) else np.float32(1.0)
            trees.append(_tree(tree, int(target), sets, weight))
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigurationError(
            "ModelUnreadable", f"tree {len(trees)} of the XGBoost model cannot be read ({error!r}); copy it again"
        ) from error
    return Ensemble(
        trees=tuple(trees),
        features=document.features,
        targets=document.targets,
        base=base.astype(np.float64),
        comparison="<",
        dtype=np.float32,
        category_sets=tuple(sets),
        missing=None if np.isnan(missing) else float(np.float32(missing)),
    )


def categories_of(document: Document) -> dict[int, tuple[Any, ...]]:
    """Column → categories in the order of their codes, where the model stores them (XGBoost ≥ 3.1)."""
    columns = (document.model.get("cats") or {}).get("enc") or ()
    found = {index: _category_values(column) for index, column in enumerate(columns)}
    return {index: values for index, values in found.items() if values}


def categorical_columns(document: Document) -> tuple[int, ...]:
    """Columns that were categories in fitting."""
    types = document.learner.get("feature_types") or ()
    return tuple(index for index, kind in enumerate(types) if kind == "c")


def _decoded(content: bytes) -> Any:
    if content.lstrip()[:1] == b"{" and content.lstrip()[1:2] in {b'"', b" ", b"\n", b"\r", b"\t"}:
        return json.loads(content)
    return _ubjson.loads(content)


def _category_values(column: Mapping[str, Any]) -> tuple[Any, ...]:
    values = column.get("values")
    if values is None or not len(values):
        return ()
    if "offsets" not in column:
        return tuple(np.asarray(values).tolist())
    data = bytes(np.asarray(values).astype(np.uint8))
    offsets = np.asarray(column["offsets"]).tolist()
    return tuple(data[start:end].decode() for start, end in pairwise(offsets))


def _kept(document: Document, iterations: int | None) -> int:
    if iterations is None:
        return document.trees
    pointers = document.model.get("iteration_indptr")
    if pointers is not None and len(pointers) > iterations:
        return int(pointers[iterations])
    parallel = int(document.model["gbtree_model_param"].get("num_parallel_tree", 1))
    return iterations * max(1, parallel) * document.targets


def _start(document: Document) -> Any:
    """Where each target's sum starts, (targets,) float32: the stored base score on the scale of the trees."""
    stored = document.learner["learner_model_param"]["base_score"]
    scores = np.atleast_1d(np.asarray(json.loads(stored) if isinstance(stored, str) else stored, dtype=np.float32))
    scores = np.broadcast_to(scores, (document.targets,)).astype(np.float32)
    if document.objective in LOGISTIC:
        one = np.float32(1.0)
        return -_logarithm(one / scores - one)
    return _logarithm(scores) if document.objective in EXPONENTIAL else scores


def _logarithm(values: Any) -> Any:
    """Correctly rounded to float32, as the C library's logf is and numpy's float32 log is not."""
    return np.log(values.astype(np.float64)).astype(np.float32)


def _tree(
    tree: Mapping[str, Any], target: int, sets: dict[tuple[int, frozenset[int]], int], weight: np.float32
) -> Tree:
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise ConfigurationError(
            "ConversionUnsupported",
            "the XGBoost model has vectors in its leaves (multi_strategy=multi_output_tree); "
            "fit it with multi_strategy=one_output_per_tree",
        )
    left = np.asarray(tree["left_children"], dtype=np.int64)
    right = np.asarray(tree["right_children"], dtype=np.int64)
    condition = np.asarray(tree["split_conditions"], dtype=np.float32)
    feature = np.asarray(tree["split_indices"], dtype=np.int64)
    default_left = np.asarray(tree["default_left"]).astype(bool)
    category_set = np.full(len(left), NO_SET, dtype=np.int64)
    for node, members in _categorical_nodes(tree):
        # Members of the set go right in XGBoost, and left in our trees.
        left[node], right[node] = right[node], left[node]
        default_left[node] = not default_left[node]
        key = (int(feature[node]), members)
        category_set[node] = sets.setdefault(key, len(sets))
    condition = np.where(left < 0, condition * weight, condition).astype(np.float32)
    return Tree(
        feature=feature,
        threshold=condition.astype(np.float64),
        left=left,
        right=right,
        missing_left=default_left,
        value=condition.astype(np.float64).reshape(-1, 1),
        category_set=category_set,
        target=target,
    )


def _categorical_nodes(tree: Mapping[str, Any]) -> list[tuple[int, frozenset[int]]]:
    categories = np.asarray(tree.get("categories", ()), dtype=np.int64)
    segments = zip(
        tree.get("categories_nodes", ()), tree.get("categories_segments", ()), tree.get("categories_sizes", ()),
        strict=True,
    )  # fmt: skip
    return [
        (int(node), frozenset(categories[int(start) : int(start) + int(size)].tolist()))
        for node, start, size in segments
    ]
