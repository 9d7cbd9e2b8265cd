"""Every mistake of a client is a 4xx that says what was wrong, and never the server's fault."""

from __future__ import annotations

import gzip
import json
import socket
import struct

import httpx
import numpy as np
import pytest

from paritygate.api.artifacts import StageFailure
from paritygate.server.__main__ import main


def _input(**changes: object) -> dict[str, object]:
    return {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4], **changes}


def _request(*inputs: object, **fields: object) -> dict[str, object]:
    return {"inputs": list(inputs), **fields}


def _without(entry: dict[str, object], key: str) -> dict[str, object]:
    return {name: value for name, value in entry.items() if name != key}


DOCUMENTS = [
    ("malformed JSON", b'{"inputs": [', "not JSON"),
    ("an empty body", b"", "not JSON"),
    ("a body that is not UTF-8", b"\xff\xfe\x00", "not JSON"),
    ("a list instead of a request", [], "must be a JSON object with 'inputs', found []"),
    ("a number instead of a request", 5, "must be a JSON object"),
    ("no inputs", {}, "'inputs' must be a list of tensors, found None; the model takes ['x']"),
    ("inputs that are no list", {"inputs": {"x": 1}}, "'inputs' must be a list"),
    ("an empty list of inputs", _request(), "input 'x' is missing; the model takes ['x'], found []"),
    ("an input that is no object", _request(5), "inputs[0] must be an object with a name, found 5"),
    ("an input without a name", _request(_without(_input(), "name")), "inputs[0] must be an object with a name"),
    ("an input whose name is a number", _request(_input(name=5)), "inputs[0] must be an object with a name"),
    ("an unknown input", _request(_input(name="z")), "input 'z' is unknown; the model has ['x']"),
    ("an input sent twice", _request(_input(), _input()), "input 'x' came twice"),
    ("another datatype", _request(_input(datatype="FP64")), "datatype 'FP64' came, but the model takes FP32"),
    ("a datatype that does not exist", _request(_input(datatype="FLOAT")), "datatype 'FLOAT' came"),
    ("no datatype", _request(_without(_input(), "datatype")), "datatype None came"),
    ("another number of dimensions", _request(_input(shape=[4])), "send 2 dimensions instead of 1"),
    ("another size of a fixed dimension", _request(_input(shape=[2, 3])), "dimension 1 must be 2, not 3"),
    ("no shape", _request(_without(_input(), "shape")), "shape must be a list of integers ≥ 0, found None"),
    ("a negative size", _request(_input(shape=[-1, 2])), "shape must be a list of integers ≥ 0"),
    ("a size that is a fraction", _request(_input(shape=[2.0, 2])), "shape must be a list of integers ≥ 0"),
    ("a size that is true", _request(_input(shape=[True, 2])), "shape must be a list of integers ≥ 0"),
    ("a shape beyond all bounds", _request(_input(shape=[2**62, 2])), "too many dimensions or elements"),
    ("a shape of a hundred dimensions", _request(_input(shape=[1] * 100)), "too many dimensions or elements"),
    ("too few values", _request(_input(data=[1, 2, 3])), "data has 3 values, but shape [2, 2] needs 4"),
    ("a value of the wrong type", _request(_input(data=[1, 2, "3", 4])), "element [1, 0]: FP32 takes a number"),
    ("null as value", _request(_input(data=[1, 2, None, 4])), "null is not a value, send NaN"),
    ("a value beyond the datatype", _request(_input(data=[1, 2, 3, 1e40])), "element [1, 1]: 1e+40 is too large"),
    ("no data", _request(_without(_input(), "data")), "input 'x' has no data"),
    ("an id that is a number", _request(_input(), id=5), "id must be a string, found 5"),
    ("parameters that are no object", _request(_input(), parameters=[]), "parameters of the request must be an object"),
    ("a flag that is a string", _request(_input(), parameters={"binary_data_output": "yes"}), "must be true or false"),
    (
        "an output's flag that is 1",
        _request(_input(), outputs=[{"name": "y", "parameters": {"binary_data": 1}}]),
        "binary_data must be true",
    ),
    ("an unknown output", _request(_input(), outputs=[{"name": "z"}]), "output 'z' is unknown; the model has ['y']"),
    ("an output asked for twice", _request(_input(), outputs=[{"name": "y"}, {"name": "y"}]), "asked for twice"),
    ("outputs that are no list", _request(_input(), outputs="y"), "'outputs' must be a list"),
    ("an output that is a string", _request(_input(), outputs=["y"]), "outputs[0] must be an object with a name"),
    ("shared memory", _request(_input(parameters={"shared_memory_region": "r"})), "shared memory is not offered"),
    (
        "the classification extension",
        _request(_input(), outputs=[{"name": "y", "parameters": {"classification": 2}}]),
        "classification extension is not offered",
    ),
    (
        "a binary size without binary data",
        _request(_input(parameters={"binary_data_size": 16})),
        "both data and binary_data_size",
    ),
    (
        "binary data without the header",
        _request(_without(_input(parameters={"binary_data_size": 16}), "data")),
        "header Inference-Header-Content-Length is missing",
    ),
]


@pytest.fixture(scope="module")
def identity(graphs, serve):
    return serve(graphs.identity())


def _check(response: httpx.Response, status: int, message: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert set(response.json()) == {"error"}
    assert message in response.json()["error"]


@pytest.mark.parametrize(("_name", "document", "message"), DOCUMENTS, ids=[row[0] for row in DOCUMENTS])
def test_refuses_a_document_with(identity, _name, document, message) -> None:
    _check(identity.infer(document), 400, message)


def _binary(size: object, raw: bytes, header: object = None, **changes: object) -> tuple[bytes, dict[str, str]]:
    entry = _without(_input(parameters={"binary_data_size": size}, **changes), "data")
    document = json.dumps(_request(entry)).encode()
    return document + raw, {"Inference-Header-Content-Length": str(len(document) if header is None else header)}


BINARIES = [
    ("fewer bytes than announced", _binary(16, b"\0" * 15), "binary_data_size is 16, but only 15 bytes are left"),
    ("more bytes than announced", _binary(16, b"\0" * 17), "1 bytes follow the last binary tensor"),
    ("another size than the shape needs", _binary(12, b"\0" * 12), "12 bytes came, but FP32 of shape [2, 2] takes 16"),
    ("a negative size", _binary(-1, b""), "binary_data_size must be an integer ≥ 0, found -1"),
    ("a size that is a string", _binary("16", b"\0" * 16), "binary_data_size must be an integer ≥ 0"),
    ("a header that is no number", _binary(16, b"\0" * 16, "many"), "must be an integer ≥ 0, found 'many'"),
    ("a negative header", _binary(16, b"\0" * 16, -5), "must be an integer ≥ 0"),
    ("a header beyond the body", _binary(16, b"\0" * 16, 10**6), "is 1000000, but the body has only"),
    ("a header of ten thousand digits", _binary(16, b"", "9" * 10_000), "must be an integer ≥ 0"),
    ("a header that cuts the document", _binary(16, b"\0" * 16, 20), "not JSON"),
    (
        "no document, and bytes that make no rows",
        (b"\0" * 12, {"Inference-Header-Content-Length": "0"}),
        "12 bytes came",
    ),
]


@pytest.mark.parametrize(("_name", "request_", "message"), BINARIES, ids=[row[0] for row in BINARIES])
def test_refuses_binary_data_with(identity, _name, request_, message) -> None:
    content, headers = request_
    _check(identity.infer(content, headers=headers), 400, message)


PATHS = [
    ("an unknown path", "GET", "/v2/nothing", 404, "there is nothing at /v2/nothing"),
    ("the root", "GET", "/", 404, "the Open Inference Protocol starts at /v2"),
    ("the old protocol", "POST", "/v1/models/identity_FP32:predict", 404, "starts at /v2"),
    (
        "an unknown model",
        "GET",
        "/v2/models/other",
        404,
        "model 'other' is unknown; this server offers 'identity_FP32'",
    ),
    ("inference of an unknown model", "POST", "/v2/models/other/infer", 404, "model 'other' is unknown"),
    ("readiness of an unknown model", "GET", "/v2/models/other/ready", 404, "model 'other' is unknown"),
    ("an unknown version", "POST", "/v2/models/identity_FP32/versions/2/infer", 404, "has no version '2'"),
    ("an unknown part of the model", "GET", "/v2/models/identity_FP32/config", 404, "there is nothing at"),
    ("a model's name cut off", "GET", "/v2/models", 404, "there is nothing at"),
    ("inference by GET", "GET", "/v2/models/identity_FP32/infer", 405, "use POST"),
    ("inference by PUT with a version", "PUT", "/v2/models/identity_FP32/versions/1/infer", 405, "use POST"),
    ("health by POST", "POST", "/v2/health/live", 405, "use GET"),
    ("metadata by DELETE", "DELETE", "/v2", 405, "use GET"),
    ("a name that is not UTF-8", "GET", "/v2/models/%ff%fe", 404, "is unknown"),
]


@pytest.mark.parametrize(("_name", "method", "path", "status", "message"), PATHS, ids=[row[0] for row in PATHS])
def test_refuses_to_reach(identity, _name, method, path, status, message) -> None:
    response = httpx.request(method, identity.url + path)
    _check(response, status, message)
    if status == 405:
        assert response.headers["allow"] == ("POST" if "POST" in message else "GET, HEAD")


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/health/live", "/v2/models/identity_FP32/versions/1/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_trailing_slash_and_head_are_fine(identity, method, path) -> None:
    assert httpx.request(method, identity.url + path).status_code == 200


def test_refuses_inputs_that_disagree_on_rows(graphs, serve) -> None:
    tensors = [
        {"name": "age", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]},
        {"name": "count", "datatype": "INT64", "shape": [3, 1], "data": [1, 2, 3]},
        {"name": "city", "datatype": "BYTES", "shape": [2, 1], "data": ["a", "b"]},
    ]
    message = "input 'count' has 3 rows, but input 'age' has 2; all inputs of a request must agree"
    _check(serve(graphs.mixed()).infer(_request(*tensors)), 400, message)


def test_an_index_that_the_model_refuses_is_the_clients_mistake(graphs, serve) -> None:
    served = serve(graphs.lookup())
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [7]}
    response = served.infer(_request(tensor))
    _check(response, 400, "the model does not take this request: ")
    assert "7" in response.json()["error"]


def test_a_failure_inside_the_model_is_a_500_that_tells_no_paths(graphs, serve) -> None:
    served = serve(graphs.fragile())
    response = served.infer(_request(_input(shape=[1, 2], data=[1, 2])))
    _check(response, 500, "the model failed on this request: ")
    assert "/" not in response.json()["error"].replace("{", "")
    assert served.infer(_request(_input())).status_code == 200


def test_a_body_beyond_the_limit_is_refused_and_the_server_lives_on(graphs, serve) -> None:
    served = serve(graphs.identity(name="limited"), body=1000)
    for headers in ({}, {"transfer-encoding": "chunked"}):
        content = b" " * 300_000 if not headers else iter([b" " * 100_000] * 3)
        response = httpx.post(f"{served.url}/v2/models/limited/infer", content=content, headers=headers)
        _check(response, 413, "more than 1,000 bytes")
    squeezed = gzip.compress(b" " * 300_000, mtime=0)
    assert len(squeezed) < 1000
    _check(served.infer(squeezed, headers={"content-encoding": "gzip"}), 413, "more than 1,000 bytes")
    assert served.infer(_request(_input())).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "content", "status", "message"),
    [
        ("br", b"x", 415, "Content-Encoding 'br' is not offered"),
        ("gzip", b"not gzip", 400, "the body is not gzip"),
        ("gzip", gzip.compress(b"{}" * 500, mtime=0)[:-9], 400, "ends early"),
        ("identity", b"{", 400, "not JSON"),
    ],
)
def test_refuses_an_encoding(identity, encoding, content, status, message) -> None:
    _check(identity.infer(content, headers={"content-encoding": encoding}), status, message)


def test_a_body_that_does_not_arrive_is_refused(graphs, serve) -> None:
    served = serve(graphs.identity(name="patient"), body_seconds=0.2)
    answer = _talk(served, b"POST /v2/models/patient/infer HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.2 s" in answer


def _talk(served, raw: bytes) -> bytes:
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        answer = connection.recv(65536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return answer


@pytest.mark.parametrize(
    ("_name", "raw", "status"),
    [
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
        ("a request line without a path", b"GET HTTP/1.1\r\n\r\n", b"400"),
        ("a path with a raw NUL", b"GET /v2\x00 HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        ("a length that is no number", b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n", b"400"),
        (
            "a length and chunks",
            b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
            b"400",
        ),
        ("headers without an end", b"GET /v2 HTTP/1.1\r\n" + b"a: b\r\n" * 60_000, b"431"),
        ("a proxy's request", b"CONNECT example:443 HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
    ],
)
def test_refuses_what_is_not_http(identity, _name, raw, status) -> None:
    answer = _talk(identity, raw)
    assert answer.startswith(b"HTTP/1.1 " + status)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert "error" in json.loads(body)


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "in chunks"])
def test_a_body_behind_an_offer_of_http_2_arrives(identity, chunked) -> None:
    body = json.dumps(_request(_input())).encode()
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    head = (
        b"POST /v2/models/identity_FP32/infer HTTP/1.1\r\nhost: x\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + framing + b"\r\n\r\n"
    )
    answer = _talk(identity, head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body))
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_raw_bytes_of_a_single_input_need_no_document(identity) -> None:
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    response = identity.infer(array.tobytes(), headers={"Inference-Header-Content-Length": "0"})
    assert response.status_code == 200
    length = int(response.headers["inference-header-content-length"])
    assert json.loads(response.content[:length])["outputs"][0]["shape"] == [3, 2]
    assert response.content[length:] == array.tobytes()


def test_raw_bytes_of_several_inputs_are_refused(graphs, serve) -> None:
    response = serve(graphs.mixed()).infer(b"\0" * 4, headers={"Inference-Header-Content-Length": "0"})
    _check(response, 400, "sends one input's bytes alone, but the model takes ['age', 'count', 'city']")


def test_raw_bytes_of_two_free_dimensions_are_refused(graphs, serve) -> None:
    served = serve(graphs.identity(shape=("N", "M"), name="free"))
    response = served.infer(b"\0" * 16, headers={"Inference-Header-Content-Length": "0"})
    _check(response, 400, "which the number of bytes does not determine")


def test_a_raw_text_is_one_string(graphs, serve) -> None:
    served = serve(graphs.identity("BYTES", shape=("N",), name="texts"))
    response = served.infer("grün".encode(), headers={"Inference-Header-Content-Length": "0"})
    assert response.content.endswith(b"\x05\0\0\0gr\xc3\xbcn")
    wide = serve(graphs.identity("BYTES", name="wide"))
    _check(wide.infer(b"a", headers={"Inference-Header-Content-Length": "0"}), 400, "more than the one string")


SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


@pytest.mark.parametrize(
    ("_name", "guard", "data", "message"),
    [
        ("NaN", {"rejectNan": True}, "[1, 2, NaN, 4]", "input 'x', element [1, 0]: NaN is refused, because the source"),
        ("an infinite value", {"rejectInfinite": True}, "[1, 2, 3, -Infinity]", "element [1, 1]: an infinite value"),
        ("NaN in a cell", {"nanCells": [1]}, "[NaN, 2, NaN, NaN]", "element [1, 1]: NaN is refused"),
        ("infinite in a cell", {"infiniteCells": [0]}, "[1, Infinity, Infinity, 4]", "element [1, 0]: an infinite"),
    ],
)
def test_guards_refuse(graphs, serve, _name, guard, data, message) -> None:
    folder = graphs.candidate(
        graphs.identity(), SIGNATURE, guards=[{"input": "x", **guard}], name=f"guard-{next(iter(guard)).lower()}"
    )
    served = serve(folder)
    document = json.dumps(_request(_input(data="DATA"))).replace('"DATA"', data).encode()
    _check(served.infer(document), 400, message)
    assert served.infer(_request(_input())).status_code == 200


def test_guards_of_some_cells_let_the_others_pass(graphs, serve) -> None:
    folder = graphs.candidate(graphs.identity(), SIGNATURE, guards=[{"input": "x", "nanCells": [1]}], name="first-open")
    document = json.dumps(_request(_input(data="DATA"))).replace('"DATA"', "[NaN, 2, NaN, 4]").encode()
    assert serve(folder).infer(document).status_code == 200


def test_guards_refuse_categories_that_the_source_does_not_know(graphs, serve) -> None:
    signature = {
        "inputs": [{"name": "x", "datatype": "BYTES", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, 2]}],
    }
    served = serve(
        graphs.candidate(
            graphs.identity("BYTES"), signature, guards=[{"input": "x", "allowed": ["a", "b"]}], name="cities"
        )
    )
    message = "input 'x', element [0, 1]: 'c' is refused, because the source model refuses it too; send one of 'a', 'b'"
    _check(served.infer(_request(_input(datatype="BYTES", data=["a", "c", "b", "a"]))), 400, message)
    assert served.infer(_request(_input(datatype="BYTES", data=["a", "a", "b", "a"]))).status_code == 200


def test_every_answer_names_the_revision(identity) -> None:
    revision = identity.service.app.model.revision
    for response in (identity.infer(_request(_input())), identity.infer({}), httpx.get(identity.url + "/v2")):
        assert response.headers["x-model-revision"] == revision


def test_what_a_model_is_at_fault_for_is_left_where_a_cluster_looks(tmp_path, monkeypatch):
    told = tmp_path / "termination-log"
    monkeypatch.setenv("PARITYGATE_TERMINATION", str(told))
    assert main(["--model", str(tmp_path / "m.onnx"), "--port", "99999"]) == 64
    assert not told.exists()
    assert main(["--model", str(tmp_path / "m.onnx"), "--golden", str(tmp_path / "none")]) == 3
    failure = StageFailure.model_validate_json(told.read_bytes())
    assert (failure.failure, failure.reason) == ("Configuration", "CandidateNotServable")
    assert "none" in failure.message
