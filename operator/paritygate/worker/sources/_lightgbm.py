"""Reads LightGBM's text format: header, trees, and what surrounds a prediction.

The format is written by LightGBM's src/boosting/gbdt_model_text.cpp and src/io/tree.cpp; how a tree decides stands in
include/LightGBM/tree.h, `NumericalDecision` and `CategoricalDecision`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_trees import NO_SET, Ensemble, NearZero, Tree, single_leaf

ZERO_BOUND: Final = float(np.float32(1e-35))
"""kZeroThreshold, a float literal: values of at most this magnitude are zero to LightGBM."""
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_ZERO, _MISSING_NAN = 1, 2
_WORD: Final = 32
# static_cast<int> of values in (-1, 0) is category 0.
_LOWEST_CATEGORY: Final = float(np.nextafter(-1.0, 0.0))


@dataclass(frozen=True)
class TextModel:
    """A text model, split but not yet interpreted."""

    header: Mapping[str, str]
    trees: tuple[Mapping[str, str], ...]
    parameters: Mapping[str, str]
    pandas_categorical: tuple[tuple[Any, ...], ...]
    """Categories of each categorical column of the data frame that it was fitted on, in column order."""

    @property
    def features(self) -> int:
        """Number of columns."""
        return int(self.header["max_feature_idx"]) + 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.header.get("feature_names", "").split())

    @property
    def targets(self) -> int:
        """Trees per iteration."""
        return int(self.header.get("num_tree_per_iteration", "1"))

    @property
    def objective(self) -> tuple[str, Mapping[str, str]]:
        """Name and parameters, such as ('binary', {'sigmoid': '1'}); '' = a custom one, scores are raw."""
        name, *rest = self.header.get("objective", "").split() or [""]
        return name, dict(token.partition(":")[::2] for token in rest)

    @property
    def averages(self) -> bool:
        """Whether the trees are averaged (random forest mode)."""
        return "average_output" in self.header


def parse(text: str) -> TextModel:
    """The parts of a text model. ConfigurationError: it is truncated or of another format."""
    lines = text.splitlines()
    if not lines or lines[0].strip() != "tree":
        raise ConfigurationError("ModelUnreadable", "the file is no LightGBM text model: it does not begin with 'tree'")
    end = next((number for number, line in enumerate(lines) if line.strip() == "end of trees"), None)
    if end is None:
        raise ConfigurationError(
            "ModelUnreadable", "the LightGBM model is truncated: there is no line 'end of trees'; copy it again"
        )
    blocks: list[dict[str, str]] = [{}]
    for line in lines[1:end]:
        key, _, value = line.strip().partition("=")
        if key == "Tree":
            blocks.append({})
        elif key:
            blocks[-1][key] = value
    header, *trees = blocks
    missing = [key for key in ("max_feature_idx", "num_tree_per_iteration") if not header.get(key, "").isdigit()]
    if missing:
        raise ConfigurationError("ModelUnreadable", f"the LightGBM model's header lacks {', '.join(missing)}")
    sizes = header.get("tree_sizes", "").split()
    if sizes and len(sizes) != len(trees):
        raise ConfigurationError(
            "ModelUnreadable", f"the LightGBM model states {len(sizes)} trees and holds {len(trees)}; copy it again"
        )
    return TextModel(header, tuple(trees), _parameters(lines[end:]), _pandas_categorical(lines[end:]))


def ensemble_of(model: TextModel) -> Ensemble:
    """The trees as the builder takes them; their sums are raw scores, before any averaging.

    ConfigurationError: linear trees, or a tree that cannot be read.
    """
    if any(tree.get("is_linear", "0") == "1" for tree in model.trees):
        raise ConfigurationError(
            "ConversionUnsupported",
            "the LightGBM model has linear trees (linear_tree=true), whose leaves are regressions; "
            "ONNX has no operator for them: fit it with linear_tree=false",
        )
    sets: dict[tuple[int, frozenset[int]], int] = {}
    zero_missing = np.zeros(model.features, dtype=bool)
    try:
        trees = tuple(
            _tree(block, order % model.targets, sets, zero_missing) for order, block in enumerate(model.trees)
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ConfigurationError(
            "ModelUnreadable", f"a tree of the LightGBM model cannot be read ({error!r}); copy the file again"
        ) from error
    return Ensemble(
        trees=trees,
        features=model.features,
        targets=model.targets,
        base=np.zeros(model.targets),
        category_sets=tuple(sets),
        lowest_category=_LOWEST_CATEGORY,
        near_zero=NearZero(ZERO_BOUND, np.where(zero_missing, np.nan, 0.0)),
    )


def uses_zero_as_missing(model: TextModel) -> bool:
    """Whether some split sends zeros where missing values go."""
    return any(
        (int(kind) >> 2) & 3 == _MISSING_ZERO and not int(kind) & _CATEGORICAL
        for tree in model.trees
        for kind in tree.get("decision_type", "").split()
    )


def categorical_splits(model: TextModel) -> int:
    """How many splits test membership in a set of categories."""
    return sum(int(tree.get("num_cat", "0") or 0) for tree in model.trees)


def _parameters(lines: list[str]) -> dict[str, str]:
    pairs = (line[1:-1].partition(":") for line in lines if line.startswith("[") and line.endswith("]"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _pandas_categorical(lines: list[str]) -> tuple[tuple[Any, ...], ...]:
    for line in reversed(lines):
        if line.startswith("pandas_categorical:"):
            try:
                columns = json.loads(line.partition(":")[2]) or []
            except ValueError as error:
                raise ConfigurationError(
                    "ModelUnreadable",
                    f"the LightGBM model's line pandas_categorical is cut off ({error}); copy it again",
                ) from error
            return tuple(tuple(values) for values in columns)
    return ()


def _tree(
    block: Mapping[str, str], target: int, sets: dict[tuple[int, frozenset[int]], int], zero_missing: Any
) -> Tree:
    leaf_value = _floats(block["leaf_value"])
    leaves, inner = len(leaf_value), len(leaf_value) - 1
    if leaves != int(block["num_leaves"]):
        raise ValueError(f"num_leaves={block['num_leaves']} with {leaves} leaf values")
    if not inner:
        return single_leaf(leaf_value, target)
    feature, kind = _integers(block["split_feature"]), _integers(block["decision_type"])
    threshold = _floats(block["threshold"])
    missing = (kind >> 2) & 3
    default_left = (kind & _DEFAULT_LEFT) != 0
    # Without a missing type NaN is read as 0; a missing type Zero makes NaN of zeros, and NaN of NaN.
    missing_left = np.where(missing == 0, threshold >= 0.0, default_left)
    category_set = np.full(inner, NO_SET, dtype=np.int64)
    categorical = (kind & _CATEGORICAL) != 0
    for node in np.flatnonzero(categorical):
        key = (int(feature[node]), _members(block, int(threshold[node])))
        category_set[node] = sets.setdefault(key, len(sets))
    zero_missing[feature[(missing == _MISSING_ZERO) & ~categorical]] = True
    missing_left[categorical] = False
    return Tree(
        feature=_with_leaves(feature, np.zeros(leaves, dtype=np.int64)),
        threshold=_with_leaves(threshold, np.zeros(leaves)),
        left=_children(block["left_child"], inner, leaves),
        right=_children(block["right_child"], inner, leaves),
        missing_left=_with_leaves(missing_left, np.zeros(leaves, dtype=bool)),
        value=_with_leaves(np.zeros(inner), leaf_value).reshape(-1, 1),
        category_set=_with_leaves(category_set, np.full(leaves, NO_SET, dtype=np.int64)),
        target=target,
    )


def _members(block: Mapping[str, str], position: int) -> frozenset[int]:
    """The categories of one split: a bit set of 32-bit words."""
    boundaries = _integers(block["cat_boundaries"])
    words = block["cat_threshold"].split()[boundaries[position] : boundaries[position + 1]]
    return frozenset(
        index * _WORD + bit for index, word in enumerate(words) for bit in range(_WORD) if int(word) >> bit & 1
    )


def _children(text: str, inner: int, leaves: int) -> Any:
    """Child nodes; the format writes leaf i as ~i, and here leaves follow the inner nodes."""
    children = _integers(text)
    return _with_leaves(np.where(children < 0, inner + ~children, children), np.full(leaves, -1, dtype=np.int64))


def _with_leaves(inner: Any, leaves: Any) -> Any:
    return np.concatenate([inner, leaves])


def _integers(text: str) -> Any:
    return np.asarray(text.split(), dtype=np.int64)


def _floats(text: str) -> Any:
    return np.asarray([float(token) for token in text.split()], dtype=np.float64)
