"""The client of the Open Inference Protocol: exact tensors, the server's own words, and servers that die."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import numpy as np
import pytest

from paritygate.api.report import TensorSignature
from paritygate.api.spec import Datatype
from paritygate.errors import InfrastructureError
from paritygate.worker.http import Answer
from paritygate.worker.inference import HEADER_LENGTH, InferenceClient, RequestRefused, decode, encode


def client(answer: Callable[[httpx.Request], httpx.Response]) -> InferenceClient:
    def ask(method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        said = answer(httpx.Request(method, f"http://candidate{path}", content=content, headers=headers))
        return Answer(said.status_code, said.headers, said.content)

    return InferenceClient("http://candidate", "model", ask)


def refuse(_: httpx.Request) -> httpx.Response:
    raise ConnectionRefusedError("connection refused")


FEED = {"x": np.zeros((2, 1), dtype=np.float32)}
INPUTS = (TensorSignature(name="x", datatype=Datatype.FP32, shape=(-1, 1)),)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        pytest.param(Datatype.FP64, np.asarray([1 / 3, np.nan, -np.inf, 5e-324]), id="doubles with NaN and infinities"),
        pytest.param(Datatype.FP32, np.asarray([1e-45, 3e38], dtype=np.float32), id="floats"),
        pytest.param(Datatype.FP16, np.asarray([65504, 6e-8], dtype=np.float16), id="half precision"),
        pytest.param(Datatype.INT64, np.asarray([-(2**63), 2**63 - 1]), id="the ends of int64"),
        pytest.param(Datatype.UINT64, np.asarray([2**64 - 1], dtype=np.uint64), id="the end of uint64"),
        pytest.param(Datatype.BOOL, np.asarray([True, False]), id="booleans"),
    ],
)
def test_numbers_survive_the_wire_to_the_bit(datatype: Datatype, values: Any) -> None:
    found = decode(encode(values, datatype), datatype.value, values.shape)
    assert found.tobytes() == values.tobytes()


def test_bfloat16_is_the_upper_half_of_float32() -> None:
    values = np.asarray([1.0, -2.5, 3.3895314e38], dtype=np.float32)
    raw = encode(values, Datatype.BF16)
    assert len(raw) == 6
    assert decode(raw, "BF16", (3,)).tolist() == pytest.approx(values.tolist(), rel=2**-8)


def test_text_survives_the_wire_and_missing_text_becomes_empty() -> None:
    values = np.asarray([["é漢"], [None], ["a\x00b"]], dtype=object)
    assert decode(encode(values, Datatype.BYTES), "BYTES", (3, 1)).tolist() == [["é漢"], [""], ["a\x00b"]]


def test_text_that_ends_behind_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="ends behind"):
        decode(b"\x09\x00\x00\x00ab", "BYTES", (1,))


def test_outputs_come_back_by_name() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        length = int(request.headers[HEADER_LENGTH])
        sent = json.loads(request.content[:length])
        assert sent["inputs"][0]["parameters"]["binary_data_size"] == len(request.content) - length == 8
        raw = np.asarray([1.5, 2.5], dtype="<f4").tobytes()
        header = json.dumps(
            {
                "outputs": [
                    {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
                    {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
                ]
            }
        ).encode()
        return httpx.Response(200, content=header + raw, headers={HEADER_LENGTH: str(len(header))})

    found = client(answer).infer(FEED, INPUTS)
    assert found["y"].tolist() == [1.5, 2.5]
    assert found["label"].tolist() == ["a", "b"]


def test_a_refusal_carries_the_servers_message() -> None:
    with pytest.raises(RequestRefused, match="NaN is refused") as caught:
        client(lambda _: httpx.Response(400, json={"error": "NaN is refused"})).infer(FEED, INPUTS)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(refuse, "CandidateUnreachable", id="the server is gone"),
        pytest.param(lambda _: httpx.Response(503, json={"error": "stopping"}), "CandidateUnreachable", id="it stops"),
        pytest.param(
            lambda _: httpx.Response(200, content=b"<html>"), "CandidateAnswerInvalid", id="it is another server"
        ),
    ],
)
def test_a_broken_server_is_an_infrastructure_error(answer: Any, reason: str) -> None:
    with pytest.raises(InfrastructureError) as caught:
        client(answer).infer(FEED, INPUTS)
    assert caught.value.reason == reason


def test_a_server_that_hangs_is_an_infrastructure_error() -> None:
    def hang(_: httpx.Request) -> httpx.Response:
        raise TimeoutError("no answer")

    with pytest.raises(InfrastructureError, match="did not answer within") as caught:
        client(hang).infer(FEED, INPUTS)
    assert caught.value.reason == "CandidateUnreachable"


def test_waiting_ends_with_what_the_server_waits_for() -> None:
    with pytest.raises(InfrastructureError, match="golden rows are answered wrong") as caught:
        client(lambda _: httpx.Response(503, json={"error": "golden rows are answered wrong"})).wait_ready(0.0)
    assert caught.value.reason == "CandidateNotReady"


def test_waiting_ends_when_the_server_is_ready() -> None:
    answers = iter([httpx.Response(503, json={"error": "loading"}), httpx.Response(200, json={"ready": True})])
    client(lambda _: next(answers)).wait_ready(5.0)
    assert next(answers, None) is None


def test_metadata_that_is_missing_is_an_infrastructure_error() -> None:
    with pytest.raises(InfrastructureError) as caught:
        client(lambda _: httpx.Response(404, json={"error": "unknown model"})).model()
    assert caught.value.reason == "CandidateAnswerInvalid"
