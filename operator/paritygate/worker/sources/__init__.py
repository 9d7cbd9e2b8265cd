"""Source formats, one module each. Adding a format is adding a module here and one in `paritygate.agent.frameworks`.

The module of a format is its name in lower case, such as `sklearn` for SKLearn, and offers what `SourceModule` says.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from paritygate.api.artifacts import Assessment, CaptureManifest
from paritygate.api.report import Finding
from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError


@dataclass(frozen=True)
class Conversion:
    """What a converter is asked for."""

    source: Source
    model: Path
    """File or folder of the source model."""
    capture: CaptureManifest
    """Says what the candidate must offer: `capture.signature`."""
    sample: Mapping[str, np.ndarray[Any, Any]]
    """A few captured rows as wire inputs, by input name, for converters that trace."""
    opset: int
    """ONNX opset to write."""
    opset_stated: bool
    """Whether the user asked for this opset; if not, a converter may raise it up to the serving runtime's."""
    destination: Path
    """Where to write the ONNX file; external data goes beside it, named `<file name>.data`."""


@dataclass(frozen=True)
class Converted:
    """What a converter did beside writing the file."""

    converter: Mapping[str, str]
    """Distribution name → version of what converted."""
    findings: tuple[Finding, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Text input → every value that the model takes, where unknown ones are refused by the source."""
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Step of the source, as its capture names it → tensors that hold its columns side by side."""


class SourceModule(Protocol):
    """What the module of a source format offers."""

    EXTRA: str | None
    """The extra of ParityGate that brings what `convert` needs; None = the worker alone suffices."""

    def assess(self, model: Path, source: Source) -> Assessment:
        """Looks at the file without loading it. ConfigurationError: it is truncated or of another format."""
        ...

    def convert(self, conversion: Conversion) -> Converted:
        """Writes the model as ONNX to `conversion.destination`. ConfigurationError: it cannot be converted, and why."""
        ...


def source_module(source_format: SourceFormat) -> SourceModule:
    """The module of a format. ConfigurationError: what it needs is not installed; names the extra."""
    name = f"{__name__}.{source_format.value.lower()}"
    try:
        return cast(SourceModule, importlib.import_module(name))
    except ImportError as error:
        raise ConfigurationError(
            "MissingExtra",
            f"format {source_format} needs {error.name}, which is not installed; "
            f"install ParityGate with the extra that brings it, e.g. pip install 'paritygate[all]'",
        ) from error
