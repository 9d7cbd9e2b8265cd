"""A client of the Open Inference Protocol with binary tensors, as far as judging a candidate needs one.

https://github.com/kserve/open-inference-protocol/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from paritygate.api.report import TensorSignature
from paritygate.api.spec import Datatype
from paritygate.errors import InfrastructureError
from paritygate.worker.http import Answer, Connection
from paritygate.worker.parity.columns import text

Array = npt.NDArray[Any]
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_DTYPES: Final[dict[str, str]] = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "BF16": "<u2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
_LENGTH: Final = struct.Struct("<I")
_POLL_SECONDS: Final = 0.05
_READY_SECONDS: Final = 300.0
_ANSWER_SECONDS: Final = 600.0


class RequestRefused(Exception):
    """The server did not answer a request with a result: it refused the input, or failed on it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class InferenceClient:
    """Speaks to one server about one model. A server that dies is an InfrastructureError (CandidateUnreachable)."""

    def __init__(self, url: str, model: str, ask: Callable[..., Answer] | None = None) -> None:
        """`ask`: what to ask instead of a server at `url`; see `Connection.ask`."""
        self._model = f"/v2/models/{quote(model, safe='')}"
        self._http = Connection(url, _ANSWER_SECONDS)
        self._ask = ask or self._http.ask

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def wait_ready(self, seconds: float = _READY_SECONDS) -> None:
        """Returns once the server is ready. InfrastructureError (CandidateNotReady): it was not in `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = self._ask("GET", "/v2/health/ready")
                if answer.status == HTTPStatus.OK:
                    return
                obstacle = _message(answer)
            except OSError as error:
                obstacle = f"{type(error).__name__}: {error}"
            if time.monotonic() >= deadline:
                raise InfrastructureError(
                    "CandidateNotReady",
                    f"the candidate's server was not ready after {seconds:g} s: {obstacle}; see its log",
                )
            time.sleep(_POLL_SECONDS)

    def server(self) -> dict[str, Any]:
        """The server's metadata."""
        return self._get("/v2")

    def model(self) -> dict[str, Any]:
        """The model's metadata."""
        return self._get(self._model)

    def infer(
        self,
        feeds: Mapping[str, Array],
        inputs: Sequence[TensorSignature],
    ) -> dict[str, Array]:
        """All outputs for one batch, by name.

        Args:
            feeds: (batch, …) arrays by input name, in the wire's datatype; BYTES as text, BF16 as float32.
            inputs: their signatures.

        Raises:
            RequestRefused: the server answered with an error.
            InfrastructureError: CandidateUnreachable, CandidateAnswerInvalid.
        """
        entries, chunks = [], []
        for tensor in inputs:
            array = np.asarray(feeds[tensor.name])
            chunk = encode(array, tensor.datatype)
            chunks.append(chunk)
            entries.append(
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype.value,
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": len(chunk)},
                }
            )
        header = json.dumps({"inputs": entries, "parameters": {"binary_data_output": True}}).encode()
        answer = self._send(
            "POST",
            f"{self._model}/infer",
            b"".join([header, *chunks]),
            {HEADER_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"},
        )
        if answer.status != HTTPStatus.OK:
            raise RequestRefused(answer.status, _message(answer))
        try:
            return _outputs(answer)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise InfrastructureError(
                "CandidateAnswerInvalid",
                f"the candidate's server sent an answer that is not of the Open Inference Protocol: {error}",
            ) from error

    def _get(self, path: str) -> dict[str, Any]:
        answer = self._send("GET", path)
        if answer.status != HTTPStatus.OK:
            raise InfrastructureError(
                "CandidateAnswerInvalid", f"the candidate's server does not answer GET {path}: {_message(answer)}"
            )
        found = json.loads(answer.content)
        return found if isinstance(found, dict) else {}

    def _send(self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        try:
            answer = self._ask(method, path, content, headers)
        except TimeoutError as error:
            raise InfrastructureError(
                "CandidateUnreachable",
                f"the candidate's server did not answer within {_ANSWER_SECONDS:g} s; give it more processors",
            ) from error
        except OSError as error:
            raise InfrastructureError(
                "CandidateUnreachable",
                f"the candidate's server went away ({type(error).__name__}: {error}); see its log, and whether it "
                "ran out of memory",
            ) from error
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise InfrastructureError(
                "CandidateUnreachable", f"the candidate's server stopped being ready: {_message(answer)}; see its log"
            )
        return answer


def encode(array: Array, datatype: Datatype) -> bytes:
    """A tensor as the protocol's bytes: little-endian, row-major; BYTES with four bytes of length before each."""
    if datatype is Datatype.BYTES:
        parts = []
        for value in text(np.asarray(array, dtype=object)).reshape(-1).tolist():
            raw = value.encode()
            parts += [_LENGTH.pack(len(raw)), raw]
        return b"".join(parts)
    if datatype is Datatype.BF16:
        return (np.ascontiguousarray(array, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return np.ascontiguousarray(array, dtype=_DTYPES[datatype.value]).tobytes()


def decode(raw: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """The tensor that bytes hold; BF16 as float32, BYTES as text. ValueError: sizes do not fit."""
    if datatype == Datatype.BYTES.value:
        cells, start = [], 0
        while start < len(raw):
            (length,) = _LENGTH.unpack_from(raw, start)
            start += _LENGTH.size + length
            if start > len(raw):
                raise ValueError("a BYTES element ends behind the data")
            cells.append(raw[start - length : start].decode("utf-8", "replace"))
        array = np.empty(len(cells), dtype=object)
        array[:] = cells
        return array.reshape(tuple(shape))
    array = np.frombuffer(raw, dtype=_DTYPES[datatype])
    if datatype == Datatype.BF16.value:
        array = (array.astype("<u4") << 16).view("<f4")
    return array.reshape(tuple(shape))


def _outputs(answer: Answer) -> dict[str, Array]:
    body, length = answer.content, answer.headers.get(HEADER_LENGTH.lower())
    document = json.loads(body if length is None else body[: int(length)])
    start = 0 if length is None else int(length)
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = _from_json(output)
            continue
        if start + size > len(body):
            raise ValueError(f"output {output['name']!r} ends behind the answer")
        found[output["name"]] = decode(body[start : start + size], output["datatype"], output["shape"])
        start += size
    return found


def _from_json(output: Mapping[str, Any]) -> Array:
    datatype = output["datatype"]
    if datatype == Datatype.BYTES.value:
        array = np.empty(len(output["data"]), dtype=object)
        array[:] = output["data"]
        return array.reshape(tuple(output["shape"]))
    dtype = "<f4" if datatype == Datatype.BF16.value else _DTYPES[datatype]
    return np.asarray(output["data"], dtype=dtype).reshape(tuple(output["shape"]))


def _message(answer: Answer) -> str:
    try:
        return str(json.loads(answer.content)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status}: {answer.content[:200].decode('utf-8', 'replace')}"
