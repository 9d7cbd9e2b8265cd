"""A worker that imports what its stage will need before it is told what to do, while another stage is at work."""

from __future__ import annotations

import contextlib
from typing import Final

from paritygate.agent import standby

_STAGES: Final = {
    "convert": ("paritygate.worker.convert",),
    "validate": ("paritygate.worker.validate",),
}
_TORCH: Final = (
    "paritygate.worker.sources._torch_export",
    # What torch.onnx.export imports when it is called.
    "torch.onnx._internal.exporter._compat",
    "torch.onnx._internal.exporter._torchlib.ops",
    "torch.export._trace",
    "onnxscript.function_libs.torch_lib.ops",
)
_FORMATS: Final = {
    "SKLearn": (
        "paritygate.worker.sources.sklearn",
        "paritygate.worker.sources._sklearn.legacy",
        "paritygate.worker.sources._sklearn.outputs",
        "sklearn.ensemble",
        "sklearn.pipeline",
        "sklearn.preprocessing",
    ),
    "LightGBM": ("paritygate.worker.sources.lightgbm",),
    "XGBoost": ("paritygate.worker.sources.xgboost",),
    "PyTorch": ("paritygate.worker.sources.pytorch", *_TORCH),
    "TorchExport": ("paritygate.worker.sources.torchexport", *_TORCH),
    "TorchScript": ("paritygate.worker.sources.torchscript", *_TORCH),
    "ONNX": ("paritygate.worker.sources.onnx",),
}
"""What a conversion from a format imports: our converter, and the library whose objects most models are made of."""


def wait(stage: str, source_format: str) -> list[str] | None:
    """The arguments of the stage, once they are told on standard input; None = nobody will."""
    modules = (*_STAGES[stage], *(_FORMATS.get(source_format, ()) if stage == "convert" else ()))
    standby.prepare(modules)
    if stage == "validate":
        with contextlib.suppress(ImportError):
            from paritygate.report import html  # noqa: PLC0415 - needs the extra `report`

            html.template()
    told: list[str] | None = standby.told()
    return told
