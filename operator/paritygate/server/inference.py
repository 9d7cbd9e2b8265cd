"""One inference, from the bytes of a request to the bytes of its response."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from http import HTTPStatus

from paritygate.server import protocol
from paritygate.server.errors import RequestError
from paritygate.server.model import Model

_WINDOW = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}

_DIGITS = 18
"""Of a length that is worth reading."""


@dataclass(frozen=True, slots=True)
class Call:
    """The parts of an HTTP request that an inference reads, as they came."""

    body: bytes
    header_length: bytes | None = None
    """Value of Inference-Header-Content-Length."""
    encoding: bytes | None = None
    """Value of Content-Encoding."""


def answer(model: Model, call: Call, limit: int) -> tuple[bytes, int | None]:
    """The response's body and the length of its JSON document, None = all. RequestError where there is no answer."""
    body = call.body if call.encoding is None else _decompressed(call, limit)
    request = protocol.read(model, body, _length(call.header_length, len(body)))
    return protocol.write(model, request, model.run(request.feeds, tuple(request.outputs)))


def _length(value: bytes | None, size: int) -> int | None:
    if value is None:
        return None
    text = value.strip()
    if not text.isdigit() or len(text) > _DIGITS:
        raise RequestError(f"{protocol.HEADER_LENGTH} must be an integer ≥ 0, found {value.decode('latin-1')[:40]!r}")
    if int(text) > size:
        raise RequestError(f"{protocol.HEADER_LENGTH} is {int(text)}, but the body has only {size} bytes")
    return int(text)


def _decompressed(call: Call, limit: int) -> bytes:
    name = (call.encoding or b"").decode("latin-1").strip().lower()
    if name in ("", "identity"):
        return call.body
    if name not in _WINDOW:
        raise RequestError(
            f"Content-Encoding {name[:40]!r} is not offered; send gzip, deflate or none",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    inflater = zlib.decompressobj(_WINDOW[name])
    try:
        body = inflater.decompress(call.body, limit + 1)
    except zlib.error as error:
        raise RequestError(f"the body is not {name}: {error}") from None
    if len(body) > limit:
        raise too_large(limit)
    if not inflater.eof:
        raise RequestError(f"the {name} body ends early; send all of it")
    return body


def too_large(limit: int) -> RequestError:
    """The refusal of a body of more than `limit` bytes."""
    return RequestError(
        f"the request has more than {limit:,} bytes; send fewer rows at once, or start the server with --max-body",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )
