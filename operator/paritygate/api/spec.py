"""The spec of a ModelMigration: what the user asks for."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from paritygate.api import rules
from paritygate.api.base import (
    LIST_SET,
    DecimalString,
    Digest,
    DurationString,
    Model,
    ProbabilityString,
    list_map,
)

ColumnName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)]
TensorName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)]
Uri = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=2048)]
Requirement = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9]", min_length=1, max_length=512)]
PythonVersion = Annotated[str, StringConstraints(strict=True, pattern=r"^3\.[0-9]{1,2}$", max_length=8)]
Method = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
Confidence = Annotated[str, StringConstraints(strict=True, pattern=r"^0\.[5-9][0-9]{0,4}$", max_length=8)]
RunID = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]+$", max_length=63)]
Callable_ = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=256)
]
ObjectName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
ServiceName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)
]
ImageName = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\s]+$", min_length=1, max_length=512)]
Argument = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]
LabelValue = Annotated[str, StringConstraints(strict=True, max_length=63)]
Quantity = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$", min_length=1, max_length=32
    ),
]
ENVIRONMENT_VARIABLE: Final = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
OBJECT_STORE: Final = r"^(s3|gs|az)://[^/]+(/.*)?$"
ANY_SIZE: Final = -1
"""A dimension that may have any size."""


class SourceFormat(StrEnum):
    """How the source model is stored, and with it which framework runs it."""

    SKLEARN = "SKLearn"
    XGBOOST = "XGBoost"
    LIGHTGBM = "LightGBM"
    PYTORCH = "PyTorch"
    TORCHSCRIPT = "TorchScript"
    TORCHEXPORT = "TorchExport"
    ONNX = "ONNX"


class TargetFormat(StrEnum):
    """What the model becomes."""

    ONNX = "ONNX"


class Equivalence(StrEnum):
    """In what sense a candidate must equal the source; decides which checks block.

    `NUMERIC`: every answer within tolerance. `DECISION`: the same decisions, within the flip budget.
    `METRIC`: as good at the task, within the margin; needs labels.
    """

    NUMERIC = "Numeric"
    DECISION = "Decision"
    METRIC = "Metric"


class Task(StrEnum):
    """What the model's outputs mean, and with it which decisions and metrics apply."""

    CLASSIFICATION = "Classification"
    REGRESSION = "Regression"
    RANKING = "Ranking"
    EMBEDDING = "Embedding"
    GENERIC = "Generic"


class Datatype(StrEnum):
    """The tensor datatypes of the Open Inference Protocol."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    BF16 = "BF16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"


Dimension = Annotated[int, Field(ge=ANY_SIZE, le=2**31 - 1)]


class InputTensor(Model):
    """An input as the candidate takes it over the wire. States what is otherwise inferred from model and dataset."""

    name: TensorName
    datatype: Datatype
    shape: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=8)]


class OutputTensor(Model):
    """An output as the candidate gives it over the wire. A name alone renames the output at the same position."""

    name: TensorName
    datatype: Datatype | None = None
    shape: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=8)] | None = None


InputTensors = Annotated[
    tuple[InputTensor, ...], Field(min_length=1, max_length=256, json_schema_extra=list_map("name"))
]
OutputTensors = Annotated[
    tuple[OutputTensor, ...], Field(min_length=1, max_length=64, json_schema_extra=list_map("name"))
]


class VirtualEnvironment(Model):
    """A Python environment that is solved and built once, and kept by the digest of its solution."""

    requirements: Annotated[
        tuple[Requirement, ...],
        Field(min_length=1, max_length=200),
    ]
    """Requirement specifiers (PEP 508), such as 'scikit-learn==1.2.2'."""
    python: PythonVersion | None = None
    """Python version of the environment; None = the version that runs ParityGate."""


class EnvironmentVariable(Model):
    """A variable of a container's environment. Secrets have no place here: untrusted code reads it."""

    name: Annotated[str, StringConstraints(strict=True, pattern=ENVIRONMENT_VARIABLE, max_length=256)]
    value: Annotated[str, StringConstraints(strict=True, max_length=4096)] = ""


class EnvironmentImage(Model):
    """A container image in which the source runs today. In a cluster only."""

    name: ImageName
    command: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=16)] = ("python3",)
    """How its Python is started; it needs numpy and the source's framework."""
    env: Annotated[tuple[EnvironmentVariable, ...], Field(max_length=64, json_schema_extra=list_map("name"))] = ()
    run_as_user: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """User id to run as; None = ParityGate's own. Root is refused."""
    pull_secrets: Annotated[tuple[ObjectName, ...], Field(max_length=8, json_schema_extra=LIST_SET)] = ()
    """Secrets of the namespace, labelled for ParityGate, with which the image is pulled."""


class SourceEnvironment(Model):
    """Where the source runs while its answers are captured."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.SOURCE_ENVIRONMENT

    image: EnvironmentImage | None = None
    virtualenv: VirtualEnvironment | None = None
    """On one machine only."""


class RecordedCapture(Model):
    """Reference answers recorded elsewhere with `paritygate capture`."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.ADDRESS

    uri: Uri
    digest: Digest | None = None


class Source(Model):
    """The model as it runs today."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.SOURCE

    format: SourceFormat
    uri: Uri
    """File or folder; a path is relative to the manifest, and for one machine only."""
    digest: Digest | None = None
    """What the bytes must hash to; None = pinned at first sight."""
    environment: SourceEnvironment | None = None
    """None = the converter's own environment, with a finding when framework versions differ."""
    capture: RecordedCapture | None = None
    loader: Callable_ | None = None
    """PyTorch: `module:callable` inside the folder that returns the module."""
    call: Method | None = None
    """The one method to migrate, such as `predict_proba`; None = all that the format's outputs need."""
    inputs: InputTensors | None = None
    """Names, datatypes and shapes of the candidate's inputs; None = inferred from model and dataset."""
    outputs: OutputTensors | None = None
    """Names of the candidate's outputs, by position; datatype and shape where they differ from what is inferred."""


class BroughtCandidate(Model):
    """An artefact made elsewhere: nothing is converted, it is only judged."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.ADDRESS

    uri: Uri
    digest: Digest | None = None
    equivalence: Equivalence


class Target(Model):
    """What the model is to become."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.TARGET

    format: TargetFormat
    opset: Annotated[int, Field(ge=13, le=26)] | None = None
    """ONNX opset; None = the oldest that suffices and that the serving runtime reads."""
    equivalence: Equivalence | None = None
    """In what sense the conversion must equal the source; None = Numeric."""
    candidate: BroughtCandidate | None = None


class Slice(Model):
    """A column whose values split the rows; each value is judged by itself."""

    column: ColumnName
    critical: bool = False
    """Critical: each value must meet the budget. Otherwise only evidence of harm fails the check."""
    max_drop: ProbabilityString | None = None
    max_flip_rate: ProbabilityString | None = None


class Dataset(Model):
    """Held-out rows that the source and the candidate both answer."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.DATASET

    uri: Uri
    digest: Digest | None = None
    label: ColumnName | None = None
    group: ColumnName | None = None
    """Rows with one value in this column are not independent and count as one."""
    slices: Annotated[tuple[Slice, ...], Field(max_length=32, json_schema_extra=list_map("column"))] = ()


class OutputTolerance(Model):
    """Tolerances of one output."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.OUTPUT_TOLERANCE

    name: TensorName
    rtol: DecimalString | None = None
    atol: DecimalString | None = None


class Numeric(Model):
    """Tolerances of element errors; None = derived from datatypes and the source's own noise."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.NUMERIC

    rtol: DecimalString | None = None
    atol: DecimalString | None = None
    outputs: Annotated[tuple[OutputTolerance, ...], Field(max_length=64, json_schema_extra=list_map("name"))] = ()


class Decisions(Model):
    """What counts as a decision and how many may change."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.DECISIONS

    max_flip_rate: ProbabilityString = "0.01"
    max_tie_rate: ProbabilityString = "0.02"
    thresholds: Annotated[tuple[DecimalString, ...], Field(max_length=16, json_schema_extra=LIST_SET)] = ()
    """Probabilities (binary or per class) or predictions at which the user decides."""
    top_k: Annotated[int, Field(ge=1, le=1000)] = 1
    group_by: ColumnName | None = None
    """Ranking: rows with one value in this column are one list."""


class MetricName(StrEnum):
    """Task metrics, computed on labelled rows."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"
    F1 = "f1"
    ROC_AUC = "roc_auc"
    LOG_LOSS = "log_loss"
    BRIER = "brier"
    RMSE = "rmse"
    MAE = "mae"
    R2 = "r2"
    NDCG = "ndcg"


class Metric(Model):
    """A metric and how far the candidate may fall behind the source."""

    name: MetricName
    max_drop: DecimalString | None = None
    """Absolute non-inferiority margin δ, in the metric's units; required under equivalence Metric."""


class Validation(Model):
    """How the candidate is judged."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.VALIDATION

    task: Task | None = None
    dataset: Dataset
    numeric: Numeric = Numeric()
    decisions: Decisions = Decisions()
    metrics: Annotated[tuple[Metric, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = ()
    confidence: Confidence = "0.95"
    """Of every statistical bound; shared among the slices and candidates that are judged together."""


class Resources(Model):
    """What a container is promised, and what it may take at most."""

    requests: Annotated[dict[str, Quantity], Field(max_length=8)] = {}
    limits: Annotated[dict[str, Quantity], Field(max_length=8)] = {}


class JobPod(Model):
    """Where the pods of one kind of Job run. In a cluster only."""

    resources: Resources | None = None
    """Of each container but the candidate's; None = what the operator's configuration says."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] = {}


class Jobs(Model):
    """Limits of the work that a migration starts."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.JOBS

    deadline: DurationString = "1h"
    """How long one stage may run before it is stopped and the migration ends with Error."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often a stage that failed for reasons outside the migration is tried again."""
    queue_name: LabelValue | None = None
    """Local queue of Kueue that the Jobs wait in; None = started at once."""
    service_account_name: ObjectName | None = None
    """Of the pods, for image pull secrets; it must be labelled for ParityGate. No token is ever mounted."""
    runtime_class_name: ObjectName | None = None
    """Runtime that separates untrusted code further, such as 'gvisor'."""
    convert: JobPod = JobPod()
    validate_: JobPod = Field(default=JobPod(), alias="validate")


class ObjectStorage(Model):
    """Artefacts in an object store."""

    uri: Annotated[str, StringConstraints(strict=True, pattern=r"^(s3|gs|az)://[^/]+(/.*)?$", max_length=1024)]
    """Bucket and prefix, such as s3://bucket/prefix."""
    secret_name: ObjectName | None = None
    """Secret of the namespace, labelled for ParityGate, whose keys are the store's settings; None = no credentials."""


class AccessMode(StrEnum):
    """By how many nodes a volume may be mounted at once."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class ClaimTemplate(Model):
    """A volume claim that is made for this migration."""

    access_modes: Annotated[tuple[AccessMode, ...], Field(min_length=1, max_length=2, json_schema_extra=LIST_SET)]
    storage_class_name: ObjectName | None = None
    size: Quantity


class Storage(Model):
    """Where artefacts are kept. One of."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.STORAGE

    object: ObjectStorage | None = None
    claim_name: ObjectName | None = None
    """A volume claim of the namespace."""
    claim_template: ClaimTemplate | None = None


class ResourceName(StrEnum):
    """What an autoscaler can look at without further parts in the cluster."""

    CPU = "cpu"
    MEMORY = "memory"


class MetricTarget(Model):
    """How much of what was requested shall be used."""

    type: Literal["Utilization"] = "Utilization"
    average_utilization: Annotated[int, Field(ge=1, le=1000)]


class ResourceMetric(Model):
    """Use of a resource, over all replicas."""

    name: ResourceName
    target: MetricTarget


class ScalingMetric(Model):
    """A metric of autoscaling/v2; only resources are taken."""

    type: Literal["Resource"] = "Resource"
    resource: ResourceMetric


class Autoscaling(Model):
    """How many replicas serve, by load."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.AUTOSCALING

    min_replicas: Annotated[int, Field(ge=1, le=1000)] = 2
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    metrics: Annotated[tuple[ScalingMetric, ...], Field(min_length=1, max_length=2)] = (
        ScalingMetric(resource=ResourceMetric(name=ResourceName.CPU, target=MetricTarget(average_utilization=80))),
    )


class Serving(Model):
    """How a candidate that passed serves. In a cluster only."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.SERVING

    service_name: ServiceName | None = None
    """Of the Service that clients use; None = the migration's name."""
    replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """None = 2, or what autoscaling says."""
    autoscaling: Autoscaling | None = None
    resources: Resources | None = None
    """Of each replica, and of the candidate while it is judged; None = what the operator's configuration says."""


class Strategy(StrEnum):
    """What happens to traffic once a candidate passed."""

    BLUE_GREEN = "BlueGreen"
    VALIDATE_ONLY = "ValidateOnly"


class Rollout(Model):
    """How a candidate that passed comes to serve. In a cluster only."""

    strategy: Strategy = Strategy.BLUE_GREEN


class DeletionPolicy(StrEnum):
    """What becomes of serving objects when the migration is deleted. What was never promoted goes with it."""

    RETAIN = "Retain"
    DELETE = "Delete"


class ModelMigrationSpec(Model):
    """What to migrate, to what, and how to judge it."""

    RULES: ClassVar[tuple[rules.Rule, ...]] = rules.SPEC

    source: Source
    target: Target
    validation: Validation
    rollout: Rollout = Rollout()
    serving: Serving = Serving()
    storage: Storage | None = None
    """None = what the operator's configuration says; not read on one machine."""
    jobs: Jobs = Jobs()
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    suspend: bool = False
    """Stop work, and keep serving what serves."""
    run_id: RunID | None = Field(default=None, alias="runID")
    """Change it to run again without another change."""

    @property
    def input_uris(self) -> dict[str, str]:
        """Field → address of everything that the work begins with."""
        capture, candidate = self.source.capture, self.target.candidate
        return {
            "spec.source.uri": self.source.uri,
            "spec.validation.dataset.uri": self.validation.dataset.uri,
            **({"spec.source.capture.uri": capture.uri} if capture else {}),
            **({"spec.target.candidate.uri": candidate.uri} if candidate else {}),
        }

    @property
    def equivalence(self) -> Equivalence:
        """The equivalence that the one candidate of this migration is judged by."""
        stated = self.target.candidate.equivalence if self.target.candidate else self.target.equivalence
        return stated or Equivalence.NUMERIC
