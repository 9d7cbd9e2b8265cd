"""What a dataset's columns say that a manifest needs: which is the label, and which split the rows into slices."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.api.spec import Task
from paritygate.errors import ConfigurationError
from paritygate.worker.suggestion.model import Model

LABEL_NAMES: Final = ("label", "labels", "target", "y", "class", "outcome", "truth", "ground_truth")
"""Names that people give the column to be predicted."""
MAX_SLICES: Final = 4
MAX_SLICE_VALUES: Final = 12
MIN_SLICE_ROWS: Final = 30
"""Rows that two values at least must have; below, every answer about a slice would be Inconclusive."""
_MAX_CLASSES: Final = 50
_SHOWN: Final = 12

Table = Mapping[str, Any]


def texts(column: Any) -> list[str] | None:
    """A column's values as text, missing ones left out; whole numbers without a point. None = tensors or sequences."""
    values = column.values() if isinstance(column, Category) else column
    if values.ndim != 1 or (len(values) and isinstance(values[0], np.ndarray)):
        return None
    if values.dtype.kind == "f":
        values = values[~np.isnan(values)]
    return [
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        for value in values.tolist()
        if value is not None
    ]


def counts(column: Any) -> Counter[str]:
    """How often each value stands in a column; empty for tensors and sequences."""
    return Counter(texts(column) or ())


def label_of(table: Table, model: Model, stated: str | None, dataset: Path) -> tuple[str | None, str]:
    """The column to judge by, and why. ConfigurationError: the one that is stated cannot be it."""
    _require_features(table, model, dataset)
    if stated is not None:
        return stated, _checked(table, model, stated, dataset)
    others = [name for name in table if model.features is None or name not in model.features]
    if model.features is not None and len(others) == 1:
        why = _checked(table, model, others[0], dataset)
        return others[0], f"the only column that the model was not fitted with; {why}"
    named = [name for name in others if name.lower() in LABEL_NAMES]
    if model.classes:
        named = named or [name for name in others if set(counts(table[name])) == set(model.classes)]
    if len(named) == 1:
        return named[0], f"by its name or values; {_checked(table, model, named[0], dataset)}"
    if not others or (model.width is not None and len(table) == model.width):
        return None, "every column of the dataset is one of the model's features"
    raise ConfigurationError(
        "LabelMissing",
        f"{dataset}: which column holds what the model predicts cannot be told; state --label, one of "
        f"{_listed(others)}",
    )


def slices_of(table: Table, model: Model, label: str | None) -> tuple[list[str], str]:
    """Columns with few values, and why these."""
    candidates = [name for name in table if name != label]
    if model.features is None:
        # Without names all columns that are nothing else are features, so only those too many may be taken away.
        spare = len(candidates) - model.width if model.width is not None else 0
        textual = [name for name in candidates if _is_textual(table[name])]
        candidates = textual if len(textual) == spare else []
    found = [name for name in candidates if _splits(table[name])]
    # Columns that the model does not see first, then the coarsest.
    found.sort(key=lambda name: (name in (model.features or ()), len(counts(table[name]))))
    said = ", ".join(f"{name} ({len(counts(table[name]))} values)" for name in found[:MAX_SLICES])
    return found[:MAX_SLICES], said or "no column splits the rows into a few large groups"


def task_of(table: Table, model: Model, label: str | None) -> tuple[Task | None, str]:
    """The task, from the model or else from the label."""
    if model.task is not None or label is None:
        return model.task, model.task_because or "neither the model's file nor a label tells; it is told once it runs"
    distinct = counts(table[label])
    if _is_textual(table[label]) or (_is_whole(table[label]) and len(distinct) <= _MAX_CLASSES):
        return Task.CLASSIFICATION, f"column {label} has {len(distinct)} distinct values"
    return Task.REGRESSION, f"column {label} holds {len(distinct)} distinct numbers"


def is_imbalanced(table: Table, label: str) -> tuple[bool, str]:
    """Whether the rarest class has less than half its even share, and the shares in words."""
    distinct = counts(table[label])
    total, rarest = sum(distinct.values()), min(distinct.values(), default=0)
    shares = ", ".join(f"{name} {count / total:.0%}" for name, count in distinct.most_common(4))
    return rarest * len(distinct) * 2 < total, shares


def _require_features(table: Table, model: Model, dataset: Path) -> None:
    missing = [name for name in model.features or () if name not in table]
    # A LightGBM model calls its columns so when it was fitted on an array; then order counts, not names.
    if missing and len(missing) < len(model.features or ()):
        raise ConfigurationError(
            "DatasetMismatch",
            f"{dataset} lacks {_listed(missing)}, which the model was fitted with; it has {_listed(table)}"
            f"{_closest(missing[0], table)}",
        )


def _checked(table: Table, model: Model, label: str, dataset: Path) -> str:
    """Why a column may be the label. ConfigurationError: it cannot."""
    if label not in table:
        raise ConfigurationError(
            "LabelMissing",
            f"{dataset} has no column {label!r}; its columns are {_listed(table)}{_closest(label, table)}",
        )
    if label in (model.features or ()):
        others = [name for name in table if name not in (model.features or ())]
        raise ConfigurationError(
            "LabelMismatch",
            f"column {label!r} of {dataset} is one of the features that the model was fitted with, not what it "
            f"predicts; choose --label among {_listed(others) if others else 'other columns'}",
        )
    distinct = counts(table[label])
    if model.task is Task.CLASSIFICATION:
        return _checked_classes(table, model, label, dataset, distinct)
    if model.task is Task.REGRESSION and _is_textual(table[label]):
        raise ConfigurationError(
            "LabelMismatch",
            f"column {label!r} of {dataset} holds text such as {next(iter(distinct), '')!r}, but the model predicts "
            f"numbers{_numeric(table, model)}",
        )
    return f"{len(distinct)} distinct values"


def _checked_classes(table: Table, model: Model, label: str, dataset: Path, distinct: Counter[str]) -> str:
    if model.classes is not None:
        foreign = [value for value in distinct if value not in model.classes]
        if foreign:
            known = set(model.classes)
            values = {name: set(counts(column)) for name, column in table.items() if name != label}
            fitting = [name for name, held in values.items() if held and held <= known]
            hint = f"; --label {fitting[0]} would fit" if fitting else ""
            raise ConfigurationError(
                "LabelMismatch",
                f"column {label!r} of {dataset} holds {_listed(foreign)}, but the model's classes are "
                f"{_listed(model.classes)}{hint}",
            )
        return f"its {len(distinct)} values are classes of the model"
    if model.class_count is not None and len(distinct) > model.class_count:
        raise ConfigurationError(
            "LabelMismatch",
            f"column {label!r} of {dataset} has {len(distinct)} distinct values, but the model has "
            f"{model.class_count} classes; choose --label among {_listed(n for n in table if n != label)}",
        )
    return f"{len(distinct)} distinct values"


def _numeric(table: Table, model: Model) -> str:
    fitting = [n for n in table if n not in (model.features or ()) and not _is_textual(table[n])]
    return f"; choose --label among {_listed(fitting)}" if fitting else ""


def _splits(column: Any) -> bool:
    if not (_is_textual(column) or _is_whole(column)):
        return False
    distinct = counts(column)
    large = sum(count >= MIN_SLICE_ROWS for count in distinct.values())
    return 1 < len(distinct) <= MAX_SLICE_VALUES and large > 1


def _is_textual(column: Any) -> bool:
    return isinstance(column, Category) or column.dtype.kind in "OUS"


def _is_whole(column: Any) -> bool:
    if isinstance(column, Category) or column.ndim != 1:
        return False
    if column.dtype.kind == "f":
        finite = column[~np.isnan(column)]
        return bool(len(finite)) and bool((finite == np.floor(finite)).all())
    return bool(column.dtype.kind in "iub")


def _closest(name: str, columns: Iterable[str]) -> str:
    lowered = {column.lower(): column for column in columns}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
