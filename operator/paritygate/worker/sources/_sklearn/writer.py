"""What is known while a pipeline is written: the graph, where in the pipeline we are, and the table of translations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import onnx

from paritygate.api.report import Finding
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES, GraphBuilder
from paritygate.worker.targets.onnx_trees import add_logistic

DOUBLE: Final = onnx.TensorProto.DOUBLE
INT64: Final = onnx.TensorProto.INT64
Operand: TypeAlias = "str | float | np.ndarray[Any, Any] | list[float]"


@dataclass(frozen=True)
class Block:
    """Columns of one datatype: a (rows, width) tensor."""

    tensor: str
    datatype: Datatype
    width: int
    origin: str | None = None
    """The wire input that this is, unchanged."""


@dataclass(frozen=True)
class Table:
    """What flows between steps: blocks of columns side by side."""

    blocks: tuple[Block, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(block.width for block in self.blocks)


@dataclass(frozen=True)
class Classes:
    """What a classifier answers for one target."""

    label: str
    """(rows,) int64: position in the estimator's classes."""
    probabilities: str | None = None
    """(rows, classes) double."""
    scores: str | None = None
    """decision_function: (rows,) double for two classes, (rows, classes) for more."""


@dataclass
class Writer:
    """Adds nodes for estimators. Numbers and arrays among operands become constants, floats in double."""

    builder: GraphBuilder
    path: list[str] = field(default_factory=list)
    """Names of the pipeline's steps down to the present one."""
    findings: list[Finding] = field(default_factory=list)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Wire input → values that the source takes, where it refuses others."""
    failed: list[str] = field(default_factory=list)
    """Path of the step whose state could not be read."""
    steps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Path of a step → tensors that hold its columns side by side."""
    written_by: str | None = None
    """Version of scikit-learn that wrote the model, as the file records it."""

    def written_before(self, major: int, minor: int) -> bool:
        """Whether a version older than this wrote the model."""
        parts = (self.written_by or "").split(".")
        numbers = [int(part) for part in parts[:2] if part.isdigit()]
        return len(numbers) == len((major, minor)) and numbers < [major, minor]

    def op(self, operator: str, *operands: Operand, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output."""
        return self.builder.add(operator, *map(self.operand, operands), domain=domain, **attributes)

    def operand(self, value: Operand) -> str:
        """The name of a tensor, or of the constant that holds `value`."""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float64)
        elif array.dtype.kind in "iu":
            array = array.astype(np.int64)
        return self.builder.constant(array)

    def total(self, operator: str, tensor: str, axis: int = 1, *, keepdims: bool = True) -> str:
        """A reduction over one axis."""
        return self.builder.reduce(operator, tensor, axis, keepdims=keepdims)

    def logistic(self, tensor: str) -> str:
        """1 / (1 + e⁻ˣ), also where it is nearly 0."""
        return add_logistic(self.builder, tensor, np.float64)

    def columns(self, tensor: str, positions: Sequence[int] | np.ndarray[Any, Any]) -> str:
        """Some columns of a (rows, width) tensor."""
        return self.op("Gather", tensor, np.asarray(positions, dtype=np.int64), axis=1)

    def column(self, tensor: str, position: int) -> str:
        """One column of a (rows, width) tensor as (rows,)."""
        return self.op("Gather", tensor, np.int64(position), axis=1)  # type: ignore[arg-type]

    def flat(self, tensor: str) -> str:
        """(rows, 1) as (rows,)."""
        return self.op("Reshape", tensor, np.array([-1]))

    def upright(self, tensor: str) -> str:
        """(rows,) as (rows, 1)."""
        return self.op("Reshape", tensor, np.array([-1, 1]))

    def beside(self, *tensors: str) -> str:
        """(rows, a) and (rows, b) as (rows, a + b)."""
        return tensors[0] if len(tensors) == 1 else self.builder.add("Concat", *tensors, axis=1)

    def double(self, tensor: str) -> str:
        """A tensor of numbers or truth values in double."""
        return self.builder.cast(tensor, DOUBLE)

    def dense(self, table: Table) -> str:
        """All columns as one (rows, width) double tensor. ConfigurationError: some are text."""
        parts = []
        for block in table.blocks:
            if block.datatype is Datatype.BYTES:
                raise self.unsupported(f"text column {block.origin or ''} reaches a step that computes with numbers")
            parts.append(block.tensor if block.datatype is Datatype.FP64 else self.double(block.tensor))
        if not parts:
            raise self.unsupported("no column is left")
        return self.beside(*parts)

    def select(self, table: Table, positions: Sequence[int] | np.ndarray[Any, Any]) -> Table:
        """Some columns, in the order given; whole blocks stay as they are."""
        starts = np.cumsum([0, *(block.width for block in table.blocks)])
        wanted = [int(position) for position in positions]
        blocks: list[Block] = []
        while wanted:
            owner = int(np.searchsorted(starts, wanted[0], side="right")) - 1
            block, start = table.blocks[owner], int(starts[owner])
            run = 1
            while run < len(wanted) and start <= wanted[run] < start + block.width:
                run += 1
            inside = [position - start for position in wanted[:run]]
            if inside == list(range(block.width)):
                blocks.append(block)
            else:
                blocks.append(replace(block, tensor=self.columns(block.tensor, inside), width=run))
            wanted = wanted[run:]
        return Table(tuple(blocks))

    def singles(self, table: Table) -> list[Block]:
        """The columns one by one."""
        return [block for index in range(table.width) for block in self.select(table, [index]).blocks]

    def cast(self, tensor: str, datatype: Datatype) -> str:
        """`tensor` in another datatype."""
        return self.builder.cast(tensor, ELEMENT_TYPES[datatype])

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Names what is added inside after a step of the pipeline."""
        self.path.append(name)
        try:
            with self.builder.scope(name.replace("/", "_")):
                yield
        except (AttributeError, KeyError):
            self.failed = self.failed or list(self.path)
            raise
        finally:
            self.path.pop()

    def mark(self, table: Table) -> Table:
        """Notes `table` as what the present step made, so that its values can be looked at in the graph."""
        if table.blocks and all(block.datatype is not Datatype.BYTES for block in table.blocks):
            self.steps["/".join(self.path)] = tuple(block.tensor for block in table.blocks)
        return table

    @property
    def where(self) -> str:
        """The present step, such as 'step preprocess/scale'."""
        path = self.path or self.failed
        return f"step {'/'.join(path)}" if path else "the model"

    def unsupported(self, why: str, estimator: Any = None) -> ConfigurationError:
        """A refusal that names the step and says what can be done."""
        kind = type(estimator)
        what = f" ({kind.__module__}.{kind.__qualname__})" if estimator is not None else ""
        return ConfigurationError(
            "ConversionUnsupported",
            f"source.uri: {self.where}{what} cannot be converted to ONNX: {why}. Replace the step, do it in the client "
            f"before the request, or bring an artefact made elsewhere as target.candidate",
        )


Transformer: TypeAlias = Callable[[Writer, Any, Table], Table]
Classifier: TypeAlias = Callable[[Writer, Any, Table], Classes]
Regressor: TypeAlias = Callable[[Writer, Any, Table], str]
"""(rows, targets) double, or int64 for clusterers."""

TRANSFORMERS: Final[dict[str, Transformer]] = {}
CLASSIFIERS: Final[dict[str, Classifier]] = {}
REGRESSORS: Final[dict[str, Regressor]] = {}

_T = TypeVar("_T")


def transformer(*names: str) -> Callable[[Transformer], Transformer]:
    """Registers how classes of these names transform."""
    return _registration(TRANSFORMERS, names)


def classifier(*names: str) -> Callable[[Classifier], Classifier]:
    """Registers how classes of these names classify."""
    return _registration(CLASSIFIERS, names)


def regressor(*names: str) -> Callable[[Regressor], Regressor]:
    """Registers how classes of these names predict numbers or clusters."""
    return _registration(REGRESSORS, names)


def numbers(tensor: str, width: int) -> Table:
    """A table of one block of doubles."""
    return Table((Block(tensor, Datatype.FP64, width),))


def is_ours(estimator: Any) -> bool:
    """Whether the class is scikit-learn's own: a subclass may compute anything."""
    return type(estimator).__module__.partition(".")[0] == "sklearn"


def _registration(table: dict[str, _T], names: tuple[str, ...]) -> Callable[[_T], _T]:
    def register(translation: _T) -> _T:
        table.update(dict.fromkeys(names, translation))
        return translation

    return register
