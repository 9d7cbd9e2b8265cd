"""Stage `infer`: the spec that a model and a dataset suggest, with the reason for each part of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from paritygate.api.artifacts import Inference, Inferred, InferRequest
from paritygate.api.spec import (
    Dataset,
    Metric,
    MetricName,
    ModelMigrationSpec,
    Slice,
    Source,
    SourceEnvironment,
    SourceFormat,
    Target,
    TargetFormat,
    Task,
    Validation,
    VirtualEnvironment,
)
from paritygate.errors import ConfigurationError
from paritygate.worker import datasets
from paritygate.worker.stage import read_request, write_json
from paritygate.worker.suggestion.columns import Table, is_imbalanced, label_of, slices_of, task_of
from paritygate.worker.suggestion.model import Model, model_at, with_names_of

_Say = Callable[[str, object, str], None]
_SHOWN: Final = 6
_VERSIONED: Final = {SourceFormat.SKLEARN, SourceFormat.XGBOOST, SourceFormat.LIGHTGBM}
"""Formats whose files are read differently by different versions of their framework."""
_NUMPY_2: Final = (1, 4)
"""First minor version of scikit-learn whose releases run with numpy 2."""


def run(request_file: Path, out: Path) -> None:
    """Writes `inference.json`. ConfigurationError: the files do not tell enough, and what to state."""
    request = read_request(InferRequest, request_file)
    model = model_at(Path(request.model), request.loader)
    if not Path(request.dataset).exists():
        raise ConfigurationError(
            "DatasetUnreadable", f"{request.dataset} does not exist; name the dataset's file or folder"
        )
    table = datasets.read(Path(request.dataset))
    write_json(out / "inference.json", infer(request, with_names_of(model, table), table))


def infer(request: InferRequest, model: Model, table: Table) -> Inference:
    """The spec, and why."""
    said: list[Inferred] = []

    def say(subject: str, value: object, because: str) -> None:
        said.append(Inferred(subject=subject, value=str(value), because=because))

    say("format", model.format, model.recognised)
    environment = _environment(model, say)
    label, why_label = label_of(table, model, request.label, Path(request.dataset))
    task, why_task = task_of(table, model, label)
    if task is not None:
        say("task", task, why_task)
    _say_signature(model, say)
    say("label", label or "none", why_label if request.label is None else f"as stated; {why_label}")
    metrics, why_metrics = _metrics(table, task, label)
    say("metrics", ", ".join(metric.name for metric in metrics) or "none", why_metrics)
    slices, why_slices = slices_of(table, model, label)
    say("slices", ", ".join(slices) or "none", why_slices)
    spec = ModelMigrationSpec(
        source=Source(format=model.format, uri=request.source_uri, environment=environment, loader=model.loader),
        target=Target(format=TargetFormat.ONNX),
        validation=Validation(
            task=task,
            dataset=Dataset(uri=request.dataset_uri, label=label, slices=tuple(Slice(column=name) for name in slices)),
            metrics=metrics,
        ),
    )
    return Inference(spec=spec, inferred=tuple(said))


def _environment(model: Model, say: _Say) -> SourceEnvironment | None:
    """The source's own environment, where the file names another minor version than the one here."""
    assessment = model.assessment
    recorded = assessment.framework_version if assessment else None
    if assessment is None or recorded is None:
        say("framework", model.format, "the file records no version")
        return None
    framework = f"{assessment.framework} {recorded}"
    if model.format not in _VERSIONED:
        say("framework", framework, "recorded in the file")
        return None
    here = _installed(assessment.framework)
    if here is None or recorded.split(".")[:2] == here.split(".")[:2]:
        say("framework", framework, f"recorded in the file; {here or 'none'} is installed here")
        return None
    requirements = [f"{assessment.framework}=={recorded}"]
    if model.format is not SourceFormat.SKLEARN:
        requirements.append("scikit-learn")  # their estimators are scikit-learn's
    elif tuple(map(int, recorded.split(".")[:2])) < _NUMPY_2:
        requirements.append("numpy<2")
    if model.features:
        requirements.append("pandas")
    say(
        "framework",
        framework,
        f"recorded in the file; {here} is installed here, so answers are captured in an environment with {recorded}",
    )
    return SourceEnvironment(virtualenv=VirtualEnvironment(requirements=tuple(requirements)))


def _say_signature(model: Model, say: _Say) -> None:
    if model.features:
        more = ", …" if len(model.features) > _SHOWN else ""
        say("inputs", f"{len(model.features)} columns", ", ".join(model.features[:_SHOWN]) + more)
    elif model.width is not None:
        say("inputs", f"{model.width} features", "without names: all columns that are nothing else, in file order")
    if model.classes:
        say("classes", len(model.classes), ", ".join(model.classes[:_SHOWN]))
    elif model.class_count:
        say("classes", model.class_count, "as the file says")


def _metrics(table: Table, task: Task | None, label: str | None) -> tuple[tuple[Metric, ...], str]:
    if label is None:
        return (), "without a label none can be computed; answers are compared all the same"
    if task is Task.CLASSIFICATION:
        imbalanced, shares = is_imbalanced(table, label)
        name = MetricName.BALANCED_ACCURACY if imbalanced else MetricName.ACCURACY
        return (Metric(name=name),), f"classes are {'unevenly' if imbalanced else 'evenly'} spread: {shares}"
    if task is Task.REGRESSION:
        return (Metric(name=MetricName.RMSE),), "the usual one for numbers"
    return (), f"none is inferred for task {task or 'unknown'}"


def _installed(distribution: str) -> str | None:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
