"""The server as a process: starting, refusing to start, draining, ending."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

import paritygate
from paritygate.agent import exchange

X = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}


def _slow(size: int) -> dict[str, object]:
    shape = {"name": "shape", "datatype": "INT64", "shape": [2], "data": [size, 256]}
    return {"inputs": [*X["inputs"], shape]}


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paritygate.server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_tells_what_its_answers_depend_on() -> None:
    done = _run("--identity", "--threads", "3")
    assert done.returncode == 0
    identity = json.loads(done.stdout)
    assert identity["version"] == paritygate.__version__
    assert identity["packages"]["onnxruntime"]
    assert identity["options"]["intra_op_num_threads"] == "3"
    assert _run("--identity", "--threads", "3").stdout == done.stdout


@pytest.mark.parametrize(
    ("_name", "arguments", "status", "message"),
    [
        ("no model", (), 64, "--model is missing; give a candidate folder or an .onnx file"),
        ("an unknown option", ("--modle", "x"), 64, "unrecognized arguments: --modle x; --help explains"),
        ("a port out of range", ("--model", "x", "--port", "70000"), 64, "70000 is not a port from 0 to 65535"),
        ("no threads", ("--model", "x", "--threads", "0"), 64, "0 is not ≥ 1"),
        ("a negative drain", ("--model", "x", "--drain-seconds", "-1"), 64, "-1 is not a number of seconds ≥ 0"),
        ("a drain without end", ("--model", "x", "--drain-seconds", "inf"), 64, "inf is not a number of seconds ≥ 0"),
        ("a path where nothing is", ("--model", "nowhere.onnx"), 3, "--model nowhere.onnx: there is no such file"),
        ("golden rows where none are", ("--model", "x", "--golden", "nowhere"), 3, "--golden nowhere: golden.json and"),
    ],
)
def test_refuses_to_start_with(_name, arguments, status, message) -> None:
    done = _run(*arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_refuses_an_address_of_another_machine(graphs) -> None:
    done = _run("--model", str(graphs.identity()), "--host", "192.0.2.1")
    assert done.returncode == 64
    assert "cannot listen on 192.0.2.1" in done.stderr


def test_refuses_a_port_in_use(graphs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _run("--model", str(graphs.identity()), "--port", port)
    assert done.returncode == 64
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_ends_with_status_3_when_the_model_cannot_be_loaded(tmp_path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not ONNX")
    done = _run("--model", str(path))
    assert done.returncode == 3
    assert json.loads(done.stdout)["event"] == "listening"
    assert "cannot load it" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ends_with_status_3_when_golden_rows_are_of_another_model(graphs, tmp_path) -> None:
    exchange.save(str(tmp_path / "golden.npz"), {"input:z": np.ones(1), "output:y": np.ones(1)})
    (tmp_path / "golden.json").write_text("{}")
    done = _run("--model", str(graphs.identity()), "--golden", str(tmp_path))
    assert done.returncode == 3
    assert "the golden rows have inputs ['z'], but the model has ['x']" in done.stderr


def test_logs_which_golden_row_is_wrong(graphs, tmp_path, process) -> None:
    exchange.save(str(tmp_path / "golden.npz"), {"input:x": np.ones((2, 2), "f4"), "output:y": np.zeros((2, 2), "f4")})
    (tmp_path / "golden.json").write_text('{"y": {"rtol": 0, "atol": 0.5}}')
    server = process("--model", str(graphs.identity()), "--golden", str(tmp_path), "--drain-seconds", "0")
    deadline = time.monotonic() + 20
    while "golden" not in httpx.get(f"{server.url}/v2/health/ready").text and time.monotonic() < deadline:
        time.sleep(0.02)
    assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
    server.process.send_signal(signal.SIGTERM)
    status, errors = server.end()
    assert status == 0
    line = json.loads(errors.splitlines()[0])
    assert line["level"] == "error"
    assert line["message"].endswith("output 'y': element [0, 0]: 1.0 instead of 0.0, off by 1, allowed 0.5")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_without_a_drain(graphs, process, how) -> None:
    server = process("--model", str(graphs.identity()), "--drain-seconds", "0")
    server.wait_ready()
    server.process.send_signal(how)
    assert server.end()[0] == 0


def test_no_request_fails_while_it_drains_whether_its_connection_is_old_or_new(graphs, process) -> None:
    server = process("--model", str(graphs.identity()), "--drain-seconds", "4")
    server.wait_ready()
    url = f"{server.url}/v2/models/identity_FP32/infer"
    stop, failures, answered = threading.Event(), [], [0, 0]

    def load(kept: httpx.Client | None) -> None:
        while not stop.is_set():
            try:
                response = kept.post(url, json=X) if kept else httpx.post(url, json=X)
                answered[kept is None] += 1
                if response.status_code != 200:
                    failures.append(response.text)
            except httpx.HTTPError as error:
                failures.append(repr(error))

    with httpx.Client() as first, httpx.Client() as second:
        threads = [threading.Thread(target=load, args=(kept,)) for kept in (first, second, None, None)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = httpx.get(f"{server.url}/v2/health/ready")
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "error": "the server is stopping", "reason": "Draining"}
        assert ready.headers["connection"] == "close"
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200
        before = list(answered)
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert all(after > some for after, some in zip(answered, before, strict=True))
    assert server.end()[0] == 0


def test_requests_under_way_are_finished_after_the_drain(graphs, process) -> None:
    server = process("--model", str(graphs.slow()), "--drain-seconds", "0", "--threads", "1")
    server.wait_ready()
    answers = []
    connected = threading.Barrier(4)

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            client.get(f"{server.url}/v2")
            connected.wait()
            answers.append(client.post(f"{server.url}/v2/models/slow/infer", json=_slow(4000)).status_code)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    connected.wait()
    time.sleep(0.2)
    assert answers == []
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    assert server.end()[0] == 0


def test_a_second_signal_ends_it_at_once(graphs, process) -> None:
    server = process("--model", str(graphs.identity()), "--drain-seconds", "60")
    server.wait_ready()
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while httpx.get(f"{server.url}/v2/health/ready").status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 128 + signal.SIGTERM


def test_writes_an_access_log_only_when_asked(graphs, process) -> None:
    lines = {}
    for option in ((), ("--access-log",)):
        server = process("--model", str(graphs.identity()), "--drain-seconds", "0", *option)
        server.wait_ready()
        httpx.get(f"{server.url}/v2/models/identity_FP32")
        server.process.send_signal(signal.SIGTERM)
        lines[option] = [json.loads(line)["message"] for line in server.end()[1].splitlines()]
    assert not any("/v2/models/identity_FP32" in line for line in lines[()])
    assert any("GET /v2/models/identity_FP32 HTTP/1.1" in line for line in lines["--access-log",])


def test_serves_once_it_is_told_what(graphs, tmp_path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    told = {"arguments": ["--model", str(graphs.identity())], "log": str(log), "output": str(out), "environment": {}}
    with subprocess.Popen([sys.executable, "-m", "paritygate.server", "stand-by"], stdin=subprocess.PIPE) as server:
        try:
            assert server.stdin is not None
            server.stdin.write(json.dumps(told).encode() + b"\n")
            server.stdin.close()
            deadline = time.monotonic() + 30
            while not (out.exists() and out.read_text().endswith("\n")) and time.monotonic() < deadline:
                time.sleep(0.02)
            url = json.loads(out.read_text())["url"]
            while httpx.get(f"{url}/v2/health/ready").status_code != 200 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert httpx.post(f"{url}/v2/models/identity_FP32/infer", json=X).json()["outputs"][0]["data"] == [1, 2]
        finally:
            server.terminate()
    assert '"message": "ready"' in log.read_text()
