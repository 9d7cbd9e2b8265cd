"""What a pickle's contents say: estimators, versions, foreign code, and findings about scikit-learn models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from paritygate.api.report import Finding
from paritygate.worker import findings
from paritygate.worker.pickle_machine import Symbol
from paritygate.worker.pickles import STANDARD_LIBRARY, Contents, walk

KNOWN_PACKAGES: Final = frozenset(
    {"sklearn", "numpy", "scipy", "pandas", "joblib", "lightgbm", "xgboost", "catboost", "skops", "threadpoolctl"}
)
"""Packages whose names in a pickle are not the user's own code."""
_DANGEROUS_MODULES: Final = frozenset(
    {"os", "posix", "nt", "subprocess", "pty", "socket", "shutil", "sys", "runpy", "importlib", "ctypes", "code",
     "commands", "webbrowser", "multiprocessing", "asyncio", "pip", "urllib", "http", "ftplib", "telnetlib"}
)  # fmt: skip
_DANGEROUS_NAMES: Final = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in ("eval", "exec", "execfile", "compile", "open", "__import__", "input", "breakpoint", "globals")
)
_BOOSTERS: Final = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
_FORESTS: Final = ("RandomForestClassifier", "ExtraTreesClassifier")
_SCALERS: Final = ("StandardScaler", "RobustScaler", "MinMaxScaler")
_VECTORIZERS: Final = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
_ENCODERS: Final = ("OneHotEncoder", "OrdinalEncoder")


def estimators(contents: Contents) -> tuple[str, ...]:
    """Classes of the model's parts, outermost first, each once."""
    found = (s.path for s in contents.symbols() if isinstance(s.state, (dict, tuple)) and _is_estimator(s))
    return tuple(dict.fromkeys(found))


def framework_versions(contents: Contents) -> dict[str, str]:
    """Versions that the file records, by distribution; numpy's only as far as its module names tell."""
    versions: dict[str, str] = {}
    for symbol in contents.symbols():
        recorded = symbol.attributes().get("_sklearn_version")
        if isinstance(recorded, str):
            versions.setdefault("scikit-learn", recorded)
    modules = {name.rpartition(".")[0] for name in contents.imports}
    if any(module.startswith("numpy._core") for module in modules):
        versions["numpy"] = ">=2"
    elif any(module.startswith("numpy.core") for module in modules):
        versions["numpy"] = "<2"
    return versions


def unknown_imports(contents: Contents) -> tuple[str, ...]:
    """Imports that belong to no known package and not to Python."""
    known = (KNOWN_PACKAGES | STANDARD_LIBRARY | {"__builtin__", "copy_reg"}) - {"__main__"}
    return tuple(name for name in contents.imports if name.partition(".")[0] not in known)


def pickle_findings(contents: Contents, installed: Mapping[str, str]) -> tuple[Finding, ...]:
    """Everything that the rules of this module find, in a fixed order."""
    found = [rule(contents) for rule in RULES]
    found.append(version_differs(contents, installed))
    return tuple(finding for finding in found if finding is not None)


def suspicious_import(contents: Contents) -> Finding | None:
    """Imports that no model needs."""
    named = [
        name for name in contents.imports
        if name in _DANGEROUS_NAMES or name.partition(".")[0] in _DANGEROUS_MODULES
    ]  # fmt: skip
    return findings.PICKLE_SUSPICIOUS_IMPORT.found(f"the file imports {', '.join(named)}") if named else None


def custom_code(contents: Contents) -> Finding | None:
    """Code that is not in the file and in no known package."""
    named = unknown_imports(contents)
    return findings.CUSTOM_CODE.found(f"the file needs {', '.join(named)}") if named else None


def version_differs(contents: Contents, installed: Mapping[str, str]) -> Finding | None:
    """The file's framework is of another minor version than the one installed here."""
    for name, recorded in framework_versions(contents).items():
        here = installed.get(name)
        if here is not None and recorded.split(".")[:2] != here.split(".")[:2]:
            return findings.VERSION_DIFFERS.found(f"written by {name} {recorded}; {name} {here} is installed here")
    return None


def function_transformer(contents: Contents) -> Finding | None:
    """FunctionTransformers with a function."""
    boosters = [symbol.attributes().get("_preprocessor") for symbol in contents.instances(*_BOOSTERS)]
    own = {id(value) for booster in boosters for value in walk(booster)}  # scikit-learn's, not the user's
    named = []
    for symbol in contents.instances("FunctionTransformer"):
        function = symbol.attributes().get("func")
        if function is not None and id(symbol) not in own:
            named.append(getattr(function, "path", None) or _called(function))
    return findings.FUNCTION_TRANSFORMER.found(f"it applies {', '.join(named)}") if named else None


def hgb_categorical(contents: Contents) -> Finding | None:
    """Histogram gradient boosting with categorical features."""
    found = [s for s in contents.instances(*_BOOSTERS) if s.attributes().get("is_categorical_") is not None]
    if not found:
        return None
    names = " and ".join(dict.fromkeys(symbol.path.rpartition(".")[2] for symbol in found))
    return findings.HGB_CATEGORICAL.found(f"{names} was fitted with categorical_features")


def forest_ties(contents: Contents) -> Finding | None:
    """Forests that classify."""
    # An ensemble holds the forest that it was given beside the fitted ones.
    counts = sorted({count for symbol in contents.instances(*_FORESTS) if (count := len(_members(symbol)))})
    if not counts:
        return None
    return findings.FOREST_TIES.found(f"forests of {' and '.join(map(str, counts))} trees vote on classes")


def scaler_cancellation(contents: Contents) -> Finding | None:
    """Scalers that subtract."""
    named = sorted({symbol.path.rpartition(".")[2] for symbol in contents.instances(*_SCALERS)})
    return findings.SCALER_CANCELLATION.found(f"values are scaled by {', '.join(named)}") if named else None


def text_tokenizer(contents: Contents) -> Finding | None:
    """Text vectorisers."""
    named = sorted({symbol.path.rpartition(".")[2] for symbol in contents.instances(*_VECTORIZERS)})
    return findings.TEXT_TOKENIZER.found(f"texts are cut into words by {', '.join(named)}") if named else None


def unknown_categories(contents: Contents) -> Finding | None:
    """Encoders that refuse what they have not seen."""
    strict = [s for s in contents.instances(*_ENCODERS) if s.attributes().get("handle_unknown", "error") == "error"]
    if not strict:
        return None
    named = sorted({symbol.path.rpartition(".")[2] for symbol in strict})
    return findings.UNKNOWN_CATEGORIES.found(f"{', '.join(named)} with handle_unknown='error'")


RULES: Final[tuple[Callable[[Contents], Finding | None], ...]] = (
    suspicious_import, custom_code, function_transformer, hgb_categorical, forest_ties, scaler_cancellation,
    text_tokenizer, unknown_categories,
)  # fmt: skip


def _is_estimator(symbol: Symbol) -> bool:
    """Whether an object looks like a fitted estimator: it has a version, or attributes that end in an underscore."""
    attributes = symbol.attributes()
    return "_sklearn_version" in attributes or (
        any(isinstance(name, str) and name.endswith("_") and not name.startswith("_") for name in attributes)
    )


def _members(symbol: Symbol) -> list[object]:
    members = symbol.attributes().get("estimators_")
    return [
        part
        for part in walk(members)
        if isinstance(part, Symbol) and _is_estimator(part) and "tree_" in part.attributes()
    ]


def _called(function: object) -> str:
    return function.path if isinstance(function, Symbol) else f"a {type(function).__name__}"
