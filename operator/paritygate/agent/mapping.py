"""How a dataset maps to a model's inputs (API.md, "How a dataset maps to a model"), and inputs to the wire and back."""

from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.model import FRAME, MATRIX, TENSORS

DTYPES = OrderedDict(
    BOOL=np.bool_,
    UINT8=np.uint8,
    UINT16=np.uint16,
    UINT32=np.uint32,
    UINT64=np.uint64,
    INT8=np.int8,
    INT16=np.int16,
    INT32=np.int32,
    INT64=np.int64,
    FP16=np.float16,
    BF16=np.float32,
    FP32=np.float32,
    FP64=np.float64,
)
"""numpy dtype in which a wire datatype is held; BF16 has none of its own and is held, rounded, in float32."""

_FLOATS = {2: "FP16", 4: "FP32", 8: "FP64"}


class Input(object):
    """One input of the model with the dataset's rows.

    `original` is (rows, …) in the dataset's dtype, a Category, or a ragged object array; `columns` are the dataset's
    columns it is made of; `datatype` and `shape` are those of the wire.
    """

    def __init__(self, name, columns, original):
        self.name = name
        self.columns = tuple(columns)
        self.original = original
        self.wire_name = name
        self.datatype = datatype_of(original)
        self.shape = shape_of(original)
        self.empty_is_missing = _empty_is_missing(original)

    def wire(self, column=None):
        """A column in this input's original form as it stands on the wire."""
        column = self.original if column is None else column
        if self.datatype == "BYTES":
            texts = _texts(column)
            return texts.reshape((len(texts), 1)) if len(self.shape) == 2 and texts.ndim == 1 else texts
        if is_ragged(column):
            return ragged([self._cast(row) for row in column])
        cells = self._cast(_numbers(column))
        return cells.reshape((len(cells), 1)) if len(self.shape) == 2 and cells.ndim == 1 else cells

    def restore(self, wire):
        """Wire cells as the source takes them: in the original dtype, holding the wire's values."""
        original = self.original
        if is_ragged(original):
            dtype = original[0].dtype
            return ragged([np.asarray(row).astype(dtype) for row in wire])
        wire = np.asarray(wire)
        if isinstance(original, Category):
            return _category(wire.reshape(-1), original, self.empty_is_missing)
        cells = wire.reshape((len(wire),) + original.shape[1:])
        if original.dtype == object:
            return _with_missing(cells, self.empty_is_missing)
        if original.dtype.kind in "mM":
            return cells.astype(np.int64).view(original.dtype)
        return cells.astype(original.dtype)

    def is_exact(self):
        """Whether every value survives the cast to the wire."""
        restored = self.restore(self.wire())
        if is_ragged(self.original):
            return all(_same(a, b) for a, b in zip(restored, self.original))
        if isinstance(self.original, Category):
            return _same(_texts(restored), _texts(self.original))
        if self.original.dtype == object:
            return _same(restored, _with_missing(self.original, False))
        return _same(restored, self.original)

    def _cast(self, cells):
        cells = np.asarray(cells)
        dtype = np.dtype(DTYPES[self.datatype])
        if cells.dtype.kind in "mM":
            cells = cells.astype(np.int64)
        if cells.dtype.kind == "f" and dtype.kind in "iu" and not np.isfinite(cells).all():
            raise AgentError(
                "DatasetMismatch",
                "column %s holds NaN or infinities, which the stated datatype %s cannot carry; state FP32 or FP64 in "
                "source.inputs" % (self.columns[0], self.datatype),
            )
        with np.errstate(all="ignore"):
            cast = cells.astype(dtype)
        return _bfloat16(cast) if self.datatype == "BF16" else cast


def take(column, rows):
    """Rows of a column in original form."""
    return column[rows]


def is_ragged(column):
    """Whether a column holds arrays of varying shape."""
    return (
        isinstance(column, np.ndarray)
        and column.dtype == object
        and column.ndim == 1
        and len(column) > 0
        and isinstance(column[0], np.ndarray)
    )


def ragged(rows):
    """A ragged column of arrays."""
    column = np.empty(len(rows), dtype=object)
    for position, row in enumerate(rows):
        column[position] = row
    return column


def datatype_of(column):
    """Datatype that carries a column exactly on the wire."""
    if isinstance(column, Category):
        if column.categories.dtype.kind in "OUS":
            return "BYTES"
        column = _numbers(column)
    if is_ragged(column):
        column = np.empty(0, dtype=column[0].dtype)
    kind, size = column.dtype.kind, column.dtype.itemsize
    if kind == "b":
        return "BOOL"
    if kind == "f":
        return _FLOATS.get(size, "FP64")
    if kind in "iu":
        return "%sINT%d" % ("U" if kind == "u" else "", 8 * size)
    return "INT64" if kind in "mM" else "BYTES"


def shape_of(column):
    """Shape on the wire, -1 = any size; the first dimension is the batch."""
    if is_ragged(column):
        shapes = np.asarray([row.shape for row in column], dtype=np.int64).reshape(len(column), -1)
        return (-1,) + tuple(int(size[0]) if (size == size[0]).all() else -1 for size in shapes.T)
    return (-1,) + (() if isinstance(column, Category) else column.shape[1:])


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
    parts = [_numbers(part) if isinstance(part, Category) else part for part in parts]
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


def _numbers(column):
    """A column of numbers as an array; numeric categories as their values, missing ones as NaN."""
    if not isinstance(column, Category):
        return column
    if column.categories.dtype.kind in "OUS":
        return column.values()
    if not len(column.categories):
        return np.full(len(column), np.nan)
    values = column.categories[np.maximum(column.codes, 0)]
    if (column.codes >= 0).all():
        return values
    return np.where(column.codes < 0, np.nan, values.astype(np.float64))


def _texts(column):
    """A text or category column as it stands on the wire: str, "" for missing."""
    cells = column.values() if isinstance(column, Category) else np.asarray(column, dtype=object)
    texts = np.empty(cells.shape, dtype=object)
    flat, source = texts.reshape(-1), cells.reshape(-1)
    for position, value in enumerate(source):
        flat[position] = "" if _is_missing(value) else str(value)
    return flat.reshape(cells.shape)


def _is_missing(value):
    return value is None or (isinstance(value, float) and np.isnan(value))


def _with_missing(cells, empty_is_missing):
    restored = np.empty(cells.shape, dtype=object)
    flat = restored.reshape(-1)
    for position, value in enumerate(cells.reshape(-1)):
        flat[position] = None if _is_missing(value) or (empty_is_missing and value == "") else value
    return flat.reshape(cells.shape)


def _empty_is_missing(column):
    """Whether "" stands for missing text on the wire: the column has missing text, and no empty one."""
    if isinstance(column, Category):
        return "" not in list(column.categories)
    if is_ragged(column) or column.dtype != object:
        return False
    flat = list(column.reshape(-1))
    return any(_is_missing(value) for value in flat) and "" not in flat


def _category(values, original, empty_is_missing):
    """Wire values as a Category with the original's categories; unseen ones come after them."""
    known = list(original.categories)
    positions = {str(value) if original.categories.dtype.kind in "OUS" else value: i for i, value in enumerate(known)}
    codes = np.empty(len(values), dtype=np.int32)
    for row, value in enumerate(values):
        if _is_missing(value) or (empty_is_missing and isinstance(value, str) and value == ""):
            codes[row] = -1
            continue
        if value not in positions:
            positions[value] = len(known)
            known.append(value)
        codes[row] = positions[value]
    dtype = original.categories.dtype if len(known) == len(original.categories) else None
    if original.categories.dtype.kind in "OUS":
        dtype = object
    return Category(codes, np.asarray(known, dtype=dtype), original.ordered)


def _same(left, right):
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        return False
    if left.dtype.kind in "mM" or right.dtype.kind in "mM":
        left, right = left.astype(np.int64), right.astype(np.int64)
    equal = left == right
    if left.dtype.kind in "fc" and right.dtype.kind in "fc":
        equal = equal | (np.isnan(left) & np.isnan(right))
    return bool(np.all(equal))


def _bfloat16(cells):
    """float32 rounded to the nearest bfloat16, ties to even. NaN stays NaN."""
    bits = np.ascontiguousarray(cells, dtype=np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(cells), cells, rounded.view(np.float32))
