"""What a model's file says that a manifest needs: format, task, features and classes."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from paritygate.api.artifacts import Assessment
from paritygate.api.report import OutputRole
from paritygate.api.spec import Source, SourceFormat, Task
from paritygate.errors import ConfigurationError
from paritygate.worker.pickle_machine import Array, Symbol
from paritygate.worker.pickles import Contents, read_pickle
from paritygate.worker.rules.pickled import estimators
from paritygate.worker.sniff import sniffed
from paritygate.worker.sources import source_module

_MIXINS: Final = (
    ("ClassifierMixin", Task.CLASSIFICATION, "a classifier"),
    ("RegressorMixin", Task.REGRESSION, "a regressor"),
    ("ClusterMixin", Task.GENERIC, "a clusterer"),
    ("TransformerMixin", Task.EMBEDDING, "a transformer"),
)
_INNER: Final = ("best_estimator_", "estimator_", "estimator")
"""Attributes of estimators that answer as the one within."""
_WEIGHTS: Final = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Model:
    """What is known of the model."""

    format: SourceFormat
    recognised: str
    """How the format was told."""
    loader: str | None = None
    assessment: Assessment | None = None
    task: Task | None = None
    task_because: str = ""
    features: tuple[str, ...] | None = None
    """Columns that the model was fitted with, in order; None = it has no names for them."""
    width: int | None = None
    """Number of features; None = the file does not say."""
    classes: tuple[str, ...] | None = None
    """Labels as text; None = no classifier, or the file does not list them."""
    class_count: int | None = None


def model_at(path: Path, loader: str | None) -> Model:
    """What is known of the model at `path`. ConfigurationError: it is nothing that ParityGate takes."""
    if not path.exists():
        raise ConfigurationError("SourceMissing", f"{path} does not exist; name the model's file or folder")
    model = _folder(path, loader) if path.is_dir() else _file(path)
    if model.format is SourceFormat.PYTORCH and model.loader is None:
        raise ConfigurationError(
            "LoaderMissing",
            f"{path} holds PyTorch weights, which need the code that they belong to: name the folder with both, and "
            "--loader module:callable that returns the module",
        )
    source = Source(format=model.format, uri=path.name, loader=model.loader)
    assessment = source_module(model.format).assess(path, source)
    model = replace(model, assessment=assessment)
    if model.format is SourceFormat.XGBOOST:
        model = _with_objective(model, _xgboost(path))
    elif model.format is SourceFormat.LIGHTGBM:
        model = _with_objective(model, _lightgbm(path))
    return _with_signature(model)


def _file(path: Path) -> Model:
    looks = sniffed(path)
    if looks is not None and looks.format not in {None, SourceFormat.SKLEARN}:
        return Model(looks.format or SourceFormat.SKLEARN, f"{path.name} is {looks.what}")
    if looks is not None and looks.format is None:
        raise ConfigurationError(
            "ModelUnreadable", f"{path} is {looks.what}, not a model that ParityGate takes; the model comes first: "
            "paritygate run MODEL DATASET",
        )  # fmt: skip
    if path.suffix == ".ubj":
        return Model(SourceFormat.XGBOOST, f"{path.name} is an XGBoost model, by its name")
    return _pickled(path)


def _pickled(path: Path) -> Model:
    contents = read_pickle(path)
    parts = estimators(contents)
    outermost = contents.root.path if isinstance(contents.root, Symbol) else next(iter(parts), "")
    package = outermost.partition(".")[0]
    formats = {"xgboost": SourceFormat.XGBOOST, "lightgbm": SourceFormat.LIGHTGBM}
    what = f"a pickle of {package}'s {outermost.rpartition('.')[2]}" if outermost else "a pickle"
    model = Model(formats.get(package, SourceFormat.SKLEARN), f"{path.name} is {what}")
    final = _final(contents.root)
    if final is None:
        return model
    task, because = _task_of(final)
    labels = _labels(final.attributes().get("classes_"))
    return replace(
        model,
        task=task,
        task_because=because,
        features=_names(contents),
        width=_width(contents),
        classes=labels[0],
        class_count=labels[1],
    )


def _folder(path: Path, loader: str | None) -> Model:
    files = [file for file in path.rglob("*") if file.is_file()]
    pickles = [file for file in files if file.suffix in {".pkl", ".pickle", ".joblib", ".skops"}]
    if loader is None and len(pickles) == 1:
        return _pickled(pickles[0])
    offered = [loader] if loader else list(_loaders(path))
    if len(offered) != 1:
        several = f"; its code offers {', '.join(offered)}" if offered else ""
        raise ConfigurationError(
            "LoaderMissing",
            f"{path} is a folder: for a PyTorch model state --loader module:callable that returns the module{several}",
        )
    weights = ", ".join(file.name for file in files if file.suffix in _WEIGHTS) or "no weights"
    because = f"{path.name} is a folder with code and {weights}"
    return Model(SourceFormat.PYTORCH, because, loader=offered[0])


def _loaders(folder: Path) -> Iterator[str]:
    """Public functions that need at most one argument, by a look at the code."""
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_bytes(), str(file)).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                required = len(node.args.args) - len(node.args.defaults)
                if required <= 1:
                    yield f"{file.stem}:{node.name}"


def _final(root: Any) -> Symbol | None:
    """The estimator that answers: a pipeline's last step, a search's best model."""
    while isinstance(root, Symbol):
        attributes = root.attributes()
        steps = attributes.get("steps")
        if isinstance(steps, list) and steps:
            root = steps[-1][1]
            continue
        inner = next((attributes[name] for name in _INNER if isinstance(attributes.get(name), Symbol)), None)
        if inner is None or "classes_" in attributes:
            return root
        root = inner
    return None


def _task_of(estimator: Symbol) -> tuple[Task | None, str]:
    module, _, name = estimator.path.rpartition(".")
    if module.partition(".")[0] in {"sklearn", "xgboost", "lightgbm"}:  # installed here; nothing of the user's is run
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            found = None
        bases = {base.__name__ for base in found.__mro__} if isinstance(found, type) else set()
        for mixin, task, what in _MIXINS:
            if mixin in bases:
                return task, f"{name} is {what}"
    if "classes_" in estimator.attributes():
        return Task.CLASSIFICATION, f"{name} has classes"
    return None, ""


def _labels(value: Any) -> tuple[tuple[str, ...] | None, int | None]:
    array, items = value.state if isinstance(value, Symbol) and isinstance(value.state, tuple) else (value, None)
    if isinstance(items, list):
        return tuple(map(str, items)), len(items)
    return None, array.shape[0] if isinstance(array, Array) and array.shape else None


def _names(contents: Contents) -> tuple[str, ...] | None:
    """The names that the outermost part with names was fitted with."""
    for symbol in contents.symbols():
        names, _ = _labels(symbol.attributes().get("feature_names_in_"))
        if names:
            return names
    return None


def _width(contents: Contents) -> int | None:
    widths = (symbol.attributes().get("n_features_in_") for symbol in contents.symbols())
    return next((width for width in widths if isinstance(width, int)), None)


def _xgboost(path: Path) -> tuple[str, tuple[str, ...], int, int]:
    from paritygate.worker.sources.xgboost import _stored  # noqa: PLC0415

    document = _stored(path).document
    names = tuple(document.learner.get("feature_names") or ())
    return document.objective, names, document.features, document.targets


def _lightgbm(path: Path) -> tuple[str, tuple[str, ...], int, int]:
    from paritygate.worker.sources.lightgbm import _stored  # noqa: PLC0415

    text = _stored(path).text
    return text.objective[0], text.feature_names, text.features, text.targets


def _with_objective(model: Model, told: tuple[str, tuple[str, ...], int, int]) -> Model:
    objective, names, width, targets = told
    start = objective.partition(":")[0]
    if start in {"binary", "multi", "multiclass", "multiclassova", "cross_entropy"}:
        task, count = Task.CLASSIFICATION, max(targets, 2)
    elif start in {"rank", "lambdarank", "rank_xendcg"}:
        task, count = Task.RANKING, None
    else:
        task, count = Task.REGRESSION, None
    invented = all(name == f"Column_{index}" for index, name in enumerate(names))
    return replace(
        model,
        task=task,
        task_because=f"its objective is {objective}",
        features=model.features or (None if invented else names),
        width=width,
        class_count=model.class_count or count,
    )


def with_names_of(model: Model, columns: Iterable[str]) -> Model:
    """The model with its features under the dataset's names: LightGBM stores spaces as underscores."""
    if model.format is not SourceFormat.LIGHTGBM or model.features is None:
        return model
    present = set(columns)
    stored = {name.replace(" ", "_"): name for name in present if name.replace(" ", "_") not in present}
    return replace(model, features=tuple(stored.get(name, name) for name in model.features))


def _with_signature(model: Model) -> Model:
    signature = model.assessment.signature if model.assessment else None
    if signature is None or model.task is not None:
        return model
    for output in signature.outputs:
        if output.role in {OutputRole.PROBABILITIES, OutputRole.LABEL}:
            classes = tuple(map(str, output.classes)) if output.classes else None
            because = f"its output {output.name} holds {output.role.value.lower()}"
            return replace(model, task=Task.CLASSIFICATION, task_because=because, classes=classes)
    return model
