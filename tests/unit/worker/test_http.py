"""The connection to a candidate's server: kept, made anew when it was closed, and honest about what went wrong."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from paritygate.worker.http import Connection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Thing: yes\r\n\r\nhi"


def _read(stream: socket.socket) -> None:
    """One request with its body."""
    content = b""
    while b"\r\n\r\n" not in content:
        content += stream.recv(65536)
    head, _, body = content.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length is not None and len(body) < int(length[1]):
        body += stream.recv(65536)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Starts a server that gives each connection its answers in turn and then closes it: `serve([…], […])` → URL."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads = []

    def start(*connections: list[bytes]) -> str:
        def work() -> None:
            for answers in connections:
                stream, _ = listening.accept()
                with stream:
                    for answer in answers:
                        _read(stream)
                        stream.sendall(answer)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    for thread in threads:
        thread.join(10)
    listening.close()


def test_a_connection_is_kept_and_made_anew_when_the_server_closed_it(serve) -> None:
    connection = Connection(serve([OK, OK], [OK]), 5.0)
    for _ in range(3):
        answer = connection.ask("POST", "/x", b"body", {"A": "b"})
        assert (answer.status, answer.content, answer.headers["x-thing"]) == (200, b"hi", "yes")
    connection.close()


def test_a_server_that_says_that_it_closes_is_taken_at_its_word(serve) -> None:
    last = OK.replace(b"X-Thing: yes", b"X-Thing: yes\r\nConnection: close")
    connection = Connection(serve([last], [last]), 5.0)
    assert [connection.ask("GET", "/x").content for _ in range(2)] == [b"hi", b"hi"]


def test_an_answer_in_chunks_is_put_together(serve) -> None:
    chunks = b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    connection = Connection(serve([chunks]), 5.0)
    answer = connection.ask("GET", "/x")
    assert (answer.status, answer.content) == (404, b"abcde")
    connection.close()


def test_a_server_that_is_not_there_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Connection(f"http://127.0.0.1:{port}", 5.0).ask("GET", "/x")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", b"nonsense\r\n\r\n"])
def test_a_server_that_breaks_off_is_an_oserror(serve, answer: bytes) -> None:
    with pytest.raises(ConnectionError):
        Connection(serve([answer]), 5.0).ask("GET", "/x")


def test_a_server_that_hangs_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Connection(f"http://127.0.0.1:{listening.getsockname()[1]}", 0.2)
        with pytest.raises(TimeoutError):
            connection.ask("GET", "/x")
