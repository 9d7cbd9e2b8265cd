"""What a candidate must offer on the wire: names, datatypes, shapes and roles of outputs; and the task."""

from collections import OrderedDict

import numpy as np

from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.model import LABEL, PREDICTION, PROBABILITIES, SCORES, TENSOR, TRANSFORMED
from paritygate.agent.mapping import listed
from paritygate.agent.wire import datatype_of, is_ragged, ragged, shape_of

_MOST_CLASSES = 1000


def outputs_of(model, answers, request, annotations):
    """`OutputSignature` of each output as a dict, in the model's order, with what source.outputs states."""
    outputs = []
    for name, column in answers.items():
        role, classes = model.role(name)
        outputs.append(
            OrderedDict(
                name=name,
                datatype=_datatype(model, column, role),
                shape=[int(size) for size in shape_of(column)],
                role=role,
                classes=list(classes) if classes is not None else None,
            )
        )
    _state_scores(outputs, answers, request, annotations)
    return _stated(outputs, request.get("outputs"))


def task_of(outputs, answers, annotations, request):
    """The task where the model does not say it: from the roles and the label column."""
    roles = {output["role"] for output in outputs}
    if roles & {LABEL, PROBABILITIES, SCORES}:
        return "Classification"
    label = annotations.get(request.get("label"))
    first = next(iter(answers.values()))
    if label is None or is_ragged(first) or getattr(label, "dtype", np.dtype(object)).kind != "f":
        return "Generic"
    return "Regression" if first.ndim == 1 or first.shape[1:] == (1,) else "Generic"


def renamed(answers, outputs):
    """Answers under the names that they have on the wire."""
    return OrderedDict((output["name"], column) for output, column in zip(outputs, answers.values()))


def aligned(found, answers):
    """Answers to single rows (None = refused) as columns like `answers`, with zeros or "" where refused."""
    columns = OrderedDict()
    for name, like in answers.items():
        rows = [None if one is None else np.asarray(one[name])[0] for one in found]
        sample = like[0] if is_ragged(like) else like[:1].reshape(like.shape[1:])
        blank = "" if like.dtype.kind in "OUS" and not is_ragged(like) else np.zeros_like(np.asarray(sample))
        rows = [blank if row is None else row for row in rows]
        if is_ragged(like) or len({np.shape(row) for row in rows}) > 1:
            columns[name] = ragged([np.asarray(row) for row in rows])
            continue
        column = np.empty((len(rows),) + like.shape[1:], dtype=object if like.dtype.kind in "OUS" else like.dtype)
        for position, row in enumerate(rows):
            column[position] = row
        columns[name] = column
    return columns


def _datatype(model, column, role):
    natural = datatype_of(column)
    if not model.narrow_outputs:
        return natural
    if role == LABEL:
        integral = natural.startswith("FP") and bool(np.all(column == np.floor(column)))
        if natural in ("BYTES", "BOOL"):
            return natural
        return "INT64" if integral or "INT" in natural else "FP32"
    if role == PREDICTION and "INT" in natural and model.task() != "Regression":
        return "INT64"
    if role in (PREDICTION, TRANSFORMED, PROBABILITIES, SCORES) and natural != "BYTES":
        return "FP32"
    return natural


def _state_scores(outputs, answers, request, annotations):
    """Gives a tensor the role Scores where the task is, or the label says, classification over its last axis."""
    if len(outputs) != 1 or outputs[0]["role"] != TENSOR:
        return
    column = next(iter(answers.values()))
    if is_ragged(column) or column.ndim != 2 or column.dtype.kind != "f":
        return
    classes = column.shape[1]
    label = annotations.get(request.get("label"))
    fits = (
        isinstance(label, np.ndarray)
        and label.dtype.kind in "iu"
        and 2 <= classes <= _MOST_CLASSES
        and bool(np.all((label >= 0) & (label < classes)))
    )
    if request.get("task") == "Classification" or (request.get("task") is None and fits):
        outputs[0]["role"] = SCORES
        outputs[0]["classes"] = list(range(classes)) if fits or label is None else None


def _stated(outputs, stated):
    if not stated:
        return outputs
    if len(stated) != len(outputs):
        raise AgentError(
            "OutputsMismatch",
            "source.outputs states %d outputs (%s); the model gives %d (%s). State one per output, in this order, or "
            "narrow the model to one with source.call"
            % (len(stated), listed(o["name"] for o in stated), len(outputs), listed(o["name"] for o in outputs)),
        )
    by_name = {one["name"]: one for one in stated}
    match = [by_name[o["name"]] for o in outputs] if set(by_name) == {o["name"] for o in outputs} else stated
    for output, one in zip(outputs, match):
        output["name"] = one["name"]
        if one.get("datatype"):
            if (one["datatype"] == "BYTES") != (output["datatype"] == "BYTES"):
                raise AgentError(
                    "OutputsMismatch",
                    "source.outputs states %s for %r, and the source answers %s; they cannot be converted"
                    % (one["datatype"], one["name"], output["datatype"]),
                )
            output["datatype"] = one["datatype"]
        if one.get("shape"):
            _check_shape(output, list(one["shape"]))
    return outputs


def _check_shape(output, shape):
    own = output["shape"]
    if len(own) != len(shape) or not all(-1 in (a, b) or a == b for a, b in zip(own, shape)):
        raise AgentError(
            "OutputsMismatch",
            "source.outputs states shape %s for %r, and the source answers %s (-1 = any size)"
            % (shape, output["name"], own),
        )
    output["shape"] = shape
