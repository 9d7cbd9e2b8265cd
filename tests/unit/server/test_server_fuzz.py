"""Whatever arrives, the server answers, and never with a fault of its own."""

from __future__ import annotations

import json
import math
import socket
from http import HTTPStatus

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritygate.server.errors import RequestError
from paritygate.server.inference import Call, answer
from paritygate.server.model import Model, find

LIMIT = 2**20
BOUNDED = settings(max_examples=200, deadline=None)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=10,
)


def _maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(strategy, strategy, strategy, values)


tensors = st.fixed_dictionaries(
    {
        "name": _maybe(st.sampled_from(["age", "count", "city"])),
        "datatype": _maybe(st.sampled_from(["FP32", "INT64", "BYTES", "BOOL"])),
        "shape": _maybe(st.lists(st.sampled_from([0, 1, 2, 2**31]), max_size=3)),
    },
    optional={
        "data": _maybe(st.lists(values, max_size=4)),
        "parameters": _maybe(st.fixed_dictionaries({"binary_data_size": _maybe(st.integers(0, 12))})),
    },
)
documents = _maybe(
    st.fixed_dictionaries(
        {"inputs": _maybe(st.lists(tensors, max_size=4))},
        optional={
            "id": values,
            "parameters": _maybe(st.fixed_dictionaries({"binary_data_output": _maybe(st.booleans())})),
            "outputs": _maybe(
                st.lists(_maybe(st.fixed_dictionaries({"name": st.sampled_from(["total", "z"])})), max_size=2)
            ),
        },
    )
)


@pytest.fixture(scope="module")
def mixed(graphs) -> Model:
    return Model(find(graphs.mixed()), 1)


@pytest.fixture(scope="module")
def served(graphs, serve):
    return serve(graphs.mixed())


def _answer(model: Model, call: Call) -> None:
    """Answers, or refuses with a 4xx."""
    try:
        body, length = answer(model, call, LIMIT)
    except RequestError as error:
        if not HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        return
    json.loads(body[:length])


@BOUNDED
@given(
    st.binary(max_size=200),
    st.none() | st.binary(max_size=4) | st.integers(0, 200).map(lambda size: b"%d" % size),
    st.sampled_from([None, None, b"gzip", b"deflate", b"x"]),
)
def test_arbitrary_bytes_are_refused(mixed, body, header_length, encoding) -> None:
    _answer(mixed, Call(body, header_length, encoding))


@BOUNDED
@given(documents, st.binary(max_size=30), st.booleans())
def test_documents_of_nearly_the_right_form_are_answered_or_refused(mixed, document, tail, binary) -> None:
    head = json.dumps(document).encode()
    _answer(mixed, Call(head + tail if binary else head, b"%d" % len(head) if binary else None))


@BOUNDED
@given(
    st.lists(st.tuples(st.floats(width=32), st.integers(-(2**63), 2**63 - 1), st.text(max_size=8)), max_size=5),
    st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_every_right_request_is_answered_exactly_in_every_encoding(mixed, rows, binary) -> None:
    # JSON has one NaN, without sign and payload.
    ages = np.array([np.nan if np.isnan(row[0]) else row[0] for row in rows], np.float32).reshape(-1, 1)
    counts = np.array([row[1] for row in rows], np.int64).reshape(-1, 1)
    cities = [row[2] for row in rows]
    raw = {
        "age": ages.tobytes(),
        "count": counts.tobytes(),
        "city": b"".join(len(city.encode()).to_bytes(4, "little") + city.encode() for city in cities),
    }
    plain = {"age": ages.ravel().tolist(), "count": counts.ravel().tolist(), "city": cities}
    inputs, tail = [], b""
    for (name, datatype), as_bytes in zip(
        {"age": "FP32", "count": "INT64", "city": "BYTES"}.items(), binary, strict=False
    ):
        entry: dict[str, object] = {"name": name, "datatype": datatype, "shape": [len(rows), 1]}
        if as_bytes:
            entry["parameters"] = {"binary_data_size": len(raw[name])}
            tail += raw[name]
        else:
            entry["data"] = plain[name]
        inputs.append(entry)
    outputs = [{"name": f"{name}_out", "parameters": {"binary_data": binary[3]}} for name in raw]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body, length = answer(mixed, Call(head + tail, b"%d" % len(head)), LIMIT)
    if binary[3]:
        assert body[length:] == b"".join(raw.values())
        return
    came = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    np.testing.assert_array_equal(np.array(came["age_out"], np.float32), ages.ravel())
    assert came["count_out"] == plain["count"]
    assert came["city_out"] == cities
    assert all(
        math.copysign(1, one) == math.copysign(1, other)
        for one, other in zip(came["age_out"], plain["age"], strict=True)
        if one == 0
    )


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_arbitrary_bytes_on_a_connection_never_end_the_server(served, raw) -> None:
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw + b"\r\n\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answered = connection.recv(65536)
    assert not answered.startswith(b"HTTP/1.1 5")
    assert httpx.get(f"{served.url}/v2/health/ready").status_code == 200
