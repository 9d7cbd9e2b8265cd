"""What a server says while it is not ready, and what follows."""

import http.server
import json
import threading

import pytest

from paritygate.local.serving import _ask


@pytest.fixture
def unready():
    """The address of a server that answers 503 with a body."""
    started = []

    def start(body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(503)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "said", "final"),
    [
        ({"error": "row 3 is wrong", "reason": "GoldenRowsWrong"}, "row 3 is wrong", True),
        ({"error": "golden.onnx is being loaded", "reason": "Loading"}, "golden.onnx is being loaded", False),
        ({"error": "an older server"}, "an older server", False),
    ],
)
def test_only_the_reason_decides_whether_waiting_is_in_vain(unready, body, said, final):
    assert _ask(unready(json.dumps(body).encode())) == (False, said, final)


def test_a_body_that_is_no_json_is_shown(unready):
    assert _ask(unready(b"bad gateway")) == (False, "bad gateway", False)
