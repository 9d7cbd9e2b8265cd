"""ONNX: `.onnx` files, with external data beside them, answered by onnxruntime."""

import contextlib
import os
from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import pickles
from paritygate.agent.frameworks.model import LABEL, PROBABILITIES, TENSORS, Demand, Model
from paritygate.agent.noise import fixed_part

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}
_WIRE = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(bool)": "BOOL",
}
_WIRE.update((one, one[7:-1].upper()) for one in _DTYPES if "int" in one)
MOST = 64
"""Inner tensors that are recorded."""
_LABELS = ("label", "output_label")
_PROBABILITIES = ("probabilities", "output_probability")


def load(path, loader=None):
    """An inference session on the CPU. AgentError: it cannot be read."""
    if os.path.isdir(path):
        path = pickles.only_file(path, (".onnx",))
    pickles.require_file(path)
    return session(path, None)


def session(path, threads, folder=None):
    """A session of a number of threads, None = as the runtime chooses. `path`: or bytes, with weights in `folder`."""
    try:
        import onnxruntime
    except ImportError as error:
        raise pickles.package_missing(error, "format ONNX") from error
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = (
            "%s cannot be read by onnxruntime %s: %s; it may be truncated, lack its external data, or need a newer "
        )
        message += "runtime"
        found = (os.path.basename(path), onnxruntime.__version__, one_line(error))
        raise AgentError("ModelUnreadable", message % found) from error


def adapt(native, request):
    """The session as a `Model`."""
    return OnnxModel(native, request)


class OnnxModel(Model):
    """An ONNX graph."""

    framework = "onnxruntime"
    batch = 256
    costly = True
    narrow_outputs = False

    def __init__(self, native, request):
        super().__init__(native, request)
        import onnxruntime

        self.refuse_call("one graph, which is what is called without source.call")
        self.version = onnxruntime.__version__
        self.path = request["model"]
        self.types = OrderedDict((one.name, one.type) for one in native.get_inputs())
        self.shapes = OrderedDict((one.name, one.shape) for one in native.get_inputs())
        self.outputs = [one.name for one in native.get_outputs()]
        self.classes = _classes(self.file())
        for one in list(native.get_inputs()) + list(native.get_outputs()):
            if one.type not in _DTYPES:
                raise AgentError(
                    "WrongFormat",
                    "%r of the ONNX model is a %s; only tensors pass the wire. Export classifiers with zipmap=False"
                    % (one.name, one.type),
                )
        first = [shape[0] for shape in self.shapes.values() if shape and isinstance(shape[0], int)]
        if first:
            self.fix_batch(first[0])

    def datatype(self, name, natural):
        return _WIRE[self.types[name]]

    def demand(self, table, free):
        return Demand(TENSORS, list(self.types), (), None)

    def settle(self, inputs):
        settled = OrderedDict()
        for name, column in inputs.items():
            settled[name] = self._as_declared(name, column)
        return settled

    def answer(self, inputs):
        feeds = {name: self._cast(name, column) for name, column in inputs.items()}
        if self.batch == 1 or any(len(column) for column in feeds.values()):
            return OrderedDict(zip(self.outputs, self.native.run(None, feeds)))
        # onnxruntime ends the process where a recurrent network gets no rows: one is asked and dropped instead.
        one = {name: _row_of(column) for name, column in feeds.items()}
        return OrderedDict(zip(self.outputs, [found[:0] for found in self.native.run(None, one)]))

    def role(self, name):
        if name in _LABELS and set(self.outputs) & set(_PROBABILITIES):
            return LABEL, self.classes
        return (PROBABILITIES, self.classes) if name in _PROBABILITIES else super().role(name)

    def steps(self, inputs):
        import onnx

        model = onnx.load(self.file(), load_external_data=False)
        nodes = OrderedDict(
            (node.output[0], node.op_type) for node in model.graph.node if node.output and node.output[0]
        )
        names = [name for name in nodes if name not in self.outputs]
        if not names:
            return super().steps(inputs)
        names = [names[place] for place in fixed_part(len(names), MOST)]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        observing = session(model.SerializeToString(), None, os.path.dirname(os.path.abspath(self.file())))
        feeds = {name: self._cast(name, column) for name, column in inputs.items()}
        made = zip(names, observing.run(names, feeds))
        return [(name, nodes[name], (), values) for name, values in made if isinstance(values, np.ndarray)]

    def file(self):
        """Path of the ONNX file."""
        return self.path if os.path.isfile(self.path) else pickles.only_file(self.path, (".onnx",))

    @contextlib.contextmanager
    def threads(self, count):
        before = self.native
        self.native = session(self.file(), count)
        try:
            yield True
        finally:
            self.native = before

    def _as_declared(self, name, column):
        """A column in the form that the graph declares, so that the wire's datatype is the graph's."""
        text = self.types[name] == "tensor(string)"
        if isinstance(column, Category):
            column = column.values() if text else column.categories[column.codes]
        if text != (column.dtype == object and not isinstance(column[0], np.ndarray)):
            raise AgentError(
                "DatasetMismatch",
                "input %r of the ONNX model is %s, and the dataset's column is %s"
                % (name, self.types[name], column.dtype),
            )
        shape, ragged = self.shapes[name], column.dtype == object
        whole = not text and np.dtype(_DTYPES[self.types[name]]).kind in "iu"
        if whole and not ragged and column.dtype.kind == "f" and not (column == np.floor(column)).all():
            raise AgentError(
                "DatasetMismatch",
                "input %r of the ONNX model is %s, and the dataset's column holds fractions, NaN or infinities"
                % (name, self.types[name]),
            )
        if column.ndim == 1 and len(shape) == 2 and not (len(column) and isinstance(column[0], np.ndarray)):
            column = column.reshape(-1, 1)
        return column

    def _cast(self, name, column):
        dtype = _DTYPES[self.types[name]]
        if dtype is object:
            cells = ["" if value is None else str(value) for value in column.reshape(-1)]
            return np.asarray(cells + [None], dtype=object)[:-1].reshape(column.shape)
        return np.ascontiguousarray(column).astype(dtype)


def _row_of(empty):
    """One row of zeros, or of empty text, of the shape of the rows that a batch without rows would have."""
    return np.full((1,) + empty.shape[1:], "" if empty.dtype == object else 0, dtype=empty.dtype)


def _classes(path):
    """Labels of the graph's classifier in the order of its scores; None = it has none, or onnx is not installed."""
    try:
        import onnx
    except ImportError:
        return None
    for node in onnx.load(path, load_external_data=False).graph.node:
        for attribute in node.attribute:
            if attribute.name in ("classlabels_ints", "classlabels_int64s") and attribute.ints:
                return tuple(attribute.ints)
            if attribute.name == "classlabels_strings" and attribute.strings:
                return tuple(text.decode("utf-8") for text in attribute.strings)
    return None
