"""What stages hand to each other: captures, candidates, receipts, and the requests that start a stage.

The folder layouts that these files head are described in docs/reference/formats.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from paritygate.api.base import API_VERSION, Digest, Model
from paritygate.api.report import Environment, EvidenceSummary, Finding, Signature
from paritygate.api.spec import (
    Equivalence,
    InputTensor,
    ModelMigrationSpec,
    OutputTensor,
    Source,
    SourceFormat,
    Target,
    Task,
    Validation,
)


class StageName(StrEnum):
    """Units of work with input digests and an output artefact, in order."""

    ASSESS = "Assess"
    CAPTURE = "Capture"
    CONVERT = "Convert"
    VALIDATE = "Validate"


class Assessment(Model):
    """What is known about a source model without loading it. `assessment.json`."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["Assessment"] = "Assessment"
    format: SourceFormat
    framework: str
    """Distribution name, such as 'scikit-learn'."""
    framework_version: str | None = None
    """As recorded in the file; None = the file does not say."""
    packages: dict[str, str] = {}
    """Versions of further packages that the file records."""
    digest: Digest
    size: int
    """Bytes of the file, or of the folder's files."""
    signature: Signature | None = None
    """None = only known once the model is loaded."""
    parameters: int | None = None
    """Learned numbers, where they can be counted without loading."""
    estimators: tuple[str, ...] = ()
    """Classes of the model's parts, outermost first, such as 'sklearn.pipeline.Pipeline'."""
    imports: tuple[str, ...] = ()
    """What a pickle imports, as 'module.name'; empty for formats that import nothing."""
    custom_code: tuple[str, ...] = ()
    """The part of `imports` that belongs to no known package."""
    hardware: tuple[str, ...] = ()
    """Needs such as 'cuda', as the file records them."""
    findings: tuple[Finding, ...] = ()


class Noise(Model):
    """How far the source is from itself over fixed repeats, for one output."""

    output: str
    floor: float
    """99.9th percentile of the absolute difference between repeats, in the output's unit."""
    columns: tuple[float, ...] = ()
    """The same for each column of the last axis; empty where there is one, or where they were not told apart."""
    rows: int
    """Rows that were repeated."""
    finer: bool = False
    """Whether the same arithmetic in double precision counts among the repeats."""
    stochastic: bool = False
    """Whether the same call, repeated without any change, gave another answer."""


class Probe(Model):
    """One probe row: what it tries and how the source took it."""

    description: str
    """Such as 'NaN in age'."""
    kind: str
    """nan, inf, zero, extreme, threshold, unseen-category or empty-batch."""
    inside_domain: bool
    """Whether every value lies in the range, and among the categories, of the dataset's rows. Only these block."""
    refused: str | None = None
    """The source's error, in one line; None = it answered."""
    noise: dict[str, float] = {}
    """Output name → largest absolute difference from the same arithmetic in double precision, in the output's unit;
    empty where that could not be had."""


class Step(Model):
    """A part of the source whose values were recorded, in the order in which they come about."""

    name: str
    """Path of a pipeline's step, such as 'prepare/numbers/scale', a module's, or a tensor's name."""
    kind: str
    """Its class, such as 'StandardScaler', or the operator."""
    recorded: bool = True
    """Whether `steps.npz` holds its values under its name; False = the last step, whose values are the outputs."""
    branches: tuple[str, ...] = ()
    """Paths of the parallel branches that it lies in, outermost first, such as 'prepare/numbers'."""


class Coverage(Model):
    """How much of the model the rows reach: leaves of trees, or known categories."""

    subject: str
    """The step or input, such as 'model' or 'country'."""
    kind: Literal["leaves", "categories"]
    total: int
    rows: int
    """How many of them some row of the dataset reaches."""
    probes: int
    """How many of the others some probe reaches."""
    examples: tuple[str, ...] = ()
    """Categories that no row shows, at most ten."""


class ProbedCells(Model):
    """An input with so many cells a row that probes change some of them only, and all of them at once."""

    input: str
    cells: int
    """Cells that probes change one at a time."""
    total: int
    """Cells of a row."""


class CaptureManifest(Model):
    """Head of a capture folder: what the source answered, in its own environment. `capture.json`."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["Capture"] = "Capture"
    format: SourceFormat
    framework: str
    framework_version: str
    source: Digest
    dataset: Digest
    rows: int
    columns: tuple[str, ...]
    """Names of the dataset's columns that the model takes, in the order in which it takes them."""
    task: Task
    signature: Signature
    """On the wire: what a candidate must offer."""
    source_datatypes: dict[str, str]
    """Output name → numpy dtype of the source's own answers, such as 'float64'."""
    cast_exact: bool
    """Whether every input value survived the cast to the wire's datatype; if so there is no `cast.npz`."""
    environment: Environment
    noise: tuple[Noise, ...]
    probes: tuple[Probe, ...] = ()
    probed_cells: tuple[ProbedCells, ...] = ()
    """Inputs of which probes change some cells only."""
    steps: tuple[Step, ...] = ()
    """What happens inside the source, for a few rows."""
    step_rows: tuple[int, ...] = ()
    """The dataset's rows that `steps.npz` holds, ascending."""
    steps_skipped: str | None = None
    """Why nothing inside the source was recorded; None = it was, or the capture is older."""
    coverage: tuple[Coverage, ...] = ()
    coverage_skipped: str | None = None
    """Why leaves and categories were not counted; None = they were, or there are none."""
    findings: tuple[Finding, ...] = ()


class CandidateStep(Model):
    """Where the values of a source's step are found in the graph."""

    name: str
    """As in the capture's `steps`."""
    tensors: tuple[str, ...]
    """Tensors of `model.onnx` that make up the step's columns side by side."""


class InputGuard(Model):
    """What the server refuses before the candidate sees it, because the source refuses it too."""

    input: str
    reject_nan: bool = False
    reject_infinite: bool = False
    nan_cells: tuple[int, ...] = ()
    """Cells of a row, counted in row-major order, in which NaN is refused although others take it."""
    infinite_cells: tuple[int, ...] = ()
    """The same for infinities."""
    allowed: tuple[str, ...] | None = None
    """BYTES inputs: the only values taken; None = any."""


class CandidateManifest(Model):
    """Head of a candidate folder. `candidate.json` beside `model.onnx`."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["Candidate"] = "Candidate"
    name: str
    model_name: str
    """Name under which the server offers it."""
    signature: Signature
    opset: int
    ir_version: int
    size: int
    """Bytes of the model with its external data."""
    guards: tuple[InputGuard, ...] = ()
    independent_rows: bool = False
    """Whether a server may answer a batch in parts: trees of our own conversion, in which no row depends on others."""
    converter: dict[str, str] = {}
    """Distribution name → version of what converted it; empty for a brought candidate."""
    steps: tuple[CandidateStep, ...] = ()
    """Boundaries of the source's steps, where the converter knows them."""
    findings: tuple[Finding, ...] = ()


class Receipt(Model):
    """Proof that a stage finished: its digest and what it made. Written last, so what it names is complete."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["Receipt"] = "Receipt"
    stage: StageName
    digest: Digest
    """The stage digest: recipe version, input digests and the part of the spec that changes the output."""
    output: Digest
    """Of the artefact folder."""
    summary: EvidenceSummary | None = None
    """Of a Validate stage."""


class FailureClass(StrEnum):
    """Who can do something about a failure."""

    INFRASTRUCTURE = "Infrastructure"
    """Retried: a full disk, exhausted memory, a lost process."""
    CONFIGURATION = "Configuration"
    """Not retried: the manifest, the model file or the dataset must change."""


class StageFailure(Model):
    """Why a stage did not finish. `failure.json` in the stage's output folder."""

    kind: Literal["StageFailure"] = "StageFailure"
    failure: FailureClass
    reason: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]+$", max_length=64)]
    """PascalCase, documented in docs/reference/reasons.md. Short: a container with foreign code may have written it."""
    message: str
    """What happened, where, and what to do."""


class AssessRequest(Model):
    """Asks to look at a model without loading it."""

    kind: Literal["AssessRequest"] = "AssessRequest"
    source: Source
    model: str
    """Path of the file or folder."""


class CaptureRequest(Model):
    """Asks the agent to record what the source answers. Read by `paritygate.agent`, which has no pydantic."""

    kind: Literal["CaptureRequest"] = "CaptureRequest"
    format: SourceFormat
    model: str
    """Path of the file or folder."""
    source_digest: Digest
    rows: str
    """Path of the dataset as a folder of columns (docs/reference/formats.md)."""
    dataset_digest: Digest
    label: str | None = None
    group: str | None = None
    slices: tuple[str, ...] = ()
    group_by: str | None = None
    """Ranking: the column that names the list of a row."""
    task: Task | None = None
    loader: str | None = None
    call: str | None = None
    inputs: tuple[InputTensor, ...] | None = None
    outputs: tuple[OutputTensor, ...] | None = None
    environment_digest: Digest | None = None


class ConvertRequest(Model):
    """Asks for a candidate, converted or brought."""

    kind: Literal["ConvertRequest"] = "ConvertRequest"
    source: Source
    target: Target
    model_name: str
    model: str | None = None
    """Path of the source model; None = it is not here: answers were recorded elsewhere and a candidate is brought."""
    brought: str | None = None
    """Path of the brought artefact."""
    capture: str
    """Path of the capture folder."""


class ValidateRequest(Model):
    """Asks to judge a candidate that is being served."""

    kind: Literal["ValidateRequest"] = "ValidateRequest"
    stage: Digest
    migration: str
    url: str
    """Base address of the server that offers the candidate; or `file:` and the path where its first line says it."""
    equivalence: Equivalence
    validation: Validation
    assessment: str
    """Path of the assessment folder."""
    capture: str
    """Path of the capture folder."""
    capture_digest: Digest
    candidate: str
    """Path of the candidate folder."""
    candidate_digest: Digest
    runtime_digest: Digest
    server_identity: Digest | None = None
    """What the server must say of itself, hashed; None = the runtime is known by its image, and is not asked."""
    reproduce: str
    """The command that shows a difference again, for the report."""


class InferRequest(Model):
    """Asks what a manifest for a model and a dataset would say."""

    kind: Literal["InferRequest"] = "InferRequest"
    model: str
    """Path of the file or folder."""
    dataset: str
    """Path of the file or folder."""
    source_uri: str
    """What the manifest is to call the model."""
    dataset_uri: str
    """What the manifest is to call the dataset."""
    label: str | None = None
    loader: str | None = None


class Inferred(Model):
    """One thing that was inferred, and why."""

    subject: str
    """Such as 'task'."""
    value: str
    because: str


class Inference(Model):
    """The spec that a model and a dataset suggest. `inference.json`."""

    api_version: Literal["paritygate.dev/v1alpha1"] = API_VERSION
    kind: Literal["Inference"] = "Inference"
    spec: ModelMigrationSpec
    inferred: tuple[Inferred, ...]
