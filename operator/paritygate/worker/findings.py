"""Rules for what is known to go wrong silently, their reasons and what is done about them.

docs/reference/findings.md holds a heading for each, with the same text. What finds them stands where the facts are:
in the assessment of a format, in a converter, or in the stage that sees the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from paritygate.api.report import Finding, Severity

RULES: Final[dict[str, Rule]] = {}
"""Every rule of the worker by its identifier."""


@dataclass(frozen=True)
class Rule:
    """Something known to go wrong."""

    identifier: str
    severity: Severity
    why: str
    """Why it matters."""
    action: str
    """What ParityGate does about it, or what the user should do."""

    def found(self, message: str) -> Finding:
        """The finding that the rule matched; `message` says on what."""
        return Finding(rule=self.identifier, severity=self.severity, message=message, why=self.why, action=self.action)


def rule(identifier: str, severity: Severity, *, why: str, action: str) -> Rule:
    """Declares a rule."""
    RULES[identifier] = Rule(identifier, severity, why, action)
    return RULES[identifier]


PICKLE_SUSPICIOUS_IMPORT = rule(
    "PICKLE-SUSPICIOUS-IMPORT",
    Severity.ERROR,
    why="Loading a pickle runs what it imports; models need no shell, no processes and no evaluation of text.",
    action="Find out where the file comes from before it is loaded anywhere; ParityGate loads it only where the "
    "model's answers are captured and where it is converted.",
)
CUSTOM_CODE = rule(
    "CUSTOM-CODE",
    Severity.WARNING,
    why="The file names code that is not in it: it can only be loaded where that code is installed, and no "
    "converter knows it.",
    action="Bring a folder with the model and its code as source.uri, or install the package in source.environment. "
    "If a step cannot be converted, do it in the client or bring target.candidate.",
)
VERSION_DIFFERS = rule(
    "VERSION-DIFFERS",
    Severity.WARNING,
    why="A model loaded by another version than wrote it may answer differently, without any error.",
    action="State source.environment.virtualenv with the version that wrote the model, so that its answers are "
    "captured as they are today.",
)
FUNCTION_TRANSFORMER = rule(
    "FUNCTION-TRANSFORMER",
    Severity.WARNING,
    why="A FunctionTransformer holds a Python function by name; converters know only some numpy functions.",
    action="Functions that are known are converted exactly, others are refused by name; move those to the client.",
)
HGB_CATEGORICAL = rule(
    "HGB-CATEGORICAL",
    Severity.WARNING,
    why="Its categorical splits send sets of categories to one side. skl2onnx writes them as numeric thresholds, "
    "without an error (sklearn-onnx issue 1051): answers are silently wrong.",
    action="ParityGate's own conversion writes the splits as they are. An artefact exported with skl2onnx must be made "
    "anew: remove target.candidate.",
)
FOREST_TIES = rule(
    "FOREST-TIES",
    Severity.INFO,
    why="Averaged votes of an even number of trees tie exactly; summed in single precision, or in another order, "
    "ties break differently and labels flip although all probabilities agree.",
    action="Trees are converted in double precision, added in the source's order, and the label is the first class "
    "with the highest score.",
)
SCALER_CANCELLATION = rule(
    "SCALER-CANCELLATION",
    Severity.INFO,
    why="A scaler subtracts a mean from values that may be much larger than their spread; in single precision that "
    "loses the digits which matter.",
    action="Scaling is converted in double precision. If clients send FP32, the check input-contract shows what is "
    "lost; state source.inputs with datatype FP64.",
)
TEXT_TOKENIZER = rule(
    "TEXT-TOKENIZER",
    Severity.INFO,
    why="Python's regular expressions, lower-casing and accents differ from what ONNX offers for text.",
    action="The tokenizers that ONNX can express are converted, others are refused; texts of the dataset are compared.",
)
ONNX_UPGRADED = rule(
    "ONNX-UPGRADED",
    Severity.INFO,
    why="The file uses an operator set older than ParityGate serves; the runtime may treat its operators differently.",
    action="It was raised to the oldest served version; the gate judges the result as any other.",
)
ONNX_FIXED_BATCH = rule(
    "ONNX-FIXED-BATCH",
    Severity.ERROR,
    why="The graph takes batches of one size only, and requests bring any number of rows.",
    action="The conversion refuses it. Export it with a dynamic batch dimension.",
)
UNKNOWN_CATEGORIES = rule(
    "UNKNOWN-CATEGORIES",
    Severity.INFO,
    why="An encoder with handle_unknown='error' refuses values that it has not seen; an ONNX model would answer them.",
    action="The server refuses such values before the candidate sees them.",
)
FLOAT64_ABOVE_2_24 = rule(
    "FLOAT64-ABOVE-2-24",
    Severity.WARNING,
    why="FP32 holds whole numbers only up to 2^24 = 16,777,216: identifiers and epoch times beyond are rounded.",
    action="State source.inputs with datatype FP64 or INT64 for these inputs; the check input-contract measures the "
    "difference.",
)
LEGACY_UPGRADED = rule(
    "LEGACY-UPGRADED",
    Severity.WARNING,
    why="The model was written by an older version, whose objects lack what the converter's version expects.",
    action="What was added since is filled in as the older version behaved; the answers captured with the version "
    "that wrote it decide whether that was right.",
)
CANDIDATE_ADAPTED = rule(
    "CANDIDATE-ADAPTED",
    Severity.INFO,
    why="Clients keep the source's wire signature, and the brought artefact has another.",
    action="It is judged and served with these additions; export it with the source's names, datatypes and shapes to "
    "do without.",
)
FALLBACK_CONVERTER = rule(
    "FALLBACK-CONVERTER",
    Severity.INFO,
    why="For this class there is no conversion of ParityGate's own; skl2onnx's may compute in single precision.",
    action="Nothing needs to be done: the gate judges the result as any other.",
)
FLOAT64_THRESHOLDS = rule(
    "FLOAT64-THRESHOLDS",
    Severity.INFO,
    why="The usual ONNX tree operators hold thresholds and sums in single precision: values beside a threshold take "
    "the other branch.",
    action="Trees are converted with double thresholds and added in the source's order and precision.",
)
LGBM_CATEGORICAL = rule(
    "LGBM-CATEGORICAL",
    Severity.INFO,
    why="A split by categories tests membership in a set, and negative, missing and unseen values go right; "
    "common exports turn sets into long chains of comparisons in single precision.",
    action="Sets become tables that are read by category, with the same treatment of other values.",
)
LGBM_LINEAR_TREE = rule(
    "LGBM-LINEAR-TREE",
    Severity.ERROR,
    why="Leaves of linear trees are regressions, which no ONNX tree operator holds.",
    action="The conversion refuses it. Fit the model with linear_tree=false, or bring target.candidate.",
)
LGBM_ZERO_AS_MISSING = rule(
    "LGBM-ZERO-AS-MISSING",
    Severity.WARNING,
    why="Zeros take the way of missing values. onnxmltools and PMML exporters lose that without a word: most answers "
    "change, and accuracy hardly moves.",
    action="Zeros, and values up to 1e-35 that LightGBM rounds to zero, are turned into missing values in the graph.",
)
TORCH_BATCH_STATISTICS = rule(
    "TORCH-BATCH-STATISTICS",
    Severity.WARNING,
    why="Normalisation without running statistics uses those of the batch, so the answer to a row depends on the rows "
    "that it comes with.",
    action="The check contract compares batches of different sizes and shows it; train with track_running_stats=True.",
)
TORCH_CUDA = rule(
    "TORCH-CUDA",
    Severity.INFO,
    why="The file was saved from another device than the CPU, whose arithmetic differs in the last digits.",
    action="It is loaded, captured and converted on the CPU.",
)
TORCH_CUSTOM_CODE = rule(
    "TORCH-CUSTOM-CODE",
    Severity.INFO,
    why="The model is the folder's code as much as its weights: other code with the same weights is another model.",
    action="The digest of the source covers the whole folder.",
)
TORCH_DATA_DEPENDENT = rule(
    "TORCH-DATA-DEPENDENT",
    Severity.WARNING,
    why="A branch or loop in the code is frozen to one path by exporters that trace, without any error.",
    action="ParityGate never traces: torch.export refuses such code, and compiled TorchScript keeps its branches.",
)
TORCH_FROZEN_BATCH = rule(
    "TORCH-FROZEN-BATCH",
    Severity.ERROR,
    why="The program was exported for one batch size; requests of another size fail or, where sizes broadcast, are "
    "answered wrongly.",
    action="The conversion refuses it. Export it with dynamic_shapes={'x': {0: torch.export.Dim.DYNAMIC}}.",
)
TORCH_PICKLED_WEIGHTS = rule(
    "TORCH-PICKLED-WEIGHTS",
    Severity.WARNING,
    why="The weights file names classes beyond tensors; torch loads it only by running code from it.",
    action="Save the state dict alone, torch.save(module.state_dict(), …), or use safetensors.",
)
TORCH_SCRIPT_EXPORTER = rule(
    "TORCH-SCRIPT-EXPORTER",
    Severity.INFO,
    why="The TorchScript exporter is older and covers fewer operators, but keeps branches of compiled code.",
    action="Nothing needs to be done: the gate judges the result as any other.",
)
TORCH_TRAINING_MODE = rule(
    "TORCH-TRAINING-MODE",
    Severity.WARNING,
    why="Dropout and batch normalisation differ in training mode: answers are random, or depend on the batch.",
    action="TorchScript is put in evaluation mode. An exported program keeps its mode for good: export it again after "
    "module.eval().",
)
XGB_BEST_ITERATION = rule(
    "XGB-BEST-ITERATION",
    Severity.INFO,
    why="After early stopping the model predicts with fewer trees than it holds; exports that keep all answer "
    "differently.",
    action="Only the trees up to the best iteration are converted.",
)
XGB_CATEGORICAL = rule(
    "XGB-CATEGORICAL",
    Severity.INFO,
    why="Splits by categories test membership in a set, unseen codes go left and unseen names are refused; exports "
    "that hold thresholds only cannot say that.",
    action="Sets become tables that are read by category, and the server refuses names that were not seen in training.",
)
XGB_DART = rule(
    "XGB-DART",
    Severity.INFO,
    why="DART scales each tree by a weight of its own, which onnxmltools refuses or loses.",
    action="The weights are carried into the leaves.",
)
XGB_MISSING_VALUE = rule(
    "XGB-MISSING-VALUE",
    Severity.WARNING,
    why="The model reads a number as missing, and that number is stored only in the pickled estimator.",
    action="The number is turned into a missing value in the graph. Do not save this model as .json before migrating "
    "it: the number would be lost.",
)


def candidate_adapted(adaptations: Sequence[str]) -> Finding:
    """A brought artefact was given casts, reshapes or names."""
    return CANDIDATE_ADAPTED.found("; ".join(adaptations))
