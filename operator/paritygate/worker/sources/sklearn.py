"""SKLearn: estimators and pipelines in pickle, joblib or skops files, alone or in a folder with their code."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Final

from paritygate.agent.frameworks import sklearn as agent_sklearn
from paritygate.api.artifacts import Assessment
from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.storage.digests import digest_of_path
from paritygate.worker.pickles import named, read_pickle
from paritygate.worker.rules.pickled import estimators, framework_versions, pickle_findings, unknown_imports
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.targets.onnx_graph import GraphBuilder

EXTRA = "sklearn"
_ENDINGS: Final = agent_sklearn.ENDINGS


def assess(model: Path, source: Source) -> Assessment:
    """What the file says. ConfigurationError: it is truncated, of another format, or holds no estimator.

    Foreign code may be an estimator by what it can do, which only loading tells.
    """
    file = model_file(model)
    contents = read_pickle(file)
    classes = estimators(contents)
    custom = unknown_imports(contents)
    if not classes and not custom:
        raise ConfigurationError(
            "WrongFormat",
            f"source.uri: {file.name} holds {named(contents.root)} and no estimator of scikit-learn; save the fitted "
            "estimator or pipeline itself",
        )
    versions = framework_versions(contents)
    return Assessment(
        format=SourceFormat.SKLEARN,
        framework="scikit-learn",
        framework_version=versions.get("scikit-learn"),
        packages=versions,
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=contents.parameters(),
        estimators=classes,
        imports=contents.imports,
        custom_code=custom,
        findings=pickle_findings(contents, installed=_capturing(source)),
    )


def convert(conversion: Conversion) -> Converted:
    """Writes the model in double precision. ConfigurationError: a step cannot be converted, and which."""
    from paritygate.worker.sources._sklearn.legacy import load  # noqa: PLC0415 - assessing loads no scikit-learn
    from paritygate.worker.sources._sklearn.outputs import write_inputs, write_outputs  # noqa: PLC0415
    from paritygate.worker.sources._sklearn.writer import Writer  # noqa: PLC0415

    loaded = load(model_file(conversion.model))
    w = Writer(GraphBuilder(conversion.opset), findings=list(loaded.findings), written_by=loaded.written_by)
    signature = conversion.capture.signature
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            table = write_inputs(w, loaded.estimator, signature)
            write_outputs(w, loaded.estimator, table, signature)
        except (AttributeError, KeyError) as error:
            # A model of another version lacks what the translation reads; paths say where we were.
            raise w.unsupported(
                f"its fitted state lacks {error}; it may be of another version, or not fitted"
            ) from error
    conversion.destination.write_bytes(w.builder.model("model").SerializeToString(deterministic=True))
    return Converted(
        converter={name: version(name) for name in ("onnx", "paritygate", "scikit-learn", "skl2onnx")},
        findings=tuple(w.findings),
        categories=w.categories,
        steps=w.steps,
    )


def model_file(model: Path) -> Path:
    """The model's file, alone or the only one of its kind in a folder."""
    if not model.is_dir():
        return model
    found = sorted(path for path in model.iterdir() if path.name.lower().endswith(_ENDINGS))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigurationError(
            "ModelUnreadable",
            f"source.uri: folder {model.name} must hold exactly one {' or '.join(_ENDINGS)} file, found {names}",
        )
    return found[0]


def _capturing(source: Source) -> dict[str, str]:
    """Versions that will answer for the source, where they are known: ours, unless it has an environment of its own."""
    if source.environment is not None or source.capture is not None:
        return {}
    return {"scikit-learn": version("scikit-learn")}
