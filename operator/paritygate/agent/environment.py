"""The environment in which the source ran: versions of what can change an answer."""

import email
import platform
import sys
from collections import OrderedDict

# Distributions whose import name differs from theirs; the rest are found by equal names.
_IMPORTED_AS = {"scikit-learn": "sklearn", "xgboost-cpu": "xgboost", "onnxruntime-gpu": "onnxruntime"}
_IGNORED = {"pip", "setuptools", "wheel", "paritygate"}


def describe(digest=None):
    """`Environment` as a dict: Python, platform, and the distributions that were imported."""
    packages = {}
    for written, version in _distributions():
        name = written.lower().replace("_", "-")
        module = _IMPORTED_AS.get(name, name.replace("-", "_"))
        if module in sys.modules and name not in _IGNORED:
            packages[name] = version
    return OrderedDict(
        python=platform.python_version(),
        platform="%s %s" % (platform.system(), platform.machine()),
        packages=OrderedDict(sorted(packages.items())),
        digest=digest,
    )


def _distributions():
    """(name, version) of what is installed, by whatever this Python offers to ask."""
    try:
        from importlib import metadata
    except ImportError:
        try:
            import importlib_metadata as metadata
        except ImportError:
            import pkg_resources

            return [(one.project_name, one.version) for one in pkg_resources.working_set]
    found = []
    for one in metadata.distributions():
        fields = fields_of(one)
        if fields["Name"]:
            found.append((fields["Name"], fields["Version"]))
    return found


def fields_of(distribution):
    """The metadata of a distribution of importlib, without the description, which takes longest to read."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    return email.message_from_string(text.partition("\n\n")[0]) if text else distribution.metadata
