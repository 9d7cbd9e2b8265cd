"""What the converters of gradient boosting libraries share: inputs as a matrix, answers as the signature's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from paritygate.api.report import OutputRole, OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES, ML, GraphBuilder
from paritygate.worker.targets.onnx_trees import ML_OPSET

Categories = tuple[Any, ...]
"""The categories of a column, text or numbers, in the order of their codes."""
_LABEL_TYPES: Final = {Datatype.BYTES: object, Datatype.BOOL: np.bool_}


@dataclass(frozen=True)
class Answers:
    """Tensors that a booster can answer with; None = it cannot."""

    label: str | None = None
    """(rows,) int64: index into the classes."""
    probabilities: str | None = None
    """(rows, classes)."""
    scores: str | None = None
    """(rows,) or (rows, targets), before the link function."""
    prediction: str | None = None
    """(rows,) or (rows, targets)."""


def feature_matrix(
    builder: GraphBuilder, signature: Signature, features: int, encoders: Mapping[int, Categories]
) -> str:
    """Declares the signature's inputs; returns (rows, features) double with categories as codes, NaN where unseen.

    ConfigurationError: the inputs do not make up the columns that the model was fitted on.
    """
    inputs = signature.inputs
    tensors = [builder.input(tensor.name, tensor.datatype, tensor.shape) for tensor in inputs]
    if len(inputs) == 1 and inputs[0].shape[1:] == (features,) and inputs[0].datatype is not Datatype.BYTES:
        # The libraries take a matrix as it is, so categories are codes in it.
        return builder.cast(tensors[0], onnx.TensorProto.DOUBLE)
    if len(inputs) != features:
        raise ConfigurationError(
            "SignatureMismatch",
            f"the model takes {features} columns and the captured signature has {len(inputs)} inputs: "
            f"{', '.join(tensor.name for tensor in inputs)}; capture it again with its own columns",
        )
    parts = [
        _encoded(builder, tensor, declared, encoders.get(index))
        for index, (tensor, declared) in enumerate(zip(tensors, inputs, strict=True))
    ]
    return builder.add("Concat", *parts, axis=1)


def write_outputs(builder: GraphBuilder, signature: Signature, answers: Answers) -> None:
    """Offers the signature's outputs. ConfigurationError: one of them is nothing that this model answers."""
    classes = next((output.classes for output in signature.outputs if output.classes), None)
    for output in signature.outputs:
        tensor = _answer(output, answers)
        if tensor is None:
            raise ConfigurationError(
                "ConversionUnsupported",
                f"output {output.name} ({output.role}) is nothing that this model answers; state source.call",
            )
        if output.role is OutputRole.LABEL:
            tensor = _labels(builder, tensor, classes, output)
        else:
            shape = builder.constant(
                [0 if size == -1 and axis == 0 else size for axis, size in enumerate(output.shape)]
            )
            tensor = builder.add("Reshape", builder.cast(tensor, ELEMENT_TYPES[output.datatype]), shape)
        builder.output(output.name, tensor, output.datatype, output.shape)


def _answer(output: OutputSignature, answers: Answers) -> str | None:
    return {
        OutputRole.LABEL: answers.label,
        OutputRole.PROBABILITIES: answers.probabilities,
        OutputRole.SCORES: answers.scores,
        OutputRole.PREDICTION: answers.prediction,
        OutputRole.TENSOR: answers.prediction,
    }.get(output.role)


def _labels(builder: GraphBuilder, index: str, classes: Sequence[Any] | None, output: OutputSignature) -> str:
    if classes is None:
        return builder.cast(index, ELEMENT_TYPES[output.datatype])
    dtype = _LABEL_TYPES.get(output.datatype)
    values = np.asarray([str(value) for value in classes] if dtype is object else classes, dtype=dtype)
    found = builder.add("Gather", builder.constant(values), index, axis=0)
    return found if dtype is not None else builder.cast(found, ELEMENT_TYPES[output.datatype])


def _encoded(builder: GraphBuilder, tensor: str, declared: TensorSignature, categories: Categories | None) -> str:
    if categories is not None:
        return _codes(builder, tensor, categories, declared.datatype)
    if declared.datatype is Datatype.BYTES:
        raise ConfigurationError(
            "SignatureMismatch",
            f"input {declared.name} is text, and the model file knows no categories of that column; "
            f"bring the column as the numbers that the model was fitted on",
        )
    return builder.cast(tensor, onnx.TensorProto.DOUBLE)


def _codes(builder: GraphBuilder, tensor: str, categories: Categories, datatype: Datatype) -> str:
    if datatype is Datatype.BYTES:
        texts = [str(value).encode() for value in categories]
        keys = helper.make_tensor("keys", onnx.TensorProto.STRING, [len(texts)], texts)
    elif any(isinstance(value, str) for value in categories):
        raise ConfigurationError(
            "SignatureMismatch",
            f"the categories {categories[0]!r}, … are text and the input is {datatype}; state it as BYTES",
        )
    else:
        keys = numpy_helper.from_array(np.asarray(categories, dtype=np.float64))
        tensor = builder.cast(tensor, onnx.TensorProto.DOUBLE)
    builder.require(ML, ML_OPSET)
    return builder.add(
        "LabelEncoder",
        tensor,
        domain=ML,
        keys_tensor=keys,
        values_tensor=numpy_helper.from_array(np.arange(len(categories), dtype=np.float64)),
        default_tensor=numpy_helper.from_array(np.asarray([np.nan])),
    )
