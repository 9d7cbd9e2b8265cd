"""Frameworks that can answer as a source, one module per source format.

The module of a format is its name in lower case, such as `sklearn` for SKLearn. It imports its framework only inside
functions and offers two functions:

    load(path, loader=None)   the framework's own object: an estimator, a Booster, an nn.Module, a session.
                              Converters call it too. AgentError: ModelUnreadable, WrongFormat, PackageMissing,
                              LoaderFailed.
    adapt(native, request)    that object as a `Model` (frameworks/model.py); `request` is the CaptureRequest as a
                              dict with camelCase keys.

What a `Model` does with a dataset is described in its class; adding a format is adding a module here and one in
`paritygate.worker.sources`.
"""

import importlib

from paritygate.agent.failures import AgentError

FORMATS = ("SKLearn", "XGBoost", "LightGBM", "PyTorch", "TorchScript", "TorchExport", "ONNX")


def framework_module(source_format):
    """The module of a format. AgentError: there is no such format."""
    if source_format not in FORMATS:
        raise AgentError(
            "UnknownFormat", "source.format is %r; use one of %s" % (source_format, ", ".join(sorted(FORMATS)))
        )
    return importlib.import_module("%s.%s" % (__name__, source_format.lower()))
