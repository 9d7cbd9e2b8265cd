"""The model: its signature for clients, its session, and running it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from pydantic import ValidationError

from paritygate.api.artifacts import CandidateManifest
from paritygate.api.digests import digest_of
from paritygate.api.report import TensorSignature
from paritygate.api.spec import Datatype
from paritygate.server.datatypes import DATATYPES, Array
from paritygate.server.errors import RequestError, StartError
from paritygate.server.guards import Guards
from paritygate.server.identity import PART_ROWS, session_options
from paritygate.server.signature import ANY_SIZE, Tensor

MANIFEST: Final = "candidate.json"
MODEL: Final = "model.onnx"
PLATFORM: Final = "onnx_onnxv1"
VERSION: Final = "1"
"""The one version of a model that a server offers: its bytes are told apart by revision."""
_BF16: Final = 16
"""TensorProto.BFLOAT16."""
_BATCH: Final = "rows"
_LEAST_ROWS: Final = 32
"""Of a part; to wake a thread for fewer takes longer than to answer them."""
_INTERNAL: Final = re.compile(
    r"(?:[A-Za-z]:)?[/\\][^\s:]+|[\w:<>,&* ]+\([^)]*\)\s*|\[ONNXRuntimeError\]\s*:\s*\d+\s*:\s*\w+\s*:"
)


@dataclass(frozen=True)
class ModelFile:
    """Where a model lies, before anything is loaded."""

    path: Path
    name: str
    manifest: CandidateManifest | None
    """None = a bare `.onnx` file, whose graph says what it takes."""


class Model:
    """A loaded model. Running it is safe from several threads."""

    def __init__(self, file: ModelFile, threads: int) -> None:
        """Reads and optimises the model, which takes seconds for a large one; StartError where it cannot."""
        self.name = file.name
        # onnxruntime shares ensembles of trees out tree by tree, which costs it more than it gains: rows are, instead.
        apart = file.manifest is not None and file.manifest.independent_rows
        self._threads = threads
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="rows") if apart else None
        with ThreadPoolExecutor(1, thread_name_prefix="digest") as beside:
            told = beside.submit(revision, file.path)
            self._session = _session(file.path, 1 if apart else threads)
            self.revision = told.result()
        inputs = [_of_graph(argument, "input") for argument in self._session.get_inputs()]
        outputs = [_of_graph(argument, "output") for argument in self._session.get_outputs()]
        if file.manifest is not None:
            signature = file.manifest.signature
            inputs = _stated(signature.inputs, inputs, "input")
            outputs = _stated(signature.outputs, outputs, "output")
        self.inputs: Mapping[str, Tensor] = {tensor.name: tensor for tensor in inputs}
        self.outputs: Mapping[str, Tensor] = {tensor.name: tensor for tensor in outputs}
        self.guards = Guards(file.manifest.guards if file.manifest else (), self.inputs)
        self._batch = _batch((*inputs, *outputs))
        self._has_bf16 = any(tensor.datatype == Datatype.BF16 for tensor in (*inputs, *outputs))

    def metadata(self) -> dict[str, object]:
        """The protocol's model metadata."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": [tensor.to_dict() for tensor in self.inputs.values()],
            "outputs": [tensor.to_dict() for tensor in self.outputs.values()],
        }

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The named outputs for checked inputs.

        Raises:
            RequestError: 400 where onnxruntime finds an argument invalid, such as an index out of bounds, which no
                signature can say; 500 where it fails otherwise.
        """
        if self._batch and not any(len(array) for array in feeds.values()):
            # onnxruntime ends the process where a recurrent network gets no rows: one is asked and dropped.
            one = {name: _row_of(array, self.guards.example(name) or "") for name, array in feeds.items()}
            return [answer[:0] for answer in self.run(one, outputs)]
        try:
            if self._has_bf16:
                return self._run_bf16(feeds, outputs)
            if self._helpers is not None and self._batch:
                return self._run_parts(self._helpers, feeds, outputs)
            return [np.asarray(answer) for answer in self._session.run(outputs, feeds)]
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument as error:
            raise RequestError(f"the model does not take this request: {public(error)}") from error
        except Exception as error:
            raise RequestError(
                f"the model failed on this request: {public(error)}", HTTPStatus.INTERNAL_SERVER_ERROR
            ) from error

    def _run_parts(
        self, helpers: ThreadPoolExecutor, feeds: Mapping[str, Array], outputs: Sequence[str]
    ) -> list[Array]:
        """The answers of the rows' parts, which this thread and its helpers take one after the other."""
        parts = _parts(max(map(len, feeds.values())), self._threads)
        answers: list[list[Array]] = [[]] * len(parts)
        waiting = iter(enumerate(parts))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    taken = next(waiting, None)
                if taken is None:
                    return
                place, part = taken
                answers[place] = self._session.run(outputs, {name: array[part] for name, array in feeds.items()})

        others = [helpers.submit(work) for _ in range(min(len(parts), self._threads) - 1)]
        work()
        for other in others:
            # One that has not begun has nothing left to do, and waits behind other requests' work.
            if not other.cancel():
                other.result()
        return [np.concatenate(column) for column in zip(*answers, strict=True)]

    def _run_bf16(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        # numpy has no BF16: bits go in under their ONNX type and come out by address.
        values = {name: self._value(np.ascontiguousarray(array), name) for name, array in feeds.items()}
        answers = self._session.run_with_ort_values(outputs, values)
        return [_bits(answer) if answer.data_type() == "tensor(bfloat16)" else answer.numpy() for answer in answers]

    def _value(self, array: Array, name: str) -> Any:
        if self.inputs[name].datatype == Datatype.BF16:
            return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _BF16)
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _parts(rows: int, threads: int) -> list[slice]:
    """Rows of a batch that go together: as many parts as threads, more where they would be large, fewer where small."""
    size = min(PART_ROWS, max(_LEAST_ROWS, -(-rows // threads)))
    return [slice(start, start + size) for start in range(0, rows, size)]


def find(path: Path) -> ModelFile:
    """The model at `path`, a candidate folder or an `.onnx` file. StartError where there is none."""
    if path.is_dir():
        return _candidate(path)
    if not path.is_file():
        raise StartError(f"--model {path}: there is no such file or folder; give a candidate folder or an .onnx file")
    return ModelFile(path, path.stem, None)


def revision(path: Path) -> str:
    """`sha256:…` of the model file, or, where its external data lies beside it, of the listing of both files."""
    data = path.with_name(path.name + ".data")
    if not data.exists():
        return _digest(path)
    return digest_of([[file.name, _digest(file)] for file in (path, data)])


def public(error: Exception) -> str:
    """An error of onnxruntime without addresses in its source, paths of this machine and signatures of C++."""
    return " ".join(_INTERNAL.sub(" ", str(error)).split()).strip(" :")[:500]


def _candidate(folder: Path) -> ModelFile:
    path, manifest = folder / MODEL, folder / MANIFEST
    for file in (manifest, path):
        if not file.is_file():
            raise StartError(
                f"--model {folder}: {file.name} is missing; a candidate folder holds {MANIFEST} and {MODEL}"
            )
    try:
        candidate = CandidateManifest.model_validate(json.loads(manifest.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise StartError(f"{manifest}: {field}: {first['msg']}; convert the model again") from error
    except (OSError, ValueError) as error:
        raise StartError(f"{manifest}: cannot be read as JSON: {error}; convert the model again") from error
    return ModelFile(path, candidate.model_name, candidate)


def _session(path: Path, threads: int) -> Any:
    onnxruntime.set_default_logger_severity(4)
    try:
        return onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise StartError(
            f"{path}: onnxruntime {onnxruntime.__version__} cannot load it: {public(error)}; "
            "give an ONNX model of an opset and IR version that this onnxruntime reads"
        ) from error


def _of_graph(argument: Any, kind: str) -> Tensor:
    datatype = DATATYPES.get(argument.type)
    if datatype is None:
        raise StartError(
            f"{kind} {argument.name!r} is a {argument.type}, which the Open Inference Protocol cannot carry; "
            f"export the model with tensors of {', '.join(DATATYPES)} (for scikit-learn: zipmap=False)"
        )
    # A graph that states no shape and one that states a scalar look alike here: neither is checked.
    shape = tuple(size if isinstance(size, int) else ANY_SIZE for size in argument.shape) or None
    symbols = tuple(size if isinstance(size, str) else None for size in argument.shape)
    return Tensor(argument.name, datatype, shape, symbols)


def _stated(stated: Sequence[TensorSignature], graph: Sequence[Tensor], kind: str) -> list[Tensor]:
    """What the manifest states, checked against the graph. The first dimension of -1 is the batch of all inputs."""
    found = {tensor.name: tensor for tensor in graph}
    tensors = [
        Tensor(
            tensor.name,
            tensor.datatype,
            tuple(tensor.shape),
            (_BATCH if tensor.shape[:1] == (ANY_SIZE,) else None, *(None for _ in tensor.shape[1:])),
        )
        for tensor in stated
    ]
    names = {tensor.name for tensor in tensors}
    # A graph may have more outputs than clients are offered, but it needs every input.
    if names - set(found) or (kind == "input" and names != set(found)):
        raise StartError(
            f"{MANIFEST} states {kind}s {sorted(names)}, but the graph has {sorted(found)}; convert the model again"
        )
    for tensor in tensors:
        own = found[tensor.name]
        if own.datatype != tensor.datatype or (own.shape and len(own.shape) != len(tensor.shape or ())):
            raise StartError(
                f"{MANIFEST} states {kind} {tensor.name!r} as {tensor.datatype} {list(tensor.shape or ())}, but the "
                f"graph has {own.datatype} {list(own.shape or ())}; convert the model again"
            )
    return tensors


def _batch(tensors: Sequence[Tensor]) -> bool:
    """Whether all tensors begin with the same dimension of any size: the batch."""
    symbols = {tensor.symbols[0] if tensor.symbols else None for tensor in tensors}
    return len(symbols) == 1 and None not in symbols


def _row_of(empty: Array, text: str) -> Array:
    """One row of zeros, or of `text`, of the shape of the rows that a batch without rows would have."""
    return np.full((1, *empty.shape[1:]), text if empty.dtype == object else 0, dtype=empty.dtype)


def _bits(value: Any) -> Array:
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(raw, dtype=np.uint16).reshape(value.shape())


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StartError(f"{path}: cannot be read: {error.strerror}") from error
