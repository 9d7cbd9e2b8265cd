"""Tables of named arrays in one `.npz` file without pickles: how datasets, inputs and answers pass between processes.

A table is an ordered dict of name to array whose first axis are the rows. Four kinds of column:

- tensor: any numeric, boolean or datetime64 array, stored as it is;
- text: an object array of `str` or None, of any shape, stored as UTF-8 with offsets;
- category: a `Category` (codes, categories, ordered), as in a pandas categorical;
- ragged: a one-dimensional object array of arrays of one dtype and rank, stored flat with shapes.

The same table always gives the same bytes. Needs Python ≥ 3.6 and numpy ≥ 1.15.
"""

import io
import json
import math
import os
import zipfile
from collections import OrderedDict

import numpy as np

INDEX = "index.json"


class Category(object):
    """A column of categories: `codes` (rows,) integers, -1 = missing; `categories` array; `ordered` bool."""

    def __init__(self, codes, categories, ordered=False):
        self.codes = np.asarray(codes, dtype=np.int32)
        self.categories = np.asarray(categories)
        self.ordered = bool(ordered)

    def __len__(self):
        return len(self.codes)

    def __getitem__(self, rows):
        return Category(self.codes[rows], self.categories, self.ordered)

    def values(self):
        """The categories row by row, (rows,) object; None = missing."""
        values = np.empty(len(self.codes), dtype=object)
        for row, code in enumerate(self.codes):
            values[row] = None if code < 0 else self.categories[code]
        return values


def save(path, table):
    """Writes `table` to `path`, aside first and then renamed. TypeError names a column that cannot be stored."""
    arrays, index = OrderedDict(), []
    for position, (name, column) in enumerate(table.items()):
        try:
            entry, parts = _encode(column)
        except TypeError as error:
            raise TypeError("column %r: %s" % (name, error))
        entry["name"] = name
        index.append(entry)
        for part, array in parts.items():
            arrays["%d.%s" % (position, part)] = array
    aside = "%s.part-%d" % (path, os.getpid())
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            _write(archive, INDEX, json.dumps(index).encode("utf-8"))
            for member, array in arrays.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
                _write(archive, member + ".npy", buffer.getbuffer())
        os.replace(aside, path)
    finally:
        if os.path.exists(aside):
            os.remove(aside)


def load(path):
    """The table stored at `path`, an OrderedDict."""
    table = OrderedDict()
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read(INDEX).decode("utf-8"))
        for position, entry in enumerate(index):
            parts = {}
            for part in entry["parts"]:
                with archive.open("%d.%s.npy" % (position, part)) as member:
                    parts[part] = np.lib.format.read_array(member, allow_pickle=False)
            table[entry["name"]] = _decode(entry, parts)
    return table


def _write(archive, name, content):
    # A fixed date: the same table must give the same bytes.
    with archive.open(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as member:
        member.write(content)


def _encode(column):
    if isinstance(column, Category):
        entry, parts = _encode(column.categories)
        entry = {
            "kind": "category",
            "ordered": column.ordered,
            "categories": entry,
            "parts": ["codes"] + entry["parts"],
        }
        parts["codes"] = column.codes
        return entry, parts
    array = np.asarray(column)
    if array.dtype.kind in "biufcmM":
        return {"kind": "tensor", "parts": ["values"]}, {"values": array}
    if array.dtype.kind in "US":
        array = array.astype(object)
    if array.dtype != object:
        raise TypeError("dtype %s cannot be stored" % array.dtype)
    flat = array.ravel()
    if array.ndim == 1 and len(flat) and all(isinstance(value, (np.ndarray, list, tuple)) for value in flat):
        return _encode_ragged(flat)
    return _encode_text(array, flat)


def _encode_text(array, flat):
    values, missing = flat.tolist(), np.zeros(len(flat), dtype=bool)
    if set(map(type, values)) == {str}:
        blobs = _encoded(values)
    else:
        blobs = []
        for position, value in enumerate(values):
            if value is None or (isinstance(value, float) and math.isnan(value)):
                missing[position] = True
                blobs.append(b"")
            elif isinstance(value, bytes):
                blobs.append(value)
            elif isinstance(value, str):
                blobs.append(value.encode("utf-8"))
            else:
                raise TypeError("holds a %s (%r) among text" % (type(value).__name__, value))
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, blobs), np.int64, len(blobs)), out=offsets[1:])
    parts = OrderedDict(data=np.frombuffer(b"".join(blobs), dtype=np.uint8), offsets=offsets, missing=missing)
    return {"kind": "text", "shape": list(array.shape), "parts": list(parts)}, parts


def _encoded(texts):
    """Each text as UTF-8; a text that comes again is encoded once."""
    known = {text: text.encode("utf-8") for text in set(texts)}
    return [known[text] for text in texts]


def _encode_ragged(flat):
    rows = [np.asarray(value) for value in flat]
    ranks, kinds = {row.ndim for row in rows}, {row.dtype.kind for row in rows if row.size}
    if len(ranks) != 1:
        raise TypeError("rows have different ranks %s" % sorted(ranks))
    if kinds - set("biuf"):
        raise TypeError("rows of varying length must be numeric")
    dtype = np.result_type(*[row.dtype for row in rows if row.size] or [np.float64])
    values = np.concatenate([row.ravel().astype(dtype) for row in rows])
    shapes = np.asarray([row.shape for row in rows], dtype=np.int64).reshape(len(rows), -1)
    return {"kind": "ragged", "parts": ["values", "shapes"]}, OrderedDict(values=values, shapes=shapes)


def _decode(entry, parts):
    kind = entry["kind"]
    if kind == "tensor":
        return parts["values"]
    if kind == "text":
        return _decode_text(parts["data"], parts["offsets"], parts["missing"]).reshape(entry["shape"])
    if kind == "category":
        return Category(parts["codes"], _decode(entry["categories"], parts), entry["ordered"])
    rows, start = np.empty(len(parts["shapes"]), dtype=object), 0
    for position, shape in enumerate(parts["shapes"]):
        size = int(np.prod(shape))
        rows[position] = parts["values"][start : start + size].reshape(shape)
        start += size
    return rows


def _decode_text(data, offsets, missing):
    flat = np.empty(len(missing), dtype=object)
    blob, places = data.tobytes(), offsets.tolist()
    starts, ends = places[:-1], places[1:]
    try:
        text = blob.decode("ascii")
    except UnicodeDecodeError:
        flat[:] = [blob[start:end].decode("utf-8") for start, end in zip(starts, ends)]
    else:
        # Cut once as text: to decode each piece takes ten times as long.
        flat[:] = [text[start:end] for start, end in zip(starts, ends)]
    flat[missing] = None
    return flat
