"""Columns in the form of the dataset and in the form of the wire, and the way from one to the other and back."""

from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError

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
        cells = self._cast(numbers(column))
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
        column = numbers(column)
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


def numbers(column):
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
