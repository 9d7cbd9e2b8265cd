"""Loads a model for conversion, also where an older scikit-learn wrote it and this one's own unpickling refuses it.

What changed since is put right while the file is read: nodes of trees gained a field and class counts became shares
(1.3), losses of gradient boosting moved (1.4), and compiled losses lost their old constructors. Nothing is trusted:
the answers captured with the version that wrote the file judge the result.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from joblib.numpy_pickle import NumpyUnpickler

from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import pickles as agent_pickles
from paritygate.agent.frameworks import sklearn as agent_sklearn
from paritygate.api.report import Finding
from paritygate.errors import ConfigurationError
from paritygate.worker import findings
from paritygate.worker.pickles import decompressed, read_pickle
from paritygate.worker.rules.pickled import framework_versions

_COUNTED: Final = 1e-9
"""Class shares add up to 1 within this; anything else are counts."""


@dataclass(frozen=True)
class Loaded:
    """A model ready for conversion."""

    estimator: Any
    written_by: str | None
    """Version of scikit-learn that the file records."""
    findings: tuple[Finding, ...]


def load(path: Path) -> Loaded:
    """The estimator, with what is known to have changed put right.

    ConfigurationError (ModelUnloadable): it cannot be loaded here.
    """
    recorded = framework_versions(read_pickle(path)).get("scikit-learn")
    same = recorded is None or recorded == version("scikit-learn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            estimator, upgraded = agent_sklearn.load(str(path)), False
        except AgentError as refused:
            if same:
                raise ConfigurationError("ModelUnloadable", f"source.uri: {refused}") from refused
            try:
                estimator, upgraded = _load_old(path), True
            except Exception as error:
                raise ConfigurationError("ModelUnloadable", _advice(path, str(recorded), refused)) from error
        upgraded = (not same and _repair(estimator)) or upgraded
    message = f"{path.name}, written by scikit-learn {recorded}, was brought to {version('scikit-learn')}"
    return Loaded(estimator, recorded, (findings.LEGACY_UPGRADED.found(message),) if upgraded else ())


def _repair(estimator: Any) -> bool:
    """Fills in attributes that were properties, or did not exist, when the model was written."""
    repaired = False
    for part in agent_sklearn.estimators_of(estimator):
        binarizer = vars(part).get("_label_binarizer")
        if binarizer is not None and "classes_" not in vars(part) and hasattr(binarizer, "classes_"):
            part.classes_ = binarizer.classes_
            repaired = True
    return repaired


def _advice(path: Path, recorded: str, error: AgentError) -> str:
    return (
        f"source.uri: {path.name} was written by scikit-learn {recorded} and cannot be loaded by "
        f"{version('scikit-learn')}, which converts it ({error}). Its answers can be captured with the version that "
        f"wrote it (source.environment.virtualenv), but the conversion needs the model: load it there and fit it again "
        f"with a newer scikit-learn, or convert it there and bring the artefact as target.candidate"
    )


def _load_old(path: Path) -> Any:
    with agent_pickles.importable(str(path.resolve().parent)), path.open("rb") as file:
        estimator = _Upgrader(str(path), decompressed(file), ensure_native_byte_order=True).load()
    for part in agent_sklearn.estimators_of(estimator):
        if isinstance(vars(part).get("_loss"), _OldLoss):
            part._loss = part._loss.upgraded()  # noqa: SLF001
    return estimator


class _OldTree:
    """A tree with what an older version knew of it. Read by the converter alone; it does not predict."""

    def __init__(self, features: int, classes: Any, outputs: int) -> None:
        self.n_features, self.n_classes, self.n_outputs = features, np.asarray(classes), outputs

    def __setstate__(self, state: dict[str, Any]) -> None:
        nodes, values = state["nodes"], np.asarray(state["values"])
        names = {
            "left_child": "children_left", "right_child": "children_right", "feature": "feature",
            "threshold": "threshold", "missing_go_to_left": "missing_go_to_left",
        }  # fmt: skip
        for stored, attribute in names.items():
            if stored in (nodes.dtype.names or ()):
                setattr(self, attribute, np.ascontiguousarray(nodes[stored]))
        self.node_count, self.max_depth = int(state["node_count"]), int(state["max_depth"])
        self.value = self._shares(values) if self.n_classes.max() > 1 else values

    def _shares(self, values: Any) -> Any:
        total = values.sum(axis=2, keepdims=True)
        total[total == 0.0] = 1.0
        return np.where(np.abs(total - 1.0) > _COUNTED, values / total, values)


class _Lost:
    """Something that newer versions lack and that no conversion reads, such as a scorer or a search tree."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """Takes whatever the file gives."""
        return object.__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Forgets the state."""


class _OldLoss:
    """A loss of gradient boosting before 1.4."""

    name = ""

    def __init__(self, *_: Any) -> None:
        pass

    def upgraded(self) -> Any:
        """The loss that took its place."""
        from sklearn import _loss  # noqa: PLC0415 - a private module, touched only here

        state = vars(self)
        made: dict[str, Callable[[], Any]] = {
            "BinomialDeviance": _loss.HalfBinomialLoss,
            "MultinomialDeviance": lambda: _loss.HalfMultinomialLoss(n_classes=int(state["K"])),
            "ExponentialLoss": _loss.loss.ExponentialLoss,
            "LeastSquaresError": _loss.HalfSquaredError,
            "LeastAbsoluteError": _loss.AbsoluteError,
            "HuberLossFunction": lambda: _loss.HuberLoss(quantile=float(state.get("alpha", 0.9))),
            "QuantileLossFunction": lambda: _loss.PinballLoss(quantile=float(state.get("alpha", 0.9))),
        }
        return made[self.name]()


def _old_compiled_loss(name: str) -> Callable[..., Any]:
    """The constructor that Cython left out of newer versions: called with a class, a checksum and a state."""
    from sklearn._loss import _loss  # noqa: PLC0415 - a private module, touched only here

    def make(_: Any, __: Any, state: Any = None) -> Any:
        numbers = [float(part) for part in state or () if isinstance(part, (int, float))]
        return getattr(_loss, name)(*numbers)

    return make


class _Upgrader(NumpyUnpickler):  # type: ignore[misc]
    """joblib's unpickler, with the classes above in place of those that newer versions lack."""

    def find_class(self, module: str, name: str) -> Any:
        """What the file imports, or what took its place."""
        if (module, name) == ("sklearn.tree._tree", "Tree"):
            return _OldTree
        if module == "sklearn.ensemble._gb_losses":
            return type(name, (_OldLoss,), {"name": name})
        prefix = "__pyx_unpickle_"
        if module.startswith("sklearn._loss") and name.startswith(prefix):
            return _old_compiled_loss(name.removeprefix(prefix))
        if module.startswith("sklearn.neighbors._") and name.startswith(("KDTree", "BallTree", "newObj")):
            return _Lost
        try:
            return pickle._Unpickler.find_class(self, module, name)  # noqa: SLF001
        except (AttributeError, ImportError):
            if module.partition(".")[0] == "sklearn":
                return _Lost
            raise
