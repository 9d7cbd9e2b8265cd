"""Writes a whole model: wire inputs in, the outputs of the signature out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paritygate.api.report import OutputRole, OutputSignature, Signature
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.sources._sklearn import compose, encode, ensembles, isolation, kernels, linear, scale, text
from paritygate.worker.sources._sklearn.dispatch import classify, regress, transform, unwrapped
from paritygate.worker.sources._sklearn.writer import INT64, Block, Classes, Table, Writer
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES

TRANSLATION_MODULES = (compose, encode, ensembles, isolation, kernels, linear, scale, text)
"""Imported for what they register."""


def write_inputs(w: Writer, estimator: Any, signature: Signature) -> Table:
    """The signature's inputs as the table that the estimator takes, columns in the order in which it was fitted."""
    blocks = []
    for tensor in signature.inputs:
        w.builder.input(tensor.name, tensor.datatype, tensor.shape)
        name = w.upright(tensor.name) if len(tensor.shape) == 1 else tensor.name
        width = 1 if len(tensor.shape) == 1 else tensor.shape[-1]
        if width < 0:
            width = int(getattr(estimator, "n_features_in_", -1))
        blocks.append(Block(name, tensor.datatype, width, tensor.name))
    expected = getattr(estimator, "feature_names_in_", None)
    if expected is not None and len(blocks) > 1:
        by_name = {block.origin: block for block in blocks}
        missing = [str(name) for name in expected if str(name) not in by_name]
        if missing:
            raise ConfigurationError(
                "SignatureMismatch",
                f"source.inputs: the model was fitted on columns {', '.join(missing)}, which are not among the inputs "
                f"{', '.join(map(str, by_name))}; name the inputs as the columns",
            )
        blocks = [by_name[str(name)] for name in expected]
    return Table(tuple(blocks))


def write_outputs(w: Writer, estimator: Any, table: Table, signature: Signature) -> None:
    """Adds what the signature's outputs ask for, in its order."""
    roles = {output.role for output in signature.outputs}
    if roles & {OutputRole.LABEL, OutputRole.PROBABILITIES, OutputRole.SCORES}:
        _write_classes(w, estimator, classify(w, estimator, table), signature.outputs)
        return
    for output in signature.outputs:
        if output.role is OutputRole.TRANSFORMED:
            made = transform(w, estimator, table)
            tensor, datatype, shape = w.dense(made), Datatype.FP64, (-1, made.width)
        else:
            tensor = regress(w, estimator, table)
            targets = 1 if len(output.shape) == 1 else output.shape[-1]
            datatype, shape = Datatype.FP64, (-1, targets)
            tensor = w.double(tensor)
        w.builder.output(output.name, tensor, datatype, shape)


def _write_classes(w: Writer, estimator: Any, answers: Sequence[Classes], outputs: Sequence[OutputSignature]) -> None:
    classes = _classes_of(estimator, len(answers))
    probabilities = iter(zip(answers, classes, strict=True))
    for output in outputs:
        if output.role is OutputRole.LABEL:
            _write_labels(w, answers, classes, output)
            continue
        if output.role is OutputRole.PROBABILITIES:
            answer, of_target = next(probabilities)
            tensor = answer.probabilities
        else:
            answer, of_target = answers[0], classes[0]
            tensor = answer.scores
        if tensor is None:
            raise w.unsupported(f"output {output.name} ({output.role}) is not known for it", unwrapped(estimator))
        binary_scores = output.role is OutputRole.SCORES and len(of_target) == 2  # noqa: PLR2004
        width = output.shape[-1] if len(output.shape) > 1 else len(of_target)
        w.builder.output(output.name, tensor, Datatype.FP64, (-1,) if binary_scores else (-1, width))


def _write_labels(w: Writer, answers: Sequence[Classes], classes: Sequence[Any], output: OutputSignature) -> None:
    parts = []
    for answer, values in zip(answers, classes, strict=True):
        label = w.op("Gather", _label_values(w, values, output), answer.label, axis=0)
        parts.append(label if len(answers) == 1 else w.upright(label))
    shape = (-1,) if len(answers) == 1 else (-1, len(answers))
    w.builder.output(output.name, w.beside(*parts), output.datatype, shape)


def _label_values(w: Writer, classes: Any, output: OutputSignature) -> str:
    if output.datatype is Datatype.BYTES:
        return w.builder.constant(np.array([str(value) for value in classes], dtype=object))
    values = np.asarray(classes)
    constant = w.operand(values.astype(np.int64) if values.dtype.kind in "biu" else values.astype(np.float64))
    wanted = ELEMENT_TYPES[output.datatype]
    return constant if wanted == INT64 and values.dtype.kind in "biu" else w.builder.cast(constant, wanted)


def _classes_of(estimator: Any, targets: int) -> list[Any]:
    classes = getattr(estimator, "classes_", None)
    if targets > 1:
        return list(classes) if classes is not None else [member.classes_ for member in estimator.estimators_]
    if isinstance(classes, list):
        return classes
    # Detectors of outliers have scores and no classes: what they predict is -1 or 1.
    return [np.asarray([-1, 1] if classes is None else classes)]
