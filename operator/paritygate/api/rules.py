"""Rules between fields that no type can express, each written once for Python and once in CEL for the cluster.

A rule sees an object as the user stated it: plain data, camelCase, without defaults. It holds or names the places that
break it. `tests/unit/api/test_agreement.py` feeds one corpus to both forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from paritygate.api import addresses

Place = tuple[str | int, ...]
"""Field names and list indices that lead from the object to a value in it; empty = the object."""
Stated = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """One rule about an object."""

    message: str
    """What is wrong with which fields, and what would work."""
    cel: str | None
    """True where the rule holds; `self` is the object, with defaults filled in. None = a list type says it."""
    broken: Callable[[Stated], Iterable[Place]]
    """The places that break it."""
    related: tuple[Place, ...] = ()
    """Other fields whose values explain the problem."""


class Unknown(Exception):
    """A rule asked for a field whose value is wrong in itself, so the rule cannot be judged."""


class Partial(dict[str, Any]):
    """Stated data some of whose fields are wrong: whoever looks at one of those gets `Unknown`."""

    def __init__(self, data: Stated, wrong: frozenset[str]) -> None:
        super().__init__(data)
        self.wrong = wrong

    def __contains__(self, field: object) -> bool:
        self._check(field)
        return super().__contains__(field)

    def __getitem__(self, field: str) -> Any:
        self._check(field)
        try:
            return super().__getitem__(field)
        except KeyError:
            raise Unknown from None

    def get(self, field: str, default: Any = None) -> Any:
        """The field's value, or `default`; `Unknown` where the value is wrong."""
        self._check(field)
        return super().get(field, default)

    def _check(self, field: object) -> None:
        if field in self.wrong:
            raise Unknown


def broken_places(rule: Rule, stated: Stated) -> list[Place]:
    """The places that break the rule; none where it cannot be judged."""
    try:
        return list(rule.broken(stated))
    except Unknown:
        return []


def _either(*, breaks: bool, at: Place) -> Iterator[Place]:
    if breaks:
        yield at


def _repeated(stated: Stated, field: str, key: str | None = None) -> Iterator[Place]:
    seen: set[Any] = set()
    for index, item in enumerate(stated.get(field, ())):
        value = item if key is None else item[key]
        if value in seen:
            yield (field, index) if key is None else (field, index, key)
        seen.add(value)


def _distinct(field: str, key: str, what: str) -> Rule:
    return Rule(
        message=f"every {what} may stand once in {field}; remove or rename the second",
        cel=None,
        broken=lambda stated: _repeated(stated, field, key),
    )


ADDRESS: Final = (
    Rule(
        message="uri is a path or begins with file://, https://, s3://, gs://, az:// or pvc://claim/; bring what lies "
        "elsewhere, such as at hf:// or oci://, to one of these",
        cel=f"!self.uri.contains('{addresses.SEPARATOR}') || self.uri.matches('{addresses.KNOWN}')",
        broken=lambda s: _either(breaks=not addresses.is_known(s["uri"]), at=("uri",)),
    ),
    Rule(
        message="an address in a volume claim is pvc://claim/path, without . and .. between its slashes, "
        "e.g. pvc://models/churn/model.pkl",
        cel=f"!self.uri.startsWith('pvc://') || (self.uri.matches('{addresses.CLAIM}') && "
        f"!self.uri.matches('{addresses.STEPS}'))",
        broken=lambda s: _either(breaks=not addresses.is_sound(s["uri"]), at=("uri",)),
    ),
)

SOURCE: Final = (
    *ADDRESS,
    Rule(
        message="only format PyTorch takes a loader; remove loader, or correct format",
        cel="!has(self.loader) || self.format == 'PyTorch'",
        broken=lambda s: _either(breaks="loader" in s and s["format"] != "PyTorch", at=("loader",)),
        related=(("format",),),
    ),
    Rule(
        message="format PyTorch needs loader, a callable in the model's folder that returns the module, "
        "e.g. loader: model:build",
        cel="self.format != 'PyTorch' || has(self.loader)",
        broken=lambda s: _either(breaks=s["format"] == "PyTorch" and "loader" not in s, at=("format",)),
    ),
    Rule(
        message="capture excludes environment: recorded answers need nothing to run in; remove one of the two",
        cel="!has(self.capture) || !has(self.environment)",
        broken=lambda s: _either(breaks="capture" in s and "environment" in s, at=("capture",)),
        related=(("environment",),),
    ),
    _distinct("inputs", "name", "name"),
    _distinct("outputs", "name", "name"),
)

TARGET: Final = (
    Rule(
        message="candidate excludes opset: a brought artefact is judged as it is; remove one of the two",
        cel="!has(self.candidate) || !has(self.opset)",
        broken=lambda s: _either(breaks="candidate" in s and "opset" in s, at=("opset",)),
        related=(("candidate",),),
    ),
    Rule(
        message="candidate excludes equivalence beside it; state candidate.equivalence alone",
        cel="!has(self.candidate) || !has(self.equivalence)",
        broken=lambda s: _either(breaks="candidate" in s and "equivalence" in s, at=("equivalence",)),
        related=(("candidate",),),
    ),
)

DATASET: Final = (
    *ADDRESS,
    Rule(
        message="maxDrop of a slice needs label: without labels no metric can drop; state label, or use maxFlipRate",
        cel="!has(self.slices) || has(self.label) || self.slices.all(s, !has(s.maxDrop))",
        broken=lambda s: (
            ("slices", index, "maxDrop")
            for index, item in enumerate(s.get("slices", ()))
            if "maxDrop" in item and "label" not in s
        ),
    ),
    Rule(
        message="group cannot be the column of label: all rows of a group would have one label; correct one of the two",
        cel="!has(self.group) || !has(self.label) || self.group != self.label",
        broken=lambda s: _either(breaks="group" in s and "label" in s and s["group"] == s["label"], at=("group",)),
        related=(("label",),),
    ),
    _distinct("slices", "column", "column"),
)

SOURCE_ENVIRONMENT: Final = (
    Rule(
        message="environment is one of image and virtualenv; state exactly one of the two",
        cel="has(self.image) != has(self.virtualenv)",
        broken=lambda s: _either(breaks=("image" in s) == ("virtualenv" in s), at=()),
    ),
)

STORAGE: Final = (
    Rule(
        message="storage is one of object, claimName and claimTemplate; state exactly one of the three",
        cel="(has(self.object) ? 1 : 0) + (has(self.claimName) ? 1 : 0) + (has(self.claimTemplate) ? 1 : 0) == 1",
        broken=lambda s: _either(
            breaks=sum(field in s for field in ("object", "claimName", "claimTemplate")) != 1, at=()
        ),
    ),
)

AUTOSCALING: Final = (
    Rule(
        message="minReplicas must be at most maxReplicas; lower minReplicas, or raise maxReplicas",
        cel="self.minReplicas <= self.maxReplicas",
        broken=lambda s: _either(breaks=s.get("minReplicas", 2) > s["maxReplicas"], at=("minReplicas",)),
        related=(("maxReplicas",),),
    ),
)

SERVING: Final = (
    Rule(
        message="autoscaling excludes replicas: an autoscaler owns the number; remove one of the two",
        cel="!has(self.autoscaling) || !has(self.replicas)",
        broken=lambda s: _either(breaks="autoscaling" in s and "replicas" in s, at=("replicas",)),
        related=(("autoscaling",),),
    ),
)

NUMERIC: Final = (_distinct("outputs", "name", "output"),)

OUTPUT_TOLERANCE: Final = (
    Rule(
        message="an output's tolerance needs rtol or atol, e.g. rtol: '1e-4'",
        cel="has(self.rtol) || has(self.atol)",
        broken=lambda s: _either(breaks="rtol" not in s and "atol" not in s, at=()),
    ),
)

DECISIONS: Final = (
    Rule(
        message="every threshold may stand once; remove the second",
        cel=None,
        broken=lambda s: _repeated(s, "thresholds"),
    ),
)

JOBS: Final = (
    Rule(
        message="deadline must be longer than nothing, e.g. 30m",
        cel="self.deadline.matches('[1-9]')",
        broken=lambda s: _either(breaks=not any(d in s.get("deadline", "1h") for d in "123456789"), at=("deadline",)),
    ),
)

_METRICS_OF: Final = {
    "Classification": ("accuracy", "balanced_accuracy", "f1", "roc_auc", "log_loss", "brier"),
    "Regression": ("rmse", "mae", "r2"),
    "Ranking": ("ndcg",),
}


def _metrics_fit(task: str, metrics: tuple[str, ...]) -> Rule:
    return Rule(
        message=f"task {task} has the metrics {', '.join(metrics)}; choose among these, or correct task",
        cel=f"!has(self.task) || self.task != '{task}' || !has(self.metrics) || "
        f"self.metrics.all(m, m.name in {list(metrics)})",
        broken=lambda s: (
            ("metrics", index, "name")
            for index, metric in enumerate(s.get("metrics", ()))
            if s.get("task") == task and metric["name"] not in metrics
        ),
        related=(("task",),),
    )


VALIDATION: Final = (
    Rule(
        message="metrics need dataset.label: without labels none can be computed; state label, or remove metrics",
        cel="!has(self.metrics) || size(self.metrics) == 0 || has(self.dataset.label)",
        broken=lambda s: _either(breaks=bool(s.get("metrics")) and "label" not in s["dataset"], at=("metrics",)),
    ),
    Rule(
        message="tasks Embedding and Generic have no metrics; remove metrics, or correct task",
        cel="!has(self.task) || !(self.task in ['Embedding', 'Generic']) || !has(self.metrics) || "
        "size(self.metrics) == 0",
        broken=lambda s: _either(
            breaks=s.get("task") in {"Embedding", "Generic"} and bool(s.get("metrics")), at=("metrics",)
        ),
        related=(("task",),),
    ),
    *(_metrics_fit(task, metrics) for task, metrics in _METRICS_OF.items()),
    _distinct("metrics", "name", "metric"),
    Rule(
        message="topK above 1 is a decision of Classification and Ranking; remove topK, or correct task",
        cel="!has(self.task) || self.task in ['Classification', 'Ranking'] || !has(self.decisions) || "
        "!has(self.decisions.topK) || self.decisions.topK == 1",
        broken=lambda s: _either(
            breaks=s.get("task", "Ranking") not in {"Classification", "Ranking"}
            and s.get("decisions", {}).get("topK", 1) > 1,
            at=("decisions", "topK"),
        ),
        related=(("task",),),
    ),
    Rule(
        message="groupBy names the list of a row and belongs to task Ranking; remove groupBy, or correct task",
        cel="!has(self.task) || self.task == 'Ranking' || !has(self.decisions) || !has(self.decisions.groupBy)",
        broken=lambda s: _either(
            breaks=s.get("task", "Ranking") != "Ranking" and "groupBy" in s.get("decisions", {}),
            at=("decisions", "groupBy"),
        ),
        related=(("task",),),
    ),
    Rule(
        message="thresholds of task Classification are probabilities above 0 and below 1, e.g. '0.5'",
        cel="!has(self.task) || self.task != 'Classification' || !has(self.decisions) || "
        "!has(self.decisions.thresholds) || "
        "self.decisions.thresholds.all(t, double(t) > 0.0 && double(t) < 1.0)",
        broken=lambda s: (
            ("decisions", "thresholds", index)
            for index, threshold in enumerate(s.get("decisions", {}).get("thresholds", ()))
            if s.get("task") == "Classification" and not 0 < float(threshold) < 1
        ),
        related=(("task",),),
    ),
)


def _equivalence(s: Stated) -> str:
    target = s["target"]
    return str(target.get("candidate", target).get("equivalence", "Numeric"))


_METRIC_CEL: Final = (
    "(has(self.target.candidate) ? self.target.candidate.equivalence : "
    "(has(self.target.equivalence) ? self.target.equivalence : 'Numeric')) != 'Metric'"
)

SPEC: Final = (
    Rule(
        message="equivalence Metric needs validation.dataset.label: without labels no metric can be computed",
        cel=f"{_METRIC_CEL} || has(self.validation.dataset.label)",
        broken=lambda s: _either(
            breaks=_equivalence(s) == "Metric" and "label" not in s["validation"]["dataset"],
            at=("validation", "dataset"),
        ),
    ),
    Rule(
        message="equivalence Metric needs validation.metrics, e.g. metrics: [{name: accuracy, maxDrop: '0.005'}]",
        cel=f"{_METRIC_CEL} || (has(self.validation.metrics) && size(self.validation.metrics) > 0)",
        broken=lambda s: _either(
            breaks=_equivalence(s) == "Metric" and not s["validation"].get("metrics"), at=("validation",)
        ),
    ),
    Rule(
        message="equivalence Metric needs maxDrop, the drop of this metric that you accept, e.g. maxDrop: '0.005'",
        cel=f"{_METRIC_CEL} || !has(self.validation.metrics) || self.validation.metrics.all(m, has(m.maxDrop))",
        broken=lambda s: (
            ("validation", "metrics", index)
            for index, metric in enumerate(s["validation"].get("metrics", ()))
            if _equivalence(s) == "Metric" and "maxDrop" not in metric
        ),
    ),
    Rule(
        message="validation.numeric.outputs names an output that source.outputs lacks; use a name that stands there",
        cel="!has(self.source.outputs) || !has(self.validation.numeric) || !has(self.validation.numeric.outputs) || "
        "self.validation.numeric.outputs.all(t, self.source.outputs.exists(o, o.name == t.name))",
        broken=lambda s: (
            ("validation", "numeric", "outputs", index, "name")
            for index, tolerance in enumerate(s["validation"].get("numeric", {}).get("outputs", ()))
            if "outputs" in s["source"]
            and tolerance["name"] not in {output["name"] for output in s["source"]["outputs"]}
        ),
        related=(("source", "outputs"),),
    ),
)
