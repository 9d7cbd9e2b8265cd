"""Finds the first step inside the model at which source and candidate part, on rows that the capture looked into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.artifacts import Step
from paritygate.api.report import OutputRole, OutputSignature
from paritygate.api.spec import Datatype, Numeric
from paritygate.worker.parity.columns import cells, different
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.measure import count, number, times
from paritygate.worker.parity.tolerance import row_errors, tolerance_of
from paritygate.worker.tracing import Graph, TracingError

Array = npt.NDArray[Any]
_SLACK: Final = 10.0
"""Inner values may differ by so many tolerances before a step is blamed: sums and fusions inside steps are free."""
_FLOATS: Final = {"float64": Datatype.FP64, "float32": Datatype.FP32, "float16": Datatype.FP16}
UNKNOWN: Final = "it could not be told: "


@dataclass(frozen=True)
class Divergence:
    """Where values part."""

    sentence: str
    place: str | None = None
    """Such as 'step scale (StandardScaler)'; None = it could not be told."""


@dataclass(frozen=True)
class Compared:
    """One step's values in the candidate against the source's."""

    step: Step
    ratio: float
    """Largest error in units of the tolerance; infinite where shapes differ."""
    row: int
    """Position among the recorded rows."""
    error: float
    tensor: str

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return self.ratio <= _SLACK


def locate(evidence: Evidence, values: Mapping[str, Array], graph: Graph) -> Divergence | None:
    """The first step that differs; None = nothing differs, or the source is a single step."""
    capture = evidence.capture
    wrong = _wrong(evidence)
    if not wrong.any():
        return None
    if capture.steps_skipped is not None:
        return Divergence(UNKNOWN + capture.steps_skipped)
    if not any(step.recorded for step in capture.steps):
        return None
    rows = np.asarray(capture.step_rows)
    try:
        return _located(evidence, values, graph, wrong[rows])
    except TracingError as error:
        return Divergence(UNKNOWN + str(error))


def _located(evidence: Evidence, values: Mapping[str, Array], graph: Graph, wrong: Array) -> Divergence:
    rows = np.asarray(evidence.capture.step_rows)
    feeds = {name: _fed(column, rows) for name, column in evidence.inputs.items()}
    named = _named(evidence, graph)
    if named:
        found, passed = _first_of_named(evidence, values, graph, feeds, named)
    else:
        found, passed = _first_by_values(evidence, values, graph, feeds)
    if found is not None:
        return _sentence(found, passed, rows, optimised=_optimised(found, graph, feeds, values, named))
    return _behind(evidence, passed, graph, feeds, wrong)


def _sentence(found: Compared, passed: int, rows: Array, *, optimised: bool) -> Divergence:
    place = f"step {found.step.name} ({found.step.kind})"
    if np.isfinite(found.error):
        what = f"row {rows[found.row]} differs by {number(found.error)}, {times(found.ratio)} what rounding explains"
    elif found.tensor:
        what = f"row {rows[found.row]} differs in shape, or in where it is NaN or infinite"
    else:
        what = "no tensor of the artefact holds its values; it is left out, merged with what follows, or wrong"
        place += "" if passed else " or what follows it"
    tensor = f", tensor {found.tensor}" if found.tensor else ""
    before = f"; {_steps(passed)} before it" if passed else ""
    text = f"{place}{tensor}: {what}{before}"
    if optimised:
        text += "; without onnxruntime's graph optimisation the step agrees, so an optimisation is to blame"
    return Divergence(text, place)


def _behind(evidence: Evidence, passed: int, graph: Graph, feeds: Mapping[str, Array], wrong: Array) -> Divergence:
    """All steps agree: the last one differs, or an optimisation that exposing the steps switches off."""
    if not wrong.any():
        return Divergence(
            f"{UNKNOWN}none of the {count(len(wrong), 'rows')} whose inner values were recorded is answered otherwise"
        )
    exposed = _answers_right(evidence, graph, feeds, optimised=True)
    if exposed or _answers_right(evidence, graph, feeds, optimised=False):
        return Divergence(
            f"behind the graph: {_steps(passed)}, and "
            + ("with its inner values exposed" if exposed else "without onnxruntime's graph optimisation")
            + " the candidate answers right; an optimisation that fuses steps is to blame",
            "graph optimisation of onnxruntime",
        )
    last = next((step for step in reversed(evidence.capture.steps) if not step.recorded), None)
    if last is None:
        return Divergence(f"behind the last step that was recorded: {_steps(passed)}, and the outputs differ")
    place = f"step {last.name} ({last.kind})" if last.name != last.kind else last.kind
    return Divergence(f"{place}: {_steps(passed)} before it, and the outputs differ", place)


def _steps(passed: int) -> str:
    return f"{count(passed, 'steps')} agree" + ("s" if passed == 1 else "")


# Steps that the graph names.


def _named(evidence: Evidence, graph: Graph) -> dict[str, tuple[str, ...]]:
    """Step → tensors that hold it, as the converter says it, or of the same name in both graphs."""
    stated = {step.name: step.tensors for step in evidence.manifest.steps} if evidence.manifest else {}
    known = set(graph.tensors)
    found = {}
    for step in evidence.capture.steps:
        tensors = stated.get(step.name, (step.name,))
        if step.recorded and set(tensors) <= known:
            found[step.name] = tensors
    return found


def _first_of_named(
    evidence: Evidence,
    values: Mapping[str, Array],
    graph: Graph,
    feeds: Mapping[str, Array],
    named: Mapping[str, tuple[str, ...]],
) -> tuple[Compared | None, int]:
    made = graph.run(feeds, sorted({name for tensors in named.values() for name in tensors}))
    passed = 0
    for step in evidence.capture.steps:
        compared = _compared(step, values, made, named.get(step.name, ()))
        if compared is None:
            continue
        if not compared.agrees:
            return compared, passed
        passed += 1
    return None, passed


def _compared(
    step: Step, values: Mapping[str, Array], made: Mapping[str, Array], tensors: tuple[str, ...]
) -> Compared | None:
    if not tensors or step.name not in values or not all(name in made for name in tensors):
        return None
    parts = [cells(made[name]) for name in tensors if made[name].ndim]
    label = tensors[0] if len(tensors) == 1 else f"{tensors[0]} and {len(tensors) - 1} more"
    reference = values[step.name]
    if len(parts) < len(tensors) or {len(part) for part in parts} != {len(reference)}:
        return Compared(step, np.inf, 0, np.inf, label)
    return _difference(step, reference, np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0], label)


def _difference(step: Step, reference: Array, candidate: Array, label: str) -> Compared:
    """Compares in the shape of the reference, whose last axis are the columns."""
    if candidate.size != reference.size:
        return Compared(step, np.inf, 0, np.inf, label)
    shape = reference.shape if reference.ndim > 1 else (len(reference), 1)
    mine, theirs = reference.reshape(shape), candidate.reshape(shape)
    datatype = _FLOATS.get(str(candidate.dtype), Datatype.FP64)
    signature = OutputSignature(name=step.name, datatype=datatype, shape=(-1,), role=OutputRole.TENSOR)
    tolerance = tolerance_of(signature, mine.astype(np.float64), str(reference.dtype), None, Numeric())
    if tolerance is None:
        return Compared(step, 0.0, 0, 0.0, label)
    errors = row_errors(mine, theirs, tolerance)
    row = int(np.argmax(errors.ratio))
    return Compared(step, float(errors.ratio[row]), row, float(errors.absolute[row]), label)


def _optimised(
    found: Compared,
    graph: Graph,
    feeds: Mapping[str, Array],
    values: Mapping[str, Array],
    named: Mapping[str, tuple[str, ...]],
) -> bool:
    """Whether the step agrees once the runtime optimises nothing."""
    tensors = named.get(found.step.name, (found.tensor,) if found.tensor else ())
    if not tensors:
        return False
    plain = _compared(found.step, values, graph.run(feeds, list(tensors), optimised=False), tensors)
    return plain is not None and plain.agrees


# Steps of an artefact that says nothing about them.


def _first_by_values(
    evidence: Evidence, values: Mapping[str, Array], graph: Graph, feeds: Mapping[str, Array]
) -> tuple[Compared | None, int]:
    """The first step that no tensor holds and behind which nothing is right; and how many are right.

    A step that is missing while a later one is there was merged with its neighbours, and is right.
    """
    steps = [step for step in evidence.capture.steps if step.recorded and _telling(values[step.name])]
    closest: dict[str, list[Compared]] = {step.name: [] for step in steps}
    for name, tensor in _tensors(graph, feeds):
        for step in steps:
            reference = values[step.name]
            if len(tensor) == len(reference) and tensor.size == reference.size:
                closest[step.name].append(_difference(step, reference, tensor, name))
    right = {step.name for step in steps if any(one.agrees for one in closest[step.name])}
    reached = [step for step in steps if step.name in right]
    for position, step in enumerate(steps):
        later = steps[position + 1 :]
        if step.name in right or any(other.name in right and not parallel(step, other) for other in later):
            continue
        rivals = closest[step.name]
        return (rivals[0] if len(rivals) == 1 else Compared(step, np.inf, 0, np.inf, "")), len(reached)
    return None, len(reached)


def parallel(step: Step, other: Step) -> bool:
    """Whether two steps lie in different branches of one, so that neither sees the other."""
    return any(
        mine != theirs and mine.rpartition("/")[0] == theirs.rpartition("/")[0]
        for mine in step.branches
        for theirs in other.branches
    )


def _tensors(graph: Graph, feeds: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Numeric inner tensors that are not just an input in another datatype."""
    given = [cells(column).astype(np.float64) for column in feeds.values() if column.dtype.kind in "fiub"]
    for name, tensor in graph.each(feeds):
        if tensor.dtype.kind not in "fiub" or not tensor.ndim or not tensor.size:
            continue
        flat = cells(tensor).astype(np.float64)
        if not any(flat.shape == one.shape and np.allclose(flat, one, rtol=1e-6, equal_nan=True) for one in given):
            yield name, tensor


def _telling(values: Array) -> bool:
    """Whether values are not all alike, as they must be to be recognised."""
    return bool(values.size) and not bool((values == values.reshape(-1)[0]).all())


# What is asked.


def _fed(column: Any, rows: Array) -> Array:
    chosen = np.asarray(column)[rows]
    if chosen.dtype != object:
        return np.asarray(chosen)
    if isinstance(chosen[0], np.ndarray):
        return np.stack(list(chosen))
    texts = np.empty(chosen.shape, dtype=object)
    texts.reshape(-1)[:] = ["" if cell is None else cell for cell in chosen.reshape(-1)]
    return texts


def _wrong(evidence: Evidence) -> Array:
    """(rows,) bool: rows that are not answered, lie beyond tolerance, or flip though they are no ties."""
    wrong = evidence.unanswered.copy()
    for errors in evidence.errors.values():
        wrong |= ~(errors.ratio <= 1)
    decided = {d.label.output.name: d for d in decisions_of(evidence) if d.label is not None}
    for pair in evidence.pairs:
        if pair.tolerance is None:
            decision = decided.get(pair.output.name)
            wrong |= different(pair.reference, pair.candidate) if decision is None else decision.real
    return wrong


def _answers_right(evidence: Evidence, graph: Graph, feeds: Mapping[str, Array], *, optimised: bool) -> bool:
    """Whether the graph, its inner values exposed, answers the recorded rows as the source does."""
    rows = np.asarray(evidence.capture.step_rows)
    names = [pair.output.name for pair in evidence.pairs]
    made = graph.run(feeds, names, optimised=optimised, exposed=True)
    for pair in evidence.pairs:
        answered = made.get(pair.output.name)
        if answered is None or len(answered) != len(rows):
            return False
        if pair.tolerance is None:
            if different(pair.reference[rows], answered).any():
                return False
        elif (row_errors(pair.reference[rows], answered, pair.tolerance).ratio > 1).any():
            return False
    return bool(names)
