"""Tiny ONNX models, and servers that offer them: inside the test's process, or as processes of their own."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from paritygate.api.spec import Datatype
from paritygate.server import model as server_model
from paritygate.server.app import Limits
from paritygate.server.golden import Golden
from paritygate.server.lifecycle import Service, Settings, listener

ONNX_TYPES = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}
DEADLINE = 30.0


class Graphs:
    """Writes tiny models into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, nodes, inputs, outputs, *, opset=17, ir=8, initializers=()) -> Path:
        graph = helper.make_graph(nodes, name, inputs, outputs, list(initializers))
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        path = self.folder / f"{name}.onnx"
        path.write_bytes(proto.SerializeToString())
        return path

    def identity(self, datatype: str = Datatype.FP32, shape=("N", 2), name: str | None = None) -> Path:
        """Y = x."""
        return self.write(
            name or f"identity_{datatype}",
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_tensor_value_info("x", ONNX_TYPES[datatype], shape)],
            [helper.make_tensor_value_info("y", ONNX_TYPES[datatype], shape)],
        )

    def mixed(self) -> Path:
        """Inputs age FP32, count INT64, city BYTES, each [N, 1]; outputs the same and total, a scalar."""
        rows = ("N", 1)
        nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in ("age", "count", "city")]
        nodes.append(helper.make_node("ReduceSum", ["age"], ["total"], keepdims=0))
        types = {"age": TensorProto.FLOAT, "count": TensorProto.INT64, "city": TensorProto.STRING}
        return self.write(
            "mixed",
            nodes,
            [helper.make_tensor_value_info(name, kind, rows) for name, kind in types.items()],
            [
                *(helper.make_tensor_value_info(f"{name}_out", kind, rows) for name, kind in types.items()),
                helper.make_tensor_value_info("total", TensorProto.FLOAT, []),
            ],
        )

    def fragile(self) -> Path:
        """Reshapes x [N, 2] to [-1, 4]: fails on an odd number of rows, which no signature tells."""
        target = helper.make_tensor("target", TensorProto.INT64, [2], [-1, 4])
        return self.write(
            "fragile",
            [helper.make_node("Reshape", ["x", "target"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 2))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("M", 4))],
            initializers=[target],
        )

    def lookup(self) -> Path:
        """Y = table[x] for x in 0 to 2."""
        table = helper.make_tensor("table", TensorProto.FLOAT, [3], [10.0, 20.0, 30.0])
        return self.write(
            "lookup",
            [helper.make_node("Gather", ["table", "x"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.INT64, ("N",))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N",))],
            initializers=[table],
        )

    def recurrent(self) -> Path:
        """Y = the states of an LSTM of size 2 over x [N, T, 1], (N, 2); onnxruntime ends the process for N = 0."""
        sizes = {"w": (1, 8, 1), "r": (1, 8, 2)}
        weights = [
            helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * math.prod(shape))
            for name, shape in sizes.items()
        ]
        axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
        return self.write(
            "recurrent",
            [
                helper.make_node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]),
                helper.make_node("LSTM", ["steps", "w", "r"], ["", "state"], hidden_size=2),
                helper.make_node("Squeeze", ["state", "axis"], ["y"]),
            ],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", "T", 1))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 2))],
            initializers=[*weights, axis],
        )

    def slow(self, steps: int = 400) -> Path:
        """Y = x after `steps` multiplications of a large matrix: about a second."""
        size = 256
        square = helper.make_tensor("square", TensorProto.FLOAT, [size, size], [0.0] * (size * size))
        nodes = [helper.make_node("ConstantOfShape", ["shape"], ["m0"])]
        nodes += [helper.make_node("MatMul", [f"m{step}", "square"], [f"m{step + 1}"]) for step in range(steps)]
        nodes += [
            helper.make_node("ReduceSum", [f"m{steps}"], ["zero"], keepdims=0),
            helper.make_node("Mul", ["x", "zero"], ["nothing"]),
            helper.make_node("Sub", ["x", "nothing"], ["y"]),
        ]
        return self.write(
            "slow",
            nodes,
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 2)),
                helper.make_tensor_value_info("shape", TensorProto.INT64, (2,)),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N", 2))],
            initializers=[square],
        )

    def candidate(
        self, model: Path, signature: dict[str, object], *, guards=(), name: str = "candidate", **stated: object
    ) -> Path:
        """A candidate folder around `model`. `stated`: further fields of its manifest."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.read_bytes())
        proto = onnx.load(model)
        manifest = {
            "name": "plain",
            "modelName": name,
            "signature": signature,
            "opset": proto.opset_import[0].version,
            "irVersion": proto.ir_version,
            "size": model.stat().st_size,
            "guards": list(guards),
            **stated,
        }
        (folder / "candidate.json").write_text(json.dumps(manifest))
        return folder


@dataclass
class Served:
    """A server inside this process."""

    service: Service
    url: str
    name: str

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def infer(self, document: object, **options: object) -> httpx.Response:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        return httpx.post(f"{self.url}/v2/models/{self.name}/infer", content=content, timeout=DEADLINE, **options)


Serve = Callable[..., Served]


@contextlib.contextmanager
def serving() -> Iterator[Serve]:
    started: list[tuple[Service, threading.Thread]] = []

    def serve(
        path: Path,
        *,
        golden: Golden | None = None,
        wait: bool = True,
        threads: int = 1,
        body_seconds: float = 5.0,
        **limits: int,
    ) -> Served:
        bounds = Limits(**{"body": 8 * 2**20, "queue": 64, **limits})
        settings = Settings("127.0.0.1", 0, threads, 0.0, body_seconds, bounds, access_log=False)
        file = server_model.find(path)
        listening = listener(settings.host, settings.port)
        service = Service(file, golden, settings)
        thread = threading.Thread(target=service.run, kwargs={"sockets": [listening]}, daemon=True)
        started.append((service, thread))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.start()
        deadline = time.monotonic() + DEADLINE
        while wait and service.app.model is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert service.app.model is not None or not wait, service.app.obstacle
        return Served(service, url, file.name)

    yield serve
    for service, thread in started:
        service.should_exit = True
        thread.join(DEADLINE)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    return Graphs(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    with serving() as start:
        yield start


class Process:
    """A server as its own process."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paritygate.server", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.url = str(json.loads(self.process.stdout.readline())["url"])

    def wait_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            if httpx.get(f"{self.url}/v2/health/ready").status_code == 200:
                return
            time.sleep(0.02)
        raise AssertionError("never ready")

    def end(self) -> tuple[int, str]:
        """Exit status and standard error, once it ended by itself."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, errors


@pytest.fixture
def process() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: str) -> Process:
        started.append(Process(*arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
