"""Requests per second of the server against onnxruntime in process, paired and interleaved.

The in-process side parses the same JSON, runs the same session and writes the same JSON, so the ratio is what HTTP,
checking and threads cost. Client and server share the machine: compare ratios, not numbers from other machines.

    python bench/server.py [--seconds 1] [--rounds 5] [--connections 1 8 32]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
import orjson
import uvloop
from onnx import TensorProto, helper, numpy_helper

from paritygate.server.identity import session_options

FEATURES, HIDDEN, CLASSES = 4, 32, 3
READY_SECONDS = 30.0


def write_model(path: Path) -> None:
    """A multilayer perceptron of the size of the iris data."""
    draw = np.random.default_rng(0).standard_normal
    weights = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES), "b2": (CLASSES,)}
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "iris",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ("N", FEATURES))],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ("N", CLASSES))],
        [numpy_helper.from_array(draw(shape).astype(np.float32), name) for name, shape in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def in_process(path: Path, body: bytes) -> Callable[[float], float]:
    """Measures parse, run and dump without a server, for so many seconds: calls per second."""
    session = onnxruntime.InferenceSession(str(path), session_options(1))

    def measure(seconds: float) -> float:
        calls, start = 0, time.perf_counter()
        while (now := time.perf_counter()) - start < seconds:
            tensor = orjson.loads(body)["inputs"][0]
            array = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
            (answer,) = session.run(None, {"features": array})
            orjson.dumps({"outputs": [{"data": answer}]}, option=orjson.OPT_SERIALIZE_NUMPY)
            calls += 1
        return calls / (now - start)

    return measure


class Client(asyncio.Protocol):
    """One connection that asks the same again and again. All answers are equal, so counting bytes finds their ends."""

    def __init__(self, raw: bytes, size: int, until: float) -> None:
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._raw, self._size, self._until, self._came = raw, size, until, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the first time."""
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Asks again once the answer is whole."""
        self._came += len(data)
        if self._came < self._size:
            return
        now = time.perf_counter()
        self.latencies.append(now - self._start)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the measurement where the server hung up."""
        if not self.done.done():
            self.done.set_exception(error or ConnectionResetError("the server hung up"))

    def _ask(self) -> None:
        self._came = 0
        self._start = time.perf_counter()
        self._transport.write(self._raw)  # type: ignore[attr-defined]


async def _load(url: httpx.URL, raw: bytes, connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests per second, and the median and 99th percentile of their latencies in seconds."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(raw)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"the server answered {head!r}")
    size = len(head) + int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    writer.close()
    start = time.perf_counter()
    clients = [Client(raw, size, start + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, url.host, url.port)
    await asyncio.gather(*(client.done for client in clients))
    latencies = np.concatenate([np.array(client.latencies) for client in clients])
    return len(latencies) / (time.perf_counter() - start), *np.percentile(latencies, [50, 99])


def main() -> None:
    """Prints one line per number of connections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    options = parser.parse_args()
    row = {"name": "features", "datatype": "FP32", "shape": [1, FEATURES], "data": [[5.1, 3.5, 1.4, 0.2]]}
    body = json.dumps({"inputs": [row]}).encode()
    raw = b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: bench\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iris.onnx"
        write_model(path)
        command = [sys.executable, "-m", "paritygate.server", "--model", str(path), "--threads", "1"]
        with subprocess.Popen([*command, "--drain-seconds", "0"], stdout=subprocess.PIPE, text=True) as server:
            url = httpx.URL(json.loads(server.stdout.readline())["url"])  # type: ignore[union-attr]
            deadline = time.monotonic() + READY_SECONDS
            while httpx.get(f"{url}/v2/health/ready").is_error and time.monotonic() < deadline:
                time.sleep(0.05)
            measure = in_process(path, body)
            for connections in options.connections:
                rounds = [
                    (measure(options.seconds), *uvloop.run(_load(url, raw, connections, options.seconds)))
                    for _ in range(options.rounds)
                ]
                plain, served, half, tail = (statistics.median(values) for values in zip(*rounds, strict=True))
                ratio = statistics.median(one[1] / one[0] for one in rounds)
                print(
                    f"{connections:3} connections: {served:7,.0f} req/s "
                    f"(p50 {half * 1e3:.2f} ms, p99 {tail * 1e3:.2f} ms), "
                    f"in process {plain:7,.0f} calls/s, ratio {ratio:.3f}"
                )
            server.terminate()


if __name__ == "__main__":
    main()
