"""Evidence about one candidate: the `ParityReport`, and its `EvidenceSummary` of at most 2 KiB.

A report is deterministic: it holds no clock readings, host names or paths, so the same inputs give the same bytes
and the same digest. The results in it follow from the numbers in it by `paritygate.core.verdict` alone.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from paritygate.api.base import API_VERSION, Digest, Model
from paritygate.api.spec import Datatype, Equivalence, SourceFormat, Task


class Verdict(StrEnum):
    """What follows from the evidence. Only `PASSED` opens the gate."""

    PASSED = "Passed"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


class CheckName(StrEnum):
    """The checks of the gate, in the order in which they are reported."""

    CONTRACT = "contract"
    NOISE_FLOOR = "noise-floor"
    NUMERIC = "numeric"
    INPUT_CONTRACT = "input-contract"
    DECISIONS = "decisions"
    METRICS = "metrics"
    SLICES = "slices"
    PROBES = "probes"
    VACUITY = "vacuity"


class Gap(StrEnum):
    """Where a difference between source and candidate comes from."""

    INPUT_CAST = "InputCast"
    """The wire's datatype cannot carry the input exactly."""
    CONVERTER = "Converter"
    """The conversion changed the computation."""
    CANDIDATE = "Candidate"
    """The artefact was made elsewhere, or is not meant to be equal."""


def _without_numbers_beyond_json(value: object) -> object:
    """`value` with NaN and infinities, at any depth, as the words that stand for them in all our JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {name: _without_numbers_beyond_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_numbers_beyond_json(part) for part in value]
    return value


Shown = Annotated[object, AfterValidator(_without_numbers_beyond_json)]
"""Any JSON value, such as a model's answer; NaN and infinities are kept as 'NaN', 'Infinity' and '-Infinity'."""


class WorstRow(Model):
    """One row on which source and candidate differ most."""

    row: int
    """Index in the dataset, or in the probes where `probe` is set; from 0."""
    probe: str | None = None
    """What the probe row tries, such as 'NaN in age'; None = a row of the dataset."""
    input: dict[str, Shown]
    """The row's input by column; long tensors are cut."""
    reference: Shown
    """The source's answer."""
    candidate: Shown
    """The candidate's answer."""
    error: float | None = None
    """Largest absolute difference in this row, in the output's unit; None = not a number to subtract."""
    margin: float | None = None
    """By how much the source's decision was made; None where there is no decision."""


class Measurement(Model):
    """One judged number.

    An exact measurement has neither `lower` nor `upper` and passes when `measured` ≤ `limit`. A statistical one has
    both, the confidence bounds of `measured`, and passes when `upper` ≤ `limit` and fails when `lower` > `limit`.
    """

    subject: str
    """What was measured: an output, decision, metric or slice, such as 'probabilities[1]' or 'country=DE: accuracy'."""
    statistic: str
    """The number's name and unit, such as 'flip rate' or 'largest error / tolerance'."""
    rows: Annotated[int, Field(ge=0)]
    """Distinct rows, or groups where the dataset states them, that the number speaks for."""
    measured: float | None = None
    lower: float | None = None
    upper: float | None = None
    limit: float | None = None
    """None = reported only."""
    blocking: bool
    """Whether the verdict depends on it, under the candidate's equivalence."""
    unjudged: str | None = None
    """Why the data cannot tell, such as too few rows on one side of a threshold; None = it can."""
    rows_needed: int | None = None
    """Rows for 80 % power, where the number is inconclusive."""
    smallest_damage: str | None = None
    """The smallest damage that this run would have caught, as a clause: '7 flipped rows in 2,000'."""
    message: str | None = None
    """What a person should know about this number, one sentence."""
    worst: Annotated[tuple[WorstRow, ...], Field(max_length=10)] = ()


class Check(Model):
    """One check with its measurements."""

    name: CheckName
    result: Verdict
    blocking: bool
    """Whether any of its measurements blocks."""
    message: str
    """One sentence with the decisive number, its bound and its limit."""
    measurements: tuple[Measurement, ...] = ()


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"


class Finding(Model):
    """A rule that matched while the model was assessed, captured, converted or judged."""

    rule: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]*(-[A-Z0-9]+)*$", max_length=64)]
    """Stable identifier, such as HGB-CATEGORICAL; docs/reference/findings.md explains each."""
    severity: Severity
    message: str
    """What was found."""
    why: str
    """Why it matters."""
    action: str
    """What ParityGate did about it, or what the user should do."""


class Environment(Model):
    """Where one side ran: versions of what can change an answer."""

    python: str
    platform: str
    """Operating system and architecture, such as 'Linux x86_64'."""
    packages: dict[str, str]
    """Distribution name → version."""
    digest: Digest | None = None
    """Of the environment's lock, or the image; None = given from outside."""
    options: dict[str, str] = {}
    """Session options and arguments of the serving runtime."""


class Subject(Model):
    """What this report speaks of. A verdict counts for exactly these bytes and options and nothing else."""

    source: Digest
    dataset: Digest
    capture: Digest
    candidate: Digest
    runtime: Digest
    """Of the serving runtime's identity: server version, onnxruntime version and options."""
    policy: Digest
    """Of the parts of the spec that judge."""


class TensorSignature(Model):
    """A tensor on the wire."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    """-1 = any size; the first dimension is the batch."""


class OutputRole(StrEnum):
    """What an output means; decides which checks apply to it."""

    LABEL = "Label"
    PROBABILITIES = "Probabilities"
    SCORES = "Scores"
    PREDICTION = "Prediction"
    TRANSFORMED = "Transformed"
    TENSOR = "Tensor"


class OutputSignature(TensorSignature):
    """An output tensor and what it means."""

    role: OutputRole = OutputRole.TENSOR
    classes: tuple[str | int | float | bool, ...] | None = None
    """Labels in the order of the last axis of probabilities or scores; None = not a classifier's."""


class Signature(Model):
    """Inputs and outputs on the wire."""

    inputs: tuple[TensorSignature, ...]
    outputs: tuple[OutputSignature, ...]


class Histogram(Model):
    """Counts of errors in logarithmic bins, for a plot."""

    output: str
    edges: tuple[float, ...]
    """Bin edges in units of tolerance τ, ascending; one more than `counts`."""
    counts: tuple[int, ...]
    zeros: int
    """Rows with no error at all."""


class Scatter(Model):
    """Source against candidate, for a plot of flips; at most 2,000 points, flips kept first."""

    subject: str
    reference: tuple[float, ...]
    candidate: tuple[float, ...]
    flipped: tuple[bool, ...]
    threshold: float | None = None


class Plots(Model):
    """Data of the report's pictures."""

    errors: tuple[Histogram, ...] = ()
    flips: tuple[Scatter, ...] = ()


class Diagnosis(Model):
    """Why a candidate did not pass, and what to do."""

    check: CheckName
    where: str
    """Pipeline step, output and slice, as far as they could be told apart."""
    gap: Gap | None = None
    """None = could not be attributed."""
    first_divergence: str | None = None
    """The first tensor or step whose values differ, where it was found."""
    reproduce: str
    """One command that shows the difference again."""
    try_next: str
    """The one thing to try first."""


class NotJudged(Model):
    """Something that this run says nothing about."""

    what: str
    why: str


class ParityReport(Model):
    """All evidence about one candidate, and the verdict that follows from it."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["ParityReport"] = "ParityReport"
    migration: str
    candidate: str
    """Name of the candidate: 'plain' for the conversion, 'brought' for target.candidate."""
    format: SourceFormat
    framework: str
    """Such as 'scikit-learn 1.2.2'."""
    equivalence: Equivalence
    task: Task
    confidence: float
    rows: int
    """Rows of the dataset."""
    verdict: Verdict
    sentence: str
    """The verdict in one sentence, with numbers and bounds."""
    subject: Subject
    signature: Signature
    source_environment: Environment
    candidate_environment: Environment
    checks: tuple[Check, ...]
    smallest_damage: str | None = None
    """The smallest damage over all blocking checks that this run would have caught."""
    diagnosis: Diagnosis | None = None
    """None = passed."""
    findings: tuple[Finding, ...] = ()
    not_judged: tuple[NotJudged, ...] = ()
    plots: Plots = Plots()


class SummaryLine(Model):
    """The decisive measurement of one check."""

    name: CheckName
    result: Verdict
    blocking: bool
    measured: float | None = None
    limit: float | None = None
    rows: int = 0


class EvidenceSummary(Model):
    """What a validate stage hands to the one who decides: at most 2,048 bytes of JSON, bound to digests."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["EvidenceSummary"] = "EvidenceSummary"
    stage: Digest
    """The stage digest that was asked for."""
    subject: Subject
    report: Digest
    """Of the report's canonical JSON."""
    candidate: str
    equivalence: Equivalence
    verdict: Verdict
    checks: tuple[SummaryLine, ...]
