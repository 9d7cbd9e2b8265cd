"""Encoders of categories: one-hot, ordinal and target encoding, with unknown, missing and infrequent values."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritygate.api.spec import Datatype
from paritygate.worker.sources._sklearn.writer import INT64, Block, Table, Writer, numbers, transformer
from paritygate.worker.targets.onnx_graph import ML

_MISSING_TEXT = ""
"""How the wire carries a missing text."""


@transformer("OneHotEncoder")
def one_hot_encoder(w: Writer, model: Any, table: Table) -> Table:
    """One column per category; none is 1 for an unknown value, unless infrequent ones share a column."""
    parts, width = [], 0
    for position, block in enumerate(w.singles(table)):
        categories = model.categories_[position]
        if model.handle_unknown == "error":
            _refuse_others(w, block, categories)
        code = category_codes(w, block, categories)
        groups = _groups(model, position, len(categories))
        unknown = _infrequent_group(model, position, groups)
        count = int(groups.max()) + 1
        kept = np.delete(np.arange(count), _dropped(model, position))
        rows = np.zeros((len(categories) + 1, count))
        rows[np.arange(len(categories)), groups] = 1.0
        if unknown is not None and model.handle_unknown in {"infrequent_if_exist", "warn"}:
            rows[-1, unknown] = 1.0
        parts.append(
            w.op("Gather", np.ascontiguousarray(rows[:, kept]), _known_or_last(w, code, len(categories)), axis=0)
        )
        width += len(kept)
    return numbers(w.beside(*parts), width)


@transformer("OrdinalEncoder")
def ordinal_encoder(w: Writer, model: Any, table: Table) -> Table:
    """The position of each category."""
    parts = []
    for position, block in enumerate(w.singles(table)):
        categories = model.categories_[position]
        if model.handle_unknown == "error":
            _refuse_others(w, block, categories)
        groups = _groups(model, position, len(categories)).astype(np.float64)
        missing = [index for index, value in enumerate(categories) if _is_missing(value)]
        groups[missing] = float(model.encoded_missing_value) if missing else 0.0
        other = np.nan if model.unknown_value is None else float(model.unknown_value)
        code = category_codes(w, block, categories)
        values = np.append(groups, other)
        parts.append(w.upright(w.op("Gather", values, _known_or_last(w, code, len(categories)), axis=0)))
    return numbers(w.beside(*parts), table.width)


@transformer("TargetEncoder")
def target_encoder(w: Writer, model: Any, table: Table) -> Table:
    """The mean target of each category; unknown ones have the overall mean."""
    singles = w.singles(table)
    classes = len(model.classes_) if model.target_type_ == "multiclass" else 1
    overall = np.broadcast_to(np.atleast_1d(model.target_mean_), (classes,))
    parts = []
    for index, encoding in enumerate(model.encodings_):
        feature, target = divmod(index, classes)
        categories = model.categories_[feature]
        code = category_codes(w, singles[feature], categories)
        values = np.append(np.asarray(encoding, dtype=np.float64), overall[target])
        parts.append(w.upright(w.op("Gather", values, _known_or_last(w, code, len(categories)), axis=0)))
    return numbers(w.beside(*parts), len(parts))


def category_codes(w: Writer, block: Block, categories: Any) -> str:
    """(rows,) int64: the position of each value among `categories`, -1 for none of them."""
    if block.datatype is Datatype.BYTES:
        keys = [_text(value) for value in categories]
        unique = {key: index for index, key in reversed(list(enumerate(keys)))}
        return w.op(
            "LabelEncoder", w.flat(block.tensor), domain=ML,
            keys_strings=list(unique), values_int64s=list(unique.values()), default_int64=-1,
        )  # fmt: skip
    values = np.array([np.nan if _is_missing(value) else float(value) for value in categories])
    numeric = w.double(block.tensor)
    same = w.op("Equal", numeric, values.reshape(1, -1))
    if np.isnan(values).any():
        same = w.op("Or", same, w.op("And", w.op("IsNaN", numeric), np.isnan(values).reshape(1, -1)))
    hit = w.builder.cast(same, INT64)
    weighted = w.op("Mul", hit, np.arange(1, len(values) + 1).reshape(1, -1))
    return w.op("Sub", w.total("ReduceMax", weighted, keepdims=False), np.array(1))


def _known_or_last(w: Writer, code: str, count: int) -> str:
    return w.op("Where", w.op("Less", code, np.array(0)), np.array(count), code)


def _text(value: Any) -> str:
    return _MISSING_TEXT if _is_missing(value) else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _refuse_others(w: Writer, block: Block, categories: Any) -> None:
    if block.datatype is Datatype.BYTES and block.origin is not None:
        w.categories[block.origin] = tuple(sorted(_text(value) for value in categories))


def _groups(model: Any, position: int, count: int) -> Any:
    """Category → column, where infrequent categories share one."""
    mappings = getattr(model, "_default_to_infrequent_mappings", None)
    mapping = mappings[position] if mappings is not None else None
    return np.arange(count) if mapping is None else np.asarray(mapping)


def _infrequent_group(model: Any, position: int, groups: Any) -> int | None:
    infrequent = getattr(model, "_infrequent_indices", None)
    if infrequent is None or infrequent[position] is None:
        return None
    return int(groups[infrequent[position][0]])


def _dropped(model: Any, position: int) -> list[int]:
    """The column that is left out, counted after infrequent categories were grouped."""
    indices = getattr(model, "_drop_idx_after_grouping", model.drop_idx_)
    return [] if indices is None or indices[position] is None else [int(indices[position])]
