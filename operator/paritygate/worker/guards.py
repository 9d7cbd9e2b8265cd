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

    An input in which the source takes NaN, or infinities, anywhere gets no guard against them: it would refuse
    requests that the source answers.
    """
    refused: dict[str, dict[str, Any]] = {}
    taken = {
        (tensor.name, kind): _taken(test, kind, tensor.name, capture, probes, inputs)
        for tensor in capture.signature.inputs
        for kind, test in (("nan", np.isnan), ("inf", np.isinf))
    }
    for row, probe in enumerate(capture.probes):
        if probe.refused is None or probe.kind == "empty-batch":
            continue
        for tensor in capture.signature.inputs:
            column = probes.get(tensor.name)
            if column is None or row >= len(column):
                continue
            guard = refused.setdefault(tensor.name, {})
            value = column[row]
            if probe.kind == "nan" and _holds(np.isnan, value) and not taken[tensor.name, "nan"]:
                guard["reject_nan"] = True
            elif probe.kind == "inf" and _holds(np.isinf, value) and not taken[tensor.name, "inf"]:
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


def _taken(  # noqa: PLR0913, PLR0917 - where to look, and for what
    test: Any, kind: str, name: str, capture: CaptureManifest, probes: Mapping[str, Any], inputs: Mapping[str, Any]
) -> bool:
    """Whether the source answered a row of the dataset, or a probe, in which `test` holds somewhere in this input."""
    answered = [row for row, probe in enumerate(capture.probes) if probe.kind == kind and probe.refused is None]
    column = probes.get(name, ())
    if any(row < len(column) and _holds(test, column[row]) for row in answered):
        return True
    dataset = np.asarray(inputs[name]) if name in inputs else np.empty(0)
    return any(_holds(test, row) for row in dataset) if dataset.dtype == object else _holds(test, dataset)


def _holds(test: Any, value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind == "f" and bool(test(array).any())


def _texts(column: Any) -> tuple[str, ...]:
    return tuple({value for value in np.asarray(column, dtype=object).ravel() if isinstance(value, str)})
