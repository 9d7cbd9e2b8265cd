"""Waiting to be told what to do: a process imports what it will need while other work goes on, and then waits."""

import contextlib
import importlib
import json
import os
import sys

_FRAMEWORKS = {
    "SKLearn": ("sklearn.ensemble", "sklearn.pipeline", "sklearn.preprocessing"),
    "LightGBM": ("lightgbm",),
    "XGBoost": ("xgboost",),
    "PyTorch": ("torch",),
    "TorchScript": ("torch",),
    "TorchExport": ("torch",),
    "ONNX": ("onnxruntime",),
}
"""What loading a model of a format imports in any case, or nearly so."""


def of_source(source_format):
    """Modules that answering for a source imports."""
    return ("paritygate.agent.capture",) + _FRAMEWORKS.get(source_format, ())


def prepare(modules):
    """Imports `modules`. What cannot be imported is told of by the work, which knows what it is for."""
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)


def told():
    """The arguments that are told on standard input; None = nobody will.

    They come as one line of JSON with `arguments`, `environment` (variables to set), `log` (a file to which both
    streams go from then on) and, if standard output goes elsewhere, `output`.
    """
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        return None
    said = json.loads(line)
    sys.stdout.flush()
    sys.stderr.flush()
    for stream, path in ((1, said.get("output") or said["log"]), (2, said["log"])):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.dup2(file, stream)
        os.close(file)
    os.environ.update(said["environment"])
    return [str(argument) for argument in said["arguments"]]
