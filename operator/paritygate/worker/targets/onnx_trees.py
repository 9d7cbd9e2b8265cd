"""Ensembles of decision trees as ONNX that decides and adds exactly as the source does.

Two things make the usual TreeEnsembleRegressor differ from its source: thresholds and sums in float32, and a sum whose
order depends on batch size and threads. Here `TreeEnsemble` of ai.onnx.ml 5 compares doubles and gives each tree an
output of its own; the outputs are then added one after the other with CumSum, in the source's dtype and order. So the
same row gives the same bits at any batch size, and they are the source's bits.

Tests for membership in a set of categories become columns beside the features, read from a table by category, since
onnxruntime walks a BRANCH_MEMBER set element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from paritygate.worker.targets.onnx_graph import ML, GraphBuilder

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

ML_OPSET: Final = 5
"""First version of ai.onnx.ml with TreeEnsemble."""
NO_SET: Final = -1
"""In `Tree.category_set`: the node compares with its threshold."""
_MODES: Final = {"<=": 0, "<": 1}


@dataclass(frozen=True)
class Tree:
    """A binary tree as parallel arrays over its nodes, node 0 the root. Nodes that no path reaches are ignored."""

    feature: IntArray
    """Column that an inner node tests."""
    threshold: FloatArray
    """A value goes left when it compares true with it."""
    left: IntArray
    """Child nodes; -1 = this is a leaf."""
    right: IntArray
    missing_left: BoolArray
    """Where NaN goes."""
    value: FloatArray
    """(nodes, width); read at leaves only. Width 1: added to `target`; else width = the ensemble's targets."""
    category_set: IntArray
    """Index into the ensemble's category sets, whose members go left, all else right; `NO_SET` = a comparison."""
    target: int = 0
    """Output that a tree of width 1 adds to."""


@dataclass(frozen=True)
class NearZero:
    """What a source reads in place of values around zero, before any comparison."""

    bound: float
    """Values of at most this magnitude are replaced."""
    replacement: FloatArray
    """(features,): what stands for them, 0 or NaN."""


@dataclass(frozen=True)
class Ensemble:
    """Trees whose leaves are added in the order of `trees`, starting from `base`."""

    trees: tuple[Tree, ...]
    features: int
    targets: int
    base: FloatArray
    """(targets,): where each sum starts, before the first tree."""
    comparison: Literal["<=", "<"] = "<="
    dtype: type[np.float32 | np.float64] = np.float64
    """In which the source adds."""
    divisor: float = 1.0
    """The sum is divided by it, in `dtype`; 1 = it is not."""
    category_sets: tuple[tuple[int, frozenset[int]], ...] = ()
    """(feature, members) as non-negative integers."""
    lowest_category: float = 0.0
    """Values below it belong to no set; others are truncated toward zero."""
    near_zero: NearZero | None = None
    missing: float | None = None
    """A value that the source reads as missing beside NaN."""


def single_leaf(value: Sequence[float] | FloatArray, target: int = 0) -> Tree:
    """A tree that always answers `value`, of its width."""
    none = np.zeros(1, dtype=np.int64)
    return Tree(
        feature=none,
        threshold=np.zeros(1),
        left=none - 1,
        right=none - 1,
        missing_left=np.zeros(1, dtype=bool),
        value=np.asarray(value, dtype=np.float64).reshape(1, -1),
        category_set=none + NO_SET,
        target=target,
    )


def add_ensemble(builder: GraphBuilder, ensemble: Ensemble, features: str) -> str:
    """Adds the ensemble to the graph.

    Args:
        builder: Graph under construction.
        ensemble: What to compute.
        features: (rows, features) double tensor, NaN where a value is missing.

    Returns:
        (rows, targets) tensor of `ensemble.dtype`: the sums, before any link function.
    """
    builder.require(ML, ML_OPSET)
    columns = _with_membership_columns(builder, ensemble, _cleaned(builder, ensemble, features))
    wide = any(tree.value.shape[1] > 1 for tree in ensemble.trees)
    sums = (_sum_of_wide_leaves if wide else _sum_of_scalar_leaves)(builder, ensemble, columns)
    if ensemble.divisor != 1.0:
        sums = builder.add("Div", sums, builder.constant(ensemble.divisor, ensemble.dtype))
    return sums


def add_logistic(builder: GraphBuilder, tensor: str, dtype: type[np.float32 | np.float64]) -> str:
    """1 / (1 + e⁻ˣ) step by step, since onnxruntime's Sigmoid is a rational approximation."""
    one = builder.constant(1.0, dtype)
    return builder.add("Div", one, builder.add("Add", one, builder.add("Exp", builder.add("Neg", tensor))))


def _cleaned(builder: GraphBuilder, ensemble: Ensemble, features: str) -> str:
    if ensemble.missing is not None and not np.isnan(ensemble.missing):
        is_missing = builder.add("Equal", features, builder.constant(ensemble.missing, np.float64))
        features = builder.add("Where", is_missing, builder.constant(np.nan, np.float64), features)
    if ensemble.near_zero is not None:
        bound = builder.constant(ensemble.near_zero.bound, np.float64)
        is_near = builder.add("LessOrEqual", builder.add("Abs", features), bound)
        replacement = builder.constant(ensemble.near_zero.replacement.reshape(1, -1), np.float64)
        features = builder.add("Where", is_near, replacement, features)
    return features


@dataclass(frozen=True)
class _Columns:
    """What nodes test."""

    tensor: str
    """(rows, features and category sets) double."""
    of_set: IntArray
    """Column of each category set."""


def _with_membership_columns(builder: GraphBuilder, ensemble: Ensemble, features: str) -> _Columns:
    """Appends one column per category set: 0 for members, 1 for all else, NaN for NaN."""
    set_column = np.zeros(len(ensemble.category_sets), dtype=np.int64)
    parts, width = [features], ensemble.features
    for feature in sorted({feature for feature, _ in ensemble.category_sets}):
        positions = [index for index, (owner, _) in enumerate(ensemble.category_sets) if owner == feature]
        sets = [ensemble.category_sets[index][1] for index in positions]
        codes = 1 + max((max(members, default=0) for members in sets), default=0)
        outside = np.ones((codes + 1, len(sets)), dtype=bool)
        for column, members in enumerate(sets):
            outside[sorted(members), column] = False
        value = builder.add("Gather", features, builder.constant([feature], np.int64), axis=1)
        low = builder.add("GreaterOrEqual", value, builder.constant(ensemble.lowest_category, np.float64))
        high = builder.add("Less", value, builder.constant(float(codes), np.float64))
        known = builder.add("And", low, high)
        code = builder.add("Where", known, value, builder.constant(float(codes), np.float64))
        # Cast truncates toward zero, as the sources' conversion to int does.
        row = builder.add("Squeeze", builder.cast(code, onnx.TensorProto.INT64), builder.constant([1], np.int64))
        gathered = builder.cast(builder.add("Gather", builder.constant(outside), row, axis=0), onnx.TensorProto.DOUBLE)
        parts.append(builder.add("Where", builder.add("IsNaN", value), value, gathered))
        set_column[positions] = width + np.arange(len(sets))
        width += len(sets)
    return _Columns(builder.add("Concat", *parts, axis=1) if len(parts) > 1 else features, set_column)


def _sum_of_scalar_leaves(builder: GraphBuilder, ensemble: Ensemble, columns: _Columns) -> str:
    groups = _grouped_by_target(ensemble)
    depth = max(len(group) for group in groups)
    placed = [
        _Placed(tree, _first_leaves(ensemble, tree, order)[:, 0], target * depth + order)
        for target, group in enumerate(groups)
        for order, tree in enumerate(group)
    ]
    leaves = _traversal(builder, ensemble, placed, ensemble.targets * depth, columns)
    if ensemble.dtype is np.float32:
        leaves = builder.cast(leaves, onnx.TensorProto.FLOAT)
    if depth == 1:
        return leaves
    # 0 copies the number of rows, which may itself be 0.
    stacked = builder.add("Reshape", leaves, builder.constant([0, ensemble.targets, depth], np.int64))
    return _last_of_cumulative_sum(builder, stacked, axis=2, length=depth)


def _sum_of_wide_leaves(builder: GraphBuilder, ensemble: Ensemble, columns: _Columns) -> str:
    tables = [_first_leaves(ensemble, tree, order) for order, tree in enumerate(ensemble.trees)]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    placed = [
        _Placed(tree, np.arange(starts[order], starts[order + 1], dtype=np.float64), order)
        for order, tree in enumerate(ensemble.trees)
    ]
    rows = builder.cast(_traversal(builder, ensemble, placed, len(placed), columns), onnx.TensorProto.INT64)
    gathered = builder.add("Gather", builder.constant(np.concatenate(tables), ensemble.dtype), rows, axis=0)
    return _last_of_cumulative_sum(builder, gathered, axis=1, length=len(placed))


def _first_leaves(ensemble: Ensemble, tree: Tree, order: int) -> FloatArray:
    """The tree's values in the source's precision; the first tree's with the start value added as the source adds."""
    if order > 0:
        return tree.value.astype(ensemble.dtype).astype(np.float64)
    start = ensemble.base if tree.value.shape[1] > 1 else ensemble.base[tree.target]
    summed = np.add(tree.value.astype(ensemble.dtype), np.asarray(start).astype(ensemble.dtype), dtype=ensemble.dtype)
    return np.asarray(summed, dtype=np.float64)


def _last_of_cumulative_sum(builder: GraphBuilder, tensor: str, *, axis: int, length: int) -> str:
    cumulated = builder.add("CumSum", tensor, builder.constant(axis, np.int64)) if length > 1 else tensor
    return builder.add("Gather", cumulated, builder.constant(length - 1, np.int64), axis=axis)


def _grouped_by_target(ensemble: Ensemble) -> list[list[Tree]]:
    groups: list[list[Tree]] = [[] for _ in range(ensemble.targets)]
    for tree in ensemble.trees:
        groups[tree.target].append(tree)
    return [group or [single_leaf([0.0], target)] for target, group in enumerate(groups)]


@dataclass(frozen=True)
class _Placed:
    """A tree with what it writes, and where."""

    tree: Tree
    value: FloatArray
    """(nodes,); read at leaves."""
    slot: int
    """Column of the operator's output."""


def _traversal(
    builder: GraphBuilder, ensemble: Ensemble, placed: Sequence[_Placed], width: int, columns: _Columns
) -> str:
    """The leaf value of each tree, (rows, width) double; columns that no tree writes are 0."""
    parts: list[dict[str, np.ndarray[Any, Any]]] = []
    nodes, leaves, roots = 0, 0, []
    for item in placed:
        roots.append(nodes)
        part = _flattened(item, nodes, leaves, columns.of_set)
        parts.append(part)
        nodes += len(part["nodes_featureids"])
        leaves += len(part["leaf_weights"])
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    modes = np.full(nodes, _MODES[ensemble.comparison], dtype=np.uint8)
    tensors = {name: joined.pop(name) for name in ("nodes_splits", "leaf_weights")} | {"nodes_modes": modes}
    attributes: dict[str, Any] = {name: numpy_helper.from_array(array, name) for name, array in tensors.items()}
    attributes.update((name, array.tolist()) for name, array in joined.items())
    return builder.add(
        "TreeEnsemble",
        columns.tensor,
        domain=ML,
        aggregate_function=1,
        post_transform=0,
        n_targets=width,
        tree_roots=roots,
        **attributes,
    )


def _flattened(
    item: _Placed, first_node: int, first_leaf: int, set_column: IntArray
) -> dict[str, np.ndarray[Any, Any]]:
    """One tree in the attribute arrays of TreeEnsemble, with its node and leaf numbers shifted."""
    tree = item.tree
    reached = _reached(tree)
    inner, ends = reached[tree.left[reached] >= 0], reached[tree.left[reached] < 0]
    number = np.zeros(len(tree.left), dtype=np.int64)
    number[inner] = first_node + np.arange(len(inner))
    number[ends] = first_leaf + np.arange(len(ends))
    is_leaf = (tree.left < 0).astype(np.int64)
    left, right = tree.left[inner], tree.right[inner]
    if not len(inner):
        # TreeEnsemble has no tree without a test: both ways of a test lead to the one leaf.
        inner = left = right = ends
    sets = tree.category_set[inner]
    is_set = sets != NO_SET
    feature, threshold = tree.feature[inner].copy(), tree.threshold[inner].copy()
    feature[is_set], threshold[is_set] = set_column[sets[is_set]], 0.5
    return {
        "nodes_featureids": feature,
        "nodes_splits": threshold,
        "nodes_missing_value_tracks_true": tree.missing_left[inner].astype(np.int64),
        "nodes_truenodeids": number[left],
        "nodes_falsenodeids": number[right],
        "nodes_trueleafs": is_leaf[left],
        "nodes_falseleafs": is_leaf[right],
        "leaf_targetids": np.full(len(ends), item.slot, dtype=np.int64),
        "leaf_weights": item.value[ends],
    }


def _reached(tree: Tree) -> IntArray:
    """Nodes on some path from the root, root first."""
    levels = [np.zeros(1, dtype=np.int64)]
    while len(levels[-1]):
        inner = levels[-1][tree.left[levels[-1]] >= 0]
        levels.append(np.stack([tree.left[inner], tree.right[inner]], axis=1).ravel())
    return np.concatenate(levels)
