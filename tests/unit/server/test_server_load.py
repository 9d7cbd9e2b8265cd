"""Many requests at once, large ones, and more than can be answered."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import threading
import time

import httpx
import numpy as np


def _tensor(data: list[float]) -> dict[str, object]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(data) // 2, 2], "data": data}]}


def _slow(size: int) -> dict[str, object]:
    shape = {"name": "shape", "datatype": "INT64", "shape": [2], "data": [size, 256]}
    return {"inputs": [*_tensor([1, 2])["inputs"], shape]}


def test_every_answer_goes_to_its_caller(graphs, serve) -> None:
    served = serve(graphs.identity(), threads=2)

    def ask(worker: int) -> list[tuple[object, object]]:
        pairs = []
        with httpx.Client() as client:
            for turn in range(50):
                value = worker * 1000 + turn
                document = {"id": str(value), **_tensor([value, -value] * (1 + value % 7))}
                answer = client.post(f"{served.url}/v2/models/{served.name}/infer", json=document).json()
                pairs.append((answer["id"], str(value)))
                pairs.append((answer["outputs"][0]["data"], [value, -value] * (1 + value % 7)))
        return pairs

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for pairs in pool.map(ask, range(12)):
            assert all(came == sent for came, sent in pairs)


def test_pipelined_requests_are_answered_in_order(graphs, serve) -> None:
    served = serve(graphs.identity())
    bodies = [json.dumps({"id": str(turn), **_tensor([turn, turn])}).encode() for turn in range(10)]
    head = f"POST /v2/models/{served.name}/infer HTTP/1.1\r\nhost: x\r\n"
    raw = b"".join(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body for body in bodies)
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        answer = b""
        while answer.count(b'"id"') < len(bodies):
            answer += connection.recv(65536)
    positions = [answer.index(b'"id":"%d"' % turn) for turn in range(10)]
    assert positions == sorted(positions)


def test_a_batch_of_a_million_values_comes_back_exactly(graphs, serve) -> None:
    served = serve(graphs.identity())
    array = np.random.default_rng(0).standard_normal((500_000, 2), np.float32)
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }
    document = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    response = served.infer(document + array.tobytes(), headers={"Inference-Header-Content-Length": str(len(document))})
    length = int(response.headers["inference-header-content-length"])
    assert response.content[length:] == array.tobytes()


def test_a_large_json_batch_comes_back_exactly(graphs, serve) -> None:
    served = serve(graphs.identity("FP64"))
    values = np.random.default_rng(1).standard_normal(100_000).tolist()
    document = _tensor(values)
    document["inputs"][0]["datatype"] = "FP64"
    assert served.infer(document).json()["outputs"][0]["data"] == values


def test_more_requests_than_may_wait_are_told_to_come_back(graphs, serve) -> None:
    served = serve(graphs.slow(), queue=2)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(served.infer, _slow(2000)) for _ in range(8)]
        deadline = time.monotonic() + 20
        while served.service.app._pending < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert httpx.get(f"{served.url}/v2/health/live").status_code == 200
        responses = [answer.result() for answer in answers]
    refused = [response for response in responses if response.status_code == 503]
    assert len([response for response in responses if response.status_code == 200]) >= 3
    assert len(refused) >= 1
    for response in refused:
        assert response.headers["retry-after"] == "1"
        assert response.json()["error"] == "3 requests are running or waiting; try again later"
    assert served.infer(_slow(1)).status_code == 200


def test_health_is_answered_while_the_model_works(graphs, serve) -> None:
    served = serve(graphs.slow())
    worker = threading.Thread(target=served.infer, args=(_slow(2000),))
    worker.start()
    time.sleep(0.1)
    waits = []
    while worker.is_alive():
        start = time.perf_counter()
        assert httpx.get(f"{served.url}/v2/health/live").status_code == 200
        waits.append(time.perf_counter() - start)
    assert waits
    assert sorted(waits)[len(waits) // 2] < 0.5


def test_a_client_that_goes_away_leaves_no_trace(graphs, serve) -> None:
    served = serve(graphs.identity())
    host, port = served.address.split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(f"POST /v2/models/{served.name}/infer HTTP/1.1\r\ncontent-length: 99\r\n\r\n{{".encode())
    deadline = time.monotonic() + 10
    while served.service.app._pending and time.monotonic() < deadline:
        time.sleep(0.01)
    assert served.service.app._pending == 0
    assert served.infer(_tensor([1, 2])).status_code == 200
