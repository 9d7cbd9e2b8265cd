"""A worker that imports what its stage will need before it is told what to do, while another stage is at work."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from typing import Final

_STAGES: Final = {
    "convert": ("paritygate.worker.convert",),
    "validate": ("paritygate.worker.validate", "paritygate.report.html"),
}
_FORMATS: Final = {
    "SKLearn": ("paritygate.worker.sources.sklearn", "sklearn.ensemble", "sklearn.pipeline", "sklearn.preprocessing"),
    "LightGBM": ("paritygate.worker.sources.lightgbm",),
    "XGBoost": ("paritygate.worker.sources.xgboost",),
    "PyTorch": ("paritygate.worker.sources.pytorch",),
    "TorchExport": ("paritygate.worker.sources.torchexport",),
    "TorchScript": ("paritygate.worker.sources.torchscript",),
    "ONNX": ("paritygate.worker.sources.onnx",),
}
"""What a conversion from a format imports: our converter, and the library whose objects most models are made of."""


def wait(stage: str, source_format: str) -> list[str] | None:
    """The arguments of the stage, once they are told on standard input; None = nobody will.

    They come as one line of JSON with `arguments`, `environment` (variables to set) and `log` (a file to which both
    streams go from then on).
    """
    for module in (*_STAGES[stage], *(_FORMATS.get(source_format, ()) if stage == "convert" else ())):
        # What cannot be imported is told of by the stage, which knows what it is for.
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return None
    told = json.loads(line)
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.environ.update(told["environment"])
    return [str(argument) for argument in told["arguments"]]
