"""What the checks look at: captured and candidate answers side by side, and the policy that judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.agent.exchange import Category
from paritygate.api.artifacts import CandidateManifest, CaptureManifest
from paritygate.api.report import OutputRole, OutputSignature, TensorSignature
from paritygate.api.spec import Equivalence, Validation
from paritygate.worker.parity.columns import cells, factorized, is_ragged, row_hashes, same_layout
from paritygate.worker.parity.tolerance import RowErrors, Tolerance, row_errors, tolerance_of

Array = npt.NDArray[Any]
Table = Mapping[str, Any]
MIN_ROWS: Final = 30
"""Rows on each side of a decision, in a slice, or of positives, below which nothing is claimed."""


@dataclass(frozen=True)
class Policy:
    """How the candidate is judged."""

    equivalence: Equivalence
    validation: Validation

    @property
    def confidence(self) -> float:
        """Of each one-sided bound."""
        return float(self.validation.confidence)

    @property
    def alpha(self) -> float:
        """1 − confidence."""
        return 1.0 - self.confidence


@dataclass(frozen=True)
class BatchAnswers:
    """Answers to a fixed part of the rows, sent `size` at a time."""

    size: int
    rows: Array
    """(part,) indices of the dataset's rows."""
    answers: Table
    """Output name → (part, …); empty where a batch was refused."""
    refused: str | None = None
    """The server's message."""


@dataclass(frozen=True)
class ProbeAnswer:
    """The candidate's answer to one probe."""

    answers: Table
    """Output name → (1, …), or (0, …) for the empty batch; empty where it was refused."""
    refused: str | None = None
    """The server's message."""


@dataclass(frozen=True)
class Offer:
    """What the server says that it offers."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]


@dataclass(frozen=True)
class Pair:
    """One output, as the source and as the candidate answered it."""

    output: OutputSignature
    reference: Array
    """(rows, …) in the source's dtype, or ragged."""
    candidate: Array
    """(rows, …) in the wire's dtype, or ragged."""
    tolerance: Tolerance | None
    """None = values are compared exactly: labels, text, integers."""


@dataclass(frozen=True)
class Evidence:
    """Everything that was measured. Tables are name → (rows, …) arrays as docs/reference/formats.md describes them."""

    capture: CaptureManifest
    policy: Policy
    inputs: Table
    reference: Table
    candidate: Table
    cast: Table | None = None
    """The source's answers to the inputs as cast to the wire; None = the cast is exact."""
    annotations: Table = field(default_factory=dict)
    answered: Array | None = None
    """(rows,) bool: which rows the candidate answered; None = all."""
    refusal: str | None = None
    """The server's message for the first row that it did not answer."""
    batches: tuple[BatchAnswers, ...] = ()
    probes: Table = field(default_factory=dict)
    probes_reference: Table = field(default_factory=dict)
    probe_answers: tuple[ProbeAnswer, ...] = ()
    offer: Offer | None = None
    """None = it was not asked."""
    manifest: CandidateManifest | None = None

    @property
    def rows(self) -> int:
        """Rows of the dataset."""
        return self.capture.rows

    @cached_property
    def units(self) -> Array:
        """(rows,) integers from 0: rows with one number are one observation, by group or because they are equal."""
        group = self.policy.validation.dataset.group
        if group is not None and group in self.annotations:
            return codes_of(self.annotations[group])[0]
        return factorized(self.input_hashes)[0]

    @cached_property
    def input_hashes(self) -> Array:
        """(rows,) integers that are equal where all inputs of rows are."""
        return row_hashes(list(self.inputs.values()), self.rows)

    @cached_property
    def unit_count(self) -> int:
        """Distinct rows, or groups."""
        return count_units(self.units)

    @property
    def unit_name(self) -> str:
        """What `unit_count` counts, for people."""
        group = self.policy.validation.dataset.group
        return "groups" if group is not None and group in self.annotations else "rows"

    @cached_property
    def unanswered(self) -> Array:
        """(rows,) bool."""
        return np.zeros(self.rows, dtype=bool) if self.answered is None else ~self.answered

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Outputs that both sides answered in one shape, in the order of the signature."""
        pairs = []
        for output in self.capture.signature.outputs:
            reference, candidate = self.reference.get(output.name), self.candidate.get(output.name)
            if reference is None or candidate is None or not same_layout(reference, candidate):
                continue
            pairs.append(Pair(output, reference, candidate, self.tolerance(output)))
        return tuple(pairs)

    @cached_property
    def _tolerances(self) -> dict[str, Tolerance | None]:
        noise = {entry.output: entry for entry in self.capture.noise}
        return {
            output.name: tolerance_of(
                output,
                self.reference[output.name],
                self.capture.source_datatypes.get(output.name),
                noise.get(output.name),
                self.policy.validation.numeric,
            )
            for output in self.capture.signature.outputs
            if output.name in self.reference
        }

    def tolerance(self, output: OutputSignature) -> Tolerance | None:
        """τ of an output; None = compared exactly."""
        if output.role is OutputRole.LABEL:
            return None
        return self._tolerances.get(output.name)

    @cached_property
    def errors(self) -> dict[str, RowErrors]:
        """Output → error of each row, of the numeric pairs."""
        return {
            pair.output.name: row_errors(pair.reference, pair.candidate, pair.tolerance)
            for pair in self.pairs
            if pair.tolerance is not None
        }

    def with_candidate(self, candidate: Table) -> Evidence:
        """The same evidence with other answers of the candidate; what does not depend on them is kept."""
        changed = replace(self, candidate=candidate)
        for name in ("units", "unit_count", "input_hashes", "_tolerances"):
            if name in self.__dict__:
                changed.__dict__[name] = self.__dict__[name]
        return changed


def count_units(units: Array) -> int:
    """Distinct values of non-negative integers."""
    return int(np.count_nonzero(np.bincount(units))) if len(units) else 0


def codes_of(column: Any) -> tuple[Array, list[object]]:
    """(rows,) codes from 0 and the value of each code, missing values as one value; in order of first appearance."""
    values = column.values() if isinstance(column, Category) else np.asarray(column)
    if is_ragged(values):
        values = row_hashes([values], len(values))
    elif values.ndim > 1:
        flattened = cells(values)
        values = flattened[:, 0] if flattened.shape[1] == 1 else row_hashes([flattened], len(values))
    return factorized(values)
