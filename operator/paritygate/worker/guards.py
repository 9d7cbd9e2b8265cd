"""Input guards: what the server refuses before the candidate sees it, because the source refused it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from paritygate.api.artifacts import CaptureManifest, InputGuard
from paritygate.api.spec import Datatype


def guards(
    capture: CaptureManifest,
    probes: Mapping[str, Any],
    inputs: Mapping[str, Any],
    known: Mapping[str, tuple[str, ...]],
) -> tuple[InputGuard, ...]:
    """Guards that follow from the probes which the source refused, in the order of the signature's inputs.

    Args:
        capture: its probes say what was tried and refused.
        probes: probe rows as wire inputs; row *i* belongs to `capture.probes[i]`.
        inputs: the dataset's rows as wire inputs.
        known: text input → the values that the converter saw the model accept; the dataset's are taken otherwise.
    """
    refused: dict[str, dict[str, Any]] = {}
    for row, probe in enumerate(capture.probes):
        if probe.refused is None or probe.kind == "empty-batch":
            continue
        for tensor in capture.signature.inputs:
            column = probes.get(tensor.name)
            if column is None or row >= len(column):
                continue
            guard = refused.setdefault(tensor.name, {})
            value = column[row]
            if probe.kind == "nan" and _holds(np.isnan, value):
                guard["reject_nan"] = True
            elif probe.kind == "inf" and _holds(np.isinf, value):
                guard["reject_infinite"] = True
            elif probe.kind == "unseen-category" and tensor.datatype is Datatype.BYTES:
                allowed = known.get(tensor.name, _texts(inputs[tensor.name]))
                if not set(_texts(value)) <= set(allowed):
                    guard["allowed"] = tuple(sorted(allowed))
    return tuple(
        InputGuard(input=tensor.name, **refused[tensor.name])
        for tensor in capture.signature.inputs
        if refused.get(tensor.name)
    )


def _holds(test: Any, value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(test(array).any())


def _texts(column: Any) -> tuple[str, ...]:
    return tuple({value for value in np.asarray(column, dtype=object).ravel() if isinstance(value, str)})
