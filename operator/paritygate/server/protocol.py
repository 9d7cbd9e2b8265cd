"""The envelope of the protocol's inference requests and responses, in JSON and with binary tensors behind it.

https://github.com/kserve/open-inference-protocol/blob/main/docs/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from paritygate.api.spec import Datatype
from paritygate.server import binary_tensors, json_tensors
from paritygate.server.datatypes import Array
from paritygate.server.errors import RequestError
from paritygate.server.model import VERSION, Model
from paritygate.server.signature import ANY_SIZE, Tensor, brief, check_symbols

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_NONE: Final[Mapping[str, Any]] = {}
_UNSUPPORTED: Final = {
    "shared_memory_region": "shared memory is not offered; send the tensor in the request",
    "classification": "the classification extension is not offered; ask for the output itself",
}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A checked request."""

    id: str | None
    feeds: dict[str, Array]
    outputs: dict[str, bool]
    """Output name → whether it is wanted as binary data."""


def read(model: Model, body: bytes, header_length: int | None) -> InferRequest:
    """The request in `body`.

    Args:
        model: What the request is for.
        body: The JSON document, and binary tensors after it.
        header_length: Bytes of the JSON document; None = all; 0 = there is none and `body` is the one input's tensor.

    Raises:
        RequestError: The request is not what the protocol or the model asks for.
    """
    if header_length == 0:
        return InferRequest(None, {**_raw_feed(model, body)}, dict.fromkeys(model.outputs, True))
    view = body if header_length is None else memoryview(body)
    document = json_tensors.loads(view[:header_length])
    if not isinstance(document, dict):
        raise RequestError(f"the request must be a JSON object with 'inputs', found {brief(document)}")
    identifier = document.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise RequestError(f"id must be a string, found {brief(identifier)}")
    parameters = _parameters(document, "the request") if "parameters" in document else _NONE
    tail = view[header_length:] if isinstance(view, memoryview) else None
    feeds = _inputs(model, document.get("inputs"), tail)
    return InferRequest(identifier, feeds, _outputs(model, document.get("outputs"), parameters))


def write(model: Model, request: InferRequest, answers: Sequence[Array]) -> tuple[bytes, int | None]:
    """The response's body, and the length of its JSON document where binary tensors follow it."""
    header, chunks = _written(model, request, answers, literals=False)
    if b"null" in header:
        # orjson writes null for NaN and infinities. Looking for it is cheaper than looking through every array.
        header, chunks = _written(model, request, answers, literals=True)
    if not chunks:
        return header, None
    return b"".join([header, *chunks]), len(header)


def _written(
    model: Model, request: InferRequest, answers: Sequence[Array], *, literals: bool
) -> tuple[bytes, list[bytes]]:
    """The JSON document, and the binary tensors behind it."""
    outputs: list[dict[str, object]] = []
    chunks: list[bytes] = []
    for (name, binary), array in zip(request.outputs.items(), answers, strict=True):
        datatype = model.outputs[name].datatype
        output: dict[str, object] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            chunk = binary_tensors.encode(array, datatype)
            chunks.append(chunk)
            output["parameters"] = {"binary_data_size": len(chunk)}
        else:
            output["data"] = json_tensors.encode(array, datatype, literals=literals)
        outputs.append(output)
    document: dict[str, object] = {"model_name": model.name, "model_version": VERSION}
    if request.id is not None:
        document["id"] = request.id
    document["outputs"] = outputs
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), chunks


def _inputs(model: Model, inputs: object, tail: memoryview | None) -> dict[str, Array]:
    if not isinstance(inputs, list):
        raise RequestError(
            f"'inputs' must be a list of tensors, found {brief(inputs)}; the model takes {list(model.inputs)}"
        )
    feeds: dict[str, Array] = {}
    start = 0
    for position, entry in enumerate(inputs):
        tensor = _named(model.inputs, entry, "input", position)
        if tensor.name in feeds:
            raise RequestError(f"input {tensor.name!r} came twice; send it once")
        shape = tensor.check(entry.get("datatype"), entry.get("shape"))
        parameters = _parameters(entry, f"input {tensor.name!r}") if "parameters" in entry else _NONE
        size = parameters.get("binary_data_size")
        if size is None:
            if "data" not in entry:
                raise RequestError(f"input {tensor.name!r} has no data; send data, or binary_data_size and binary data")
            feeds[tensor.name] = json_tensors.decode(tensor.name, tensor.datatype, shape, entry["data"])
        else:
            data = _slice(tensor.name, size, tail, start, has_data="data" in entry)
            start += len(data)
            feeds[tensor.name] = binary_tensors.decode(tensor.name, tensor.datatype, shape, data)
    if tail is not None and start != len(tail):
        raise RequestError(
            f"{len(tail) - start} bytes follow the last binary tensor; correct {HEADER_LENGTH} or binary_data_size"
        )
    if len(feeds) < len(model.inputs):
        missing = next(name for name in model.inputs if name not in feeds)
        raise RequestError(f"input {missing!r} is missing; the model takes {list(model.inputs)}, found {list(feeds)}")
    check_symbols(tuple(model.inputs.values()), {name: array.shape for name, array in feeds.items()})
    model.guards.check(feeds)
    return feeds


def _slice(name: str, size: object, tail: memoryview | None, start: int, *, has_data: bool) -> memoryview:
    """The bytes of a binary input."""
    if type(size) is not int or size < 0:
        raise RequestError(f"input {name!r}: binary_data_size must be an integer ≥ 0, found {brief(size)}")
    if has_data:
        raise RequestError(f"input {name!r} has both data and binary_data_size; send one of them")
    if tail is None:
        raise RequestError(f"input {name!r} has binary_data_size, but the header {HEADER_LENGTH} is missing; send it")
    if start + size > len(tail):
        raise RequestError(
            f"input {name!r}: binary_data_size is {size}, but only {len(tail) - start} bytes are left in the request"
        )
    return tail[start : start + size]


def _outputs(model: Model, outputs: object, parameters: Mapping[str, Any]) -> dict[str, bool]:
    binary = _flag(parameters, "binary_data_output", False, "the request")
    if outputs is None or outputs == []:
        return dict.fromkeys(model.outputs, binary)
    if not isinstance(outputs, list):
        raise RequestError(f"'outputs' must be a list, found {brief(outputs)}; the model has {list(model.outputs)}")
    wanted: dict[str, bool] = {}
    for position, entry in enumerate(outputs):
        tensor = _named(model.outputs, entry, "output", position)
        if tensor.name in wanted:
            raise RequestError(f"output {tensor.name!r} is asked for twice; ask once")
        where = f"output {tensor.name!r}"
        wanted[tensor.name] = _flag(_parameters(entry, where), "binary_data", binary, where)
    return wanted


def _named(tensors: Mapping[str, Tensor], entry: object, kind: str, position: int) -> Tensor:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError(
            f"{kind}s[{position}] must be an object with a name, found {brief(entry)}; the model has {list(tensors)}"
        )
    tensor = tensors.get(entry["name"])
    if tensor is None:
        raise RequestError(f"{kind} {brief(entry['name'])} is unknown; the model has {list(tensors)}")
    return tensor


def _parameters(entry: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = entry.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise RequestError(f"parameters of {where} must be an object, found {brief(parameters)}")
    for name, advice in _UNSUPPORTED.items():
        if name in parameters:
            raise RequestError(f"parameters of {where}: {advice}")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool, where: str) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"parameters of {where}: {name} must be true or false, found {brief(value)}")
    return value


def _raw_feed(model: Model, body: bytes) -> dict[str, Array]:
    """The one input of a request without JSON; its one free dimension follows from the number of bytes."""
    if len(model.inputs) != 1:
        raise RequestError(
            f"{HEADER_LENGTH} 0 sends one input's bytes alone, but the model takes {list(model.inputs)}; "
            "send a JSON document before the tensors"
        )
    tensor = next(iter(model.inputs.values()))
    declared = tensor.shape or ()
    free = [axis for axis, size in enumerate(declared) if size == ANY_SIZE]
    if len(free) > 1 or tensor.shape is None:
        raise RequestError(
            f"input {tensor.name!r} has shape {list(declared)}, which the number of bytes does not determine; "
            "send a JSON document with its shape before the tensor"
        )
    if tensor.datatype == Datatype.BYTES:
        shape = tuple(1 if size == ANY_SIZE else size for size in declared)
        if math.prod(shape) != 1:
            raise RequestError(
                f"input {tensor.name!r} of shape {list(declared)} takes more than the one string that came"
            )
        array = json_tensors.decode(
            tensor.name, tensor.datatype, shape, [binary_tensors.decode_text(tensor.name, "row 0", body)]
        )
    else:
        fixed = math.prod(size for size in declared if size != ANY_SIZE) * tensor.dtype.itemsize
        shape = tuple(len(body) // fixed if size == ANY_SIZE and fixed else max(size, 0) for size in declared)
        array = binary_tensors.decode(tensor.name, tensor.datatype, shape, memoryview(body))
    model.guards.check({tensor.name: array})
    return {tensor.name: array}
