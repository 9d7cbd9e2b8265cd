"""Connections that are slow, silent or split their requests."""

from __future__ import annotations

import json
import socket
import time

import pytest

from paritygate.server import http

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}).encode()
HEAD = b"POST /v2/models/identity_FP32/infer HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@pytest.fixture(scope="module")
def served(graphs, serve):
    return serve(graphs.identity())


def _connect(served) -> socket.socket:
    host, port = served.address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_a_connection_that_stays_silent_is_closed(served, monkeypatch) -> None:
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.1)
    with _connect(served) as connection:
        assert connection.recv(100) == b""


def test_headers_that_do_not_arrive_are_refused(served, monkeypatch) -> None:
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.1)
    with _connect(served) as connection:
        connection.sendall(HEAD[:20])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"headers did not arrive within 0.1 s" in answer


def test_a_request_may_come_in_pieces(served) -> None:
    with _connect(served) as connection:
        for start in range(0, len(HEAD + BODY), 17):
            connection.sendall((HEAD + BODY)[start : start + 17])
            time.sleep(0.002)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_connection_that_waits_between_requests_is_kept(served, monkeypatch) -> None:
    monkeypatch.setattr(http, "HEADER_SECONDS", 0.5)
    with _connect(served) as connection:
        for _ in range(3):
            connection.sendall(HEAD + BODY)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.8)


def test_a_refused_request_leaves_the_connection_usable(served) -> None:
    with _connect(served) as connection:
        connection.sendall(HEAD.replace(b"identity_FP32", b"other_model__") + BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        connection.sendall(HEAD + BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
