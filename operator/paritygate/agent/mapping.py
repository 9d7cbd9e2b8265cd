"""How a dataset maps to a model's inputs (API.md, "How a dataset maps to a model")."""

from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.model import FRAME, MATRIX, TENSORS
from paritygate.agent.wire import Input, is_ragged, numbers


def annotations(table, request):
    """Label, group, slice and group-by columns of the dataset. AgentError names one that is missing."""
    named = [("validation.dataset.label", request.get("label")), ("validation.dataset.group", request.get("group"))]
    named += [("validation.dataset.slices", column) for column in request.get("slices") or ()]
    named.append(("validation.decisions.groupBy", request.get("groupBy")))
    found = OrderedDict()
    for field, column in named:
        if column is None:
            continue
        if column not in table:
            raise AgentError(
                "DatasetMismatch",
                "%s is %r, and the dataset has no such column; it has %s" % (field, column, listed(table)),
            )
        found[column] = table[column]
    return found


def inputs_of(model, table, request):
    """The model's inputs with the dataset's rows, in the order in which the model takes them."""
    reserved = {request.get("label"), request.get("group"), request.get("groupBy")}
    free = [name for name in table if name not in reserved]
    demand = model.demand(table, free)
    find = _matrix if demand.kind == MATRIX else _named
    inputs = find(demand, table, free, request)
    settled = model.settle(OrderedDict((one.name, one.original) for one in inputs))
    inputs = [Input(one.name, one.columns, settled[one.name]) for one in inputs]
    for one in inputs:
        if demand.kind == FRAME:
            one.shape = (-1, 1)
        if one.datatype != "BYTES":
            one.datatype = model.datatype(one.name, _wire_datatype(demand.kind, one.datatype))
    return _stated(inputs, request.get("inputs"))


def listed(names, limit=20):
    """Names for an error message."""
    names = [repr(str(name)) for name in names]
    return ", ".join(names[:limit]) + (" and %d more" % (len(names) - limit) if len(names) > limit else "")


def _wire_datatype(kind, natural):
    """Tables are FP32, FP64, INT64 or BOOL on the wire, matrices FP32 or FP64; tensors are as they are."""
    if kind == TENSORS or natural in ("FP32", "FP64"):
        return natural
    if natural == "FP16":
        return "FP32"
    if kind == MATRIX:
        return "FP64"
    return natural if natural == "BOOL" else "INT64"


def _named(demand, table, free, request):
    missing = [name for name in demand.names if name not in table and name not in demand.optional]
    if missing and demand.kind != FRAME and len(demand.names) - len(demand.optional) == 1:
        columns = [name for name in free if name not in (request.get("slices") or ())]
        return [Input(demand.names[0], columns, _stacked(columns, table))]
    if missing:
        raise AgentError(
            "DatasetMismatch",
            "the model takes %s; the dataset lacks %s and has %s. Add the missing columns under these names"
            % (listed(demand.names), listed(missing), listed(table)),
        )
    inputs = []
    for name in demand.names:
        if name not in table:
            continue
        column = table[name]
        if demand.kind == FRAME and not isinstance(column, Category):
            if column.ndim == 2 and column.shape[1] == 1:
                column = column[:, 0]
            if column.ndim != 1 or is_ragged(column):
                raise AgentError(
                    "DatasetMismatch",
                    "column %r holds lists, and the model takes one value per row in it; write one column per value"
                    % name,
                )
        inputs.append(Input(name, [name], column))
    return inputs


def _matrix(demand, table, free, request):
    name, names = demand.names
    if name in table and (names is None or not set(names) & set(table)):
        columns = [name]
    elif names is not None and set(names) & set(table):
        lacking = [column for column in names if column not in table]
        if lacking:
            raise AgentError(
                "DatasetMismatch",
                "the model takes the %d columns %s; the dataset lacks %s and has %s. Add them under these names"
                % (len(names), listed(names), listed(lacking), listed(table)),
            )
        columns = list(names)
    else:
        slices = request.get("slices") or ()
        columns = [column for column in free if column not in slices]
        if demand.width is not None and _width(columns, table) != demand.width == _width(free, table):
            columns = free
    found = _width(columns, table)
    if demand.width is not None and found != demand.width:
        raise AgentError(
            "DatasetMismatch",
            "the model takes %d columns; the dataset offers %d beside label, group and slices: %s. Name the label in "
            "validation.dataset.label and remove columns that the model was not trained on"
            % (demand.width, found, listed(columns)),
        )
    return [Input(name, columns, _stacked(columns, table))]


def _width(columns, table):
    width = 0
    for name in columns:
        column = table[name]
        width += 1 if isinstance(column, Category) or column.ndim == 1 else int(np.prod(column.shape[1:]))
    return width


def _stacked(columns, table):
    """Columns side by side, (rows, width); a single tensor or ragged column as it is."""
    if not columns:
        raise AgentError("DatasetMismatch", "the dataset has no column for the model's input beside its annotations")
    parts = [table[name] for name in columns]
    if len(parts) == 1 and not isinstance(parts[0], Category) and (parts[0].ndim > 1 or is_ragged(parts[0])):
        return parts[0]
    if any(is_ragged(part) for part in parts):
        raise AgentError(
            "DatasetMismatch",
            "the model has a single input, and some of the dataset's columns %s hold lists of varying length; name the "
            "column like the input" % listed(columns),
        )
    parts = [numbers(part) if isinstance(part, Category) else part for part in parts]
    texts = [name for name, part in zip(columns, parts) if part.dtype == object]
    if texts and len(texts) < len(parts):
        raise AgentError(
            "DatasetMismatch",
            "the model takes one tensor, and among the dataset's columns %s hold text; encode them as the model was "
            "trained on, or fit the model on a data frame" % listed(texts),
        )
    parts = [part[:, None] if part.ndim == 1 else part.reshape(len(part), -1) for part in parts]
    return np.concatenate(parts, axis=1)


def _stated(inputs, stated):
    """Inputs as source.inputs states them: matched by name where all names agree, else by position."""
    if not stated:
        return inputs
    if len(stated) != len(inputs):
        raise AgentError(
            "InputsMismatch",
            "source.inputs states %d inputs (%s); the model takes %d (%s)"
            % (len(stated), listed(one["name"] for one in stated), len(inputs), listed(one.name for one in inputs)),
        )
    by_name = {one["name"]: one for one in stated}
    match = [by_name[one.name] for one in inputs] if set(by_name) == {one.name for one in inputs} else stated
    for one, tensor in zip(inputs, match):
        one.wire_name, shape = tensor["name"], tuple(tensor["shape"])
        if (tensor["datatype"] == "BYTES") != (one.datatype == "BYTES"):
            raise AgentError(
                "InputsMismatch",
                "source.inputs states %s for %r, and the dataset's column is %s; they cannot be converted"
                % (tensor["datatype"], one.wire_name, one.datatype),
            )
        one.datatype = tensor["datatype"]
        _reshape(one, shape)
    return inputs


def _reshape(one, shape):
    own, sizes = one.shape, shape[1:]
    if len(own) == len(shape) and all(-1 in (a, b) or a == b for a, b in zip(own, shape)):
        one.shape = shape
    elif -1 not in sizes and -1 not in own[1:] and np.prod(sizes) == np.prod(own[1:]) and shape[0] == -1:
        one.original = one.original.reshape((len(one.original),) + sizes)
        one.shape = shape
    else:
        raise AgentError(
            "InputsMismatch",
            "source.inputs states shape %s for %r, and the dataset's rows have shape %s (-1 = any size)"
            % (list(shape), one.wire_name, list(own)),
        )
