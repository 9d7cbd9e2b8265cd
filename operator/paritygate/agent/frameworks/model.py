"""What capture asks of a source, whatever its framework is."""

import contextlib
from collections import OrderedDict, namedtuple

import numpy as np

from paritygate.agent.failures import AgentError

MATRIX = "matrix"
"""All inputs are the columns of one two-dimensional tensor."""
FRAME = "frame"
"""One input per column of a data frame."""
TENSORS = "tensors"
"""One input per tensor argument."""

Demand = namedtuple("Demand", "kind names optional width")
"""What inputs a model takes.

`kind` is one of the three above. `names`: of the columns (MATRIX: (input name, names of its columns or None); FRAME,
TENSORS: names of the inputs in order). `optional`: names among these that are left out when the dataset lacks them.
`width`: columns of a MATRIX, None = any.
"""

Threshold = namedtuple("Threshold", "input position values")
"""Where trees split: `position` is the index of the cell in one row of the input, `values` ascending float64."""

LABEL, PROBABILITIES, SCORES = "Label", "Probabilities", "Scores"
PREDICTION, TRANSFORMED, TENSOR = "Prediction", "Transformed", "Tensor"


class Model(object):
    """A loaded source. Subclasses set the attributes and override what differs."""

    framework = ""
    """Distribution name, such as 'scikit-learn'."""
    version = ""
    batch = 8192
    """Rows per call."""
    workers = 1
    """Batches that are answered at once, each in a thread; more than one only where rows do not affect each other."""
    costly = False
    """Whether a row may take long: few are asked beside the dataset then."""
    cell_datatype = None
    """Datatype of floating inputs on the wire, such as 'FP32'; None = that of the dataset."""
    narrow_outputs = True
    """Whether floating outputs are FP32 on the wire although the source computes in double precision."""

    def __init__(self, native, request):
        self.native = native
        self.call = request.get("call")
        self.findings = []

    def demand(self, table, free):
        """What the model takes of a dataset; `free` are the names of columns that are not annotations."""
        raise NotImplementedError

    def answer(self, inputs):
        """Answers by output name, first axis rows, in the source's dtype. `inputs` by name, in the dataset's dtype.

        A FRAME's inputs are (rows,) arrays or categories; a MATRIX is (rows, columns).
        """
        raise NotImplementedError

    def role(self, name):
        """What an output means: (role, classes or None)."""
        return TENSOR, None

    def datatype(self, name, natural):
        """Wire datatype of an input of numbers; `natural` is the one that carries the dataset's values exactly."""
        return self.cell_datatype if self.cell_datatype and natural.startswith("FP") else natural

    def task(self):
        """Task of the manifest, or None where the model does not say."""

    def few(self, rows, most):
        """How many rows to ask again, or to look into, of a dataset of `rows` rows: `most`, of a costly model fewer."""
        return min(most, max(4, rows // 24)) if self.costly else most

    def settle(self, inputs):
        """Looks at the inputs, by name, before the first call; may return others, such as floats for integers."""
        return inputs

    def thresholds(self):
        """`Threshold` of every cell that trees split on; empty where there are none, or where cells are transformed."""
        return []

    def missing_text(self):
        """What stands for missing text in the model's data frames: None or NaN."""
        return float("nan")

    def steps(self, inputs):
        """What happens inside when `inputs` are answered: (name, class, branches, values) of each step, in order.

        `branches`: as in `Step` of the manifest. Values None = the last step, whose values are the outputs.
        """
        kind = type(self.native).__name__
        return [(kind, kind, (), None)]

    def finer(self, batches):
        """The answers to each of some batches as the same arithmetic gives them in double precision; None = not."""
        return [None for _ in batches]

    def reach(self, inputs, seen):
        """`reach.Reached` list: the leaves and known categories that `inputs` reach.

        `seen`: by subject and kind, what was reached before: (total,) bool, so that only the rest need be looked at.
        """
        return []

    @contextlib.contextmanager
    def threads(self, count):
        """Limits the threads of the calls within; yields whether that was possible."""
        yield False

    def refuse_call(self, offered="none"):
        """AgentError: source.call is stated, and the model has no methods to choose from, or not this one."""
        if self.call:
            raise AgentError(
                "CallMissing",
                "source.call is %r, which %s does not have; it has %s"
                % (self.call, type(self.native).__name__, offered),
            )

    def fix_batch(self, size):
        """Notes that the model takes batches of one size only. AgentError: it is not 1."""
        if size != 1:
            raise AgentError(
                "FixedBatch",
                "the model takes batches of exactly %d rows; export it with a dynamic first dimension" % size,
            )
        self.batch = 1
        self.find(
            "FIXED-BATCH",
            "Warning",
            "the model takes one row per call only",
            "a server cannot batch requests, and rows in one request would be refused",
            "the source was asked row by row; export the model with a dynamic first dimension to serve batches",
        )

    def find(self, rule, severity, message, why, action):
        """Adds a finding (docs/reference/findings.md)."""
        self.findings.append(
            OrderedDict(rule=rule, severity=severity, message=message, why=why, action=action),
        )


def dense(array):
    """An array, also of a sparse matrix, a data frame or a list."""
    if hasattr(array, "toarray"):
        array = array.toarray()
    return np.asarray(array)


def plain_classes(classes):
    """Labels as JSON-ready values: str, int, float or bool; integral floats as int, as on the wire."""
    plain = []
    for label in classes:
        value = label.item() if isinstance(label, np.generic) else label
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        plain.append(int(value) if isinstance(value, float) and value.is_integer() else value)
    return tuple(plain)
