"""Waiting for the candidate's server, where it may not even have said where it listens."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from paritygate.errors import InfrastructureError
from paritygate.worker.ready import WAIT, wait_ready


class _Handler(BaseHTTPRequestHandler):
    answers = iter(())

    def do_GET(self) -> None:
        status = next(type(self).answers, 200)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url():
    _Handler.answers = iter([503, 200])
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_nothing_is_waited_for_unless_seconds_are_stated(monkeypatch):
    monkeypatch.delenv(WAIT, raising=False)
    assert wait_ready("http://127.0.0.1:1") == "http://127.0.0.1:1"


def test_the_address_is_what_the_servers_first_line_says_once_it_is_whole(url, tmp_path, monkeypatch):
    monkeypatch.setenv(WAIT, "20")
    said = tmp_path / "candidate.out"
    line = json.dumps({"event": "listening", "url": url})

    def write() -> None:
        with said.open("w") as stream:
            stream.write(line[:10])
            stream.flush()
            pause.wait(0.2)
            stream.write(line[10:] + "\n")

    pause = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    assert wait_ready(f"file:{said}") == url
    writer.join()
    assert next(_Handler.answers, None) is None


def test_a_server_that_never_says_where_it_listens_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setenv(WAIT, "0.1")
    with pytest.raises(InfrastructureError, match="it does not listen yet") as caught:
        wait_ready(f"file:{tmp_path / 'absent'}")
    assert caught.value.reason == "CandidateNotReady"
