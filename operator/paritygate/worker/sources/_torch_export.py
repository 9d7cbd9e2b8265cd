"""Writes torch modules, script modules and exported programs as ONNX, with open dimensions where the wire leaves them.

torch.export refuses what depends on the data, so what it writes is the whole program. Its fallback is the TorchScript
exporter on *scripted* code, which keeps branches and loops; tracing is never used, since it freezes them silently.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch

from paritygate.api.report import Finding, TensorSignature
from paritygate.errors import ConfigurationError
from paritygate.worker import findings
from paritygate.worker.sources import Conversion, Converted

_OLDEST_OF_TORCH_EXPORT: Final = 18
"""The exporter writes 18 or newer; older ones are made from it by downgrading, as far as that goes."""
_INLINE_LIMIT: Final = 64 << 20
"""Bytes of weights above which they go to a file beside the graph, so that later stages need not copy them."""
_SMALLEST_OUTSIDE: Final = 1024
"""Bytes below which a tensor stays in the graph even so."""
_TRACED_ROWS: Final = 3
"""Rows of the example: two would do, but torch specialises on 0 and 1, and 2 may be a size of the model."""


class Flat(torch.nn.Module):  # type: ignore[misc]
    """A module that takes its tensors by name and answers with a flat tuple, as the capture names its outputs."""

    def __init__(self, module: Any, names: Sequence[str]) -> None:
        torch.nn.Module.__init__(self)
        self.module = module
        self.names = tuple(names)

    def forward(self, *tensors: Any) -> Any:
        """The module's tensors in order, without those that are None."""
        found = self.module(**dict(zip(self.names, tensors, strict=True)))
        if isinstance(found, torch.Tensor):
            return (found,)
        values = found.values() if hasattr(found, "values") else found
        return tuple(value for value in values if value is not None)


def export_module(conversion: Conversion, module: Any, names: Sequence[str]) -> Converted:
    """Exports a module in evaluation mode; `names` are its arguments for the signature's inputs, in their order.

    ConfigurationError: neither torch.export nor the TorchScript compiler takes it, or the batch is frozen.
    """
    tensors = example(conversion, floating_dtype(module))
    found = [*_batch_statistics(module)]
    try:
        program = _dynamo(conversion, Flat(module, names).eval(), tensors)
    except Exception as error:  # noqa: BLE001 - exporters raise whatever their passes raise
        try:
            scripted = _quietly(torch.jit.script, module)
        except Exception as second:  # noqa: BLE001 - the compiler raises whatever it stumbles over
            raise _refused(error, second) from error
        export_scripted(conversion, scripted, names, tensors)
        found.append(findings.TORCH_SCRIPT_EXPORTER.found(f"torch.export refused the module: {_first_line(error)}"))
        return _converted(found)
    save_program(conversion, program)
    return _converted(found)


def export_scripted(conversion: Conversion, module: Any, names: Sequence[str], tensors: Sequence[Any]) -> None:
    """Exports compiled TorchScript. ConfigurationError: it cannot be, or its batch is frozen."""
    signature = conversion.capture.signature
    order = [one.name for one in module.forward.schema.arguments if one.name != "self"]
    if list(names) != order[: len(names)]:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"forward takes {', '.join(order)} and the capture gives {', '.join(names)}; the TorchScript exporter "
            f"takes arguments by position: give the dataset the first {len(names)} of them",
        )
    inputs = [tensor.name for tensor in signature.inputs]
    outputs = [f"result_{index}" for index in range(len(signature.outputs))]
    dynamic = {
        tensor.name: {axis: f"{tensor.name}_{axis}" for axis in _open_axes(tensor)} for tensor in signature.inputs
    }
    dynamic |= {name: {0: f"{name}_0"} for name in outputs}
    try:
        _quietly(
            torch.onnx.export,
            module,
            tuple(tensors),
            str(conversion.destination),
            dynamo=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=dynamic,
            opset_version=min(conversion.opset, 20),
            do_constant_folding=True,
        )
    except Exception as error:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"the TorchScript exporter refused the module: {_first_line(error)}; export it with torch.export from its "
            f"own code (format PyTorch), or bring target.candidate",
        ) from error
    _externalise(conversion.destination)


def save_program(conversion: Conversion, program: Any) -> None:
    """Writes an ONNXProgram. ConfigurationError: a dimension that the wire leaves open has become fixed."""
    size = sum(int(np.prod(value.shape)) * value.dtype.itemsize for value in program.model.graph.initializers.values())
    for declared, wanted in zip(program.model.graph.inputs, conversion.capture.signature.inputs, strict=False):
        fixed = [axis for axis in _open_axes(wanted) if isinstance(declared.shape[axis], int)]
        if fixed:
            raise frozen(f"input {wanted.name} was exported with {declared.shape[fixed[0]]} as dimension {fixed[0]}")
    program.save(str(conversion.destination), external_data=size > _INLINE_LIMIT)


def frozen(what: str) -> ConfigurationError:
    """The error for a batch, or another open dimension, that the export has fixed."""
    return ConfigurationError(
        "FixedBatch",
        f"{what}, and requests bring any size there (finding TORCH-FROZEN-BATCH); do not turn sizes into Python "
        f"numbers in forward: use x.shape[0] or -1 where a size follows from the input, or export with dynamic_shapes",
    )


def program_of(conversion: Conversion, exported: Any) -> Any:
    """The ONNXProgram of an ExportedProgram. ConfigurationError: an operator has no ONNX counterpart."""
    try:
        return _quietly(
            torch.onnx.export,
            exported,
            dynamo=True,
            input_names=[tensor.name for tensor in conversion.capture.signature.inputs],
            opset_version=_opset(conversion),
            verbose=False,
        )
    except Exception as error:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"the exported program cannot be written as ONNX: {_first_line(error)}; replace what it names, or bring "
            f"target.candidate",
        ) from error


def example(conversion: Conversion, floating: Any) -> list[Any]:
    """A few rows of the capture as the module takes them, of one length where lengths vary."""
    tensors = []
    for declared in conversion.capture.signature.inputs:
        rows = conversion.sample[declared.name]
        if rows.dtype == object:
            longest = max(rows, key=lambda row: np.asarray(row).size)
            rows = np.stack([np.asarray(longest)])
        tensor = torch.from_numpy(np.ascontiguousarray(np.resize(rows, (_TRACED_ROWS, *rows.shape[1:]))))
        tensors.append(tensor.to(floating) if floating is not None and tensor.is_floating_point() else tensor)
    return tensors


def floating_dtype(module: Any) -> Any:
    """Dtype of the module's floating parameters, else of its buffers; None = it has neither."""
    found = (tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point())
    return next(found, None)


def converter_versions() -> dict[str, str]:
    """Distributions that convert."""
    return {"torch": torch.__version__.split("+")[0], **{name: version(name) for name in ("onnx", "onnxscript")}}


def _dynamo(conversion: Conversion, module: Any, tensors: Sequence[Any]) -> Any:
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(_open_axes(tensor), dynamic) for tensor in conversion.capture.signature.inputs)
    return _quietly(
        torch.onnx.export,
        module,
        tuple(tensors),
        dynamo=True,
        dynamic_shapes={"tensors": shapes},
        input_names=[tensor.name for tensor in conversion.capture.signature.inputs],
        opset_version=_opset(conversion),
        verbose=False,
    )


def _opset(conversion: Conversion) -> int:
    return conversion.opset if conversion.opset_stated else max(conversion.opset, _OLDEST_OF_TORCH_EXPORT)


def _open_axes(tensor: TensorSignature) -> list[int]:
    return [axis for axis, size in enumerate(tensor.shape) if size == -1]


def _externalise(path: Path) -> None:
    if path.stat().st_size > _INLINE_LIMIT:
        onnx.save_model(
            onnx.load(str(path)),
            str(path),
            save_as_external_data=True,
            location=f"{path.name}.data",
            size_threshold=_SMALLEST_OUTSIDE,
        )


def _quietly(function: Any, *arguments: Any, **options: Any) -> Any:
    """Calls torch without its deprecation warnings, which speak to its callers and not to ours."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return function(*arguments, **options)


def _batch_statistics(module: Any) -> list[Finding]:
    """Normalisation without running statistics answers a row by the batch that it comes in."""
    names = [
        name
        for name, part in module.named_modules()
        if "BatchNorm" in type(part).__name__ and getattr(part, "running_mean", None) is None
    ]
    return [findings.TORCH_BATCH_STATISTICS.found(f"Layers {', '.join(names)} keep no running statistics.")] * bool(
        names
    )


def _converted(found: Sequence[Finding]) -> Converted:
    return Converted(converter=converter_versions(), findings=tuple(found))


def _refused(error: BaseException, second: BaseException) -> ConfigurationError:
    text = _first_line(error)
    return ConfigurationError(
        "ConversionUnsupported",
        f"torch.export refused the module: {text}; the TorchScript compiler refused it too: {_first_line(second)}. "
        f"If a branch or size depends on the data (finding TORCH-DATA-DEPENDENT), write it with torch.cond, "
        f"torch.where or fixed sizes, or bring target.candidate",
    )


def _first_line(error: BaseException) -> str:
    """The line of an exporter's message that says something; its wrappers explain themselves at length."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
