"""The server as the stock client of Triton sees it."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest

from paritygate.api.spec import Datatype

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

VALUES = {
    Datatype.BOOL: np.array([[True, False], [False, True]]),
    Datatype.UINT8: np.array([[0, 255], [1, 2]], np.uint8),
    Datatype.UINT16: np.array([[0, 65535], [1, 2]], np.uint16),
    Datatype.UINT32: np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    Datatype.UINT64: np.array([[0, 2**64 - 1], [2**53 + 1, 2]], np.uint64),
    Datatype.INT8: np.array([[-128, 127], [1, 2]], np.int8),
    Datatype.INT16: np.array([[-32768, 32767], [1, 2]], np.int16),
    Datatype.INT32: np.array([[-(2**31), 2**31 - 1], [1, 2]], np.int32),
    Datatype.INT64: np.array([[-(2**63), 2**63 - 1], [2**53 + 1, 2]], np.int64),
    Datatype.FP16: np.array([[1.5, 65504], [6e-8, -0.0]], np.float16),
    Datatype.BF16: np.array([[1.5, 3e38], [1e-40, np.nan]], ml_dtypes.bfloat16),
    Datatype.FP32: np.array([[0.1, 3.4028235e38], [1e-45, 16777217]], np.float32),
    Datatype.FP64: np.array([[0.1, 1 / 3], [5e-324, 1.7976931348623157e308]]),
    Datatype.BYTES: np.array([["", "grün"], ["a\0b", "日本"]], object),
}


@pytest.fixture
def client():
    opened = []

    def connect(served):
        opened.append(triton.InferenceServerClient(served.address, connection_timeout=30, network_timeout=30))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def _tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool) -> triton.InferInput:
    tensor = triton.InferInput(name, list(array.shape), str(datatype))
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _texts(array: np.ndarray) -> np.ndarray:
    decode = np.vectorize(lambda text: text.decode() if isinstance(text, bytes) else text, otypes=[object])
    return decode(array) if array.size else array.astype(object)


ENCODINGS = [
    (datatype, binary_input, binary_output)
    for datatype in sorted(VALUES)
    for binary_input in (True, False)
    for binary_output in (True, False)
    if datatype != Datatype.BF16 or (binary_input and binary_output)  # the client itself has no BF16 in JSON
]


@pytest.mark.parametrize(
    "encoding",
    ENCODINGS,
    ids=lambda row: f"{row[0]}, {(row[1] and 'binary') or 'JSON'} in, {(row[2] and 'binary') or 'JSON'} out",
)
def test_carries_every_datatype_exactly(graphs, serve, client, encoding) -> None:
    datatype, binary_input, binary_output = encoding
    served = serve(graphs.identity(datatype))
    array = VALUES[datatype]
    answer = client(served).infer(
        served.name,
        [_tensor("x", array, datatype, binary=binary_input)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary_output)],
        request_id="request 1",
    )
    assert answer.get_response()["id"] == "request 1"
    came = answer.as_numpy("y")
    if datatype == Datatype.BYTES:
        assert _texts(came).tolist() == array.tolist()
    else:
        assert came.dtype == array.dtype
        assert came.tobytes() == array.tobytes()


def test_describes_itself(graphs, serve, client) -> None:
    served = serve(graphs.mixed())
    connection = client(served)
    assert connection.is_server_live()
    assert connection.is_server_ready()
    assert connection.is_model_ready("mixed")
    assert connection.is_model_ready("mixed", "1")
    assert not connection.is_model_ready("other")
    server = connection.get_server_metadata()
    assert server["name"] == "paritygate"
    assert server["extensions"] == ["binary_tensor_data"]
    assert server["identity"]["options"]["graph_optimization_level"] == "ORT_ENABLE_ALL"
    assert connection.get_model_metadata("mixed") == connection.get_model_metadata("mixed", "1")
    assert connection.get_model_metadata("mixed") == {
        "name": "mixed",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "age", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "count", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "age_out", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "count_out", "datatype": "INT64", "shape": [-1, 1]},
            {"name": "city_out", "datatype": "BYTES", "shape": [-1, 1]},
            {"name": "total", "datatype": "FP32", "shape": []},
        ],
    }


def _mixed(rows: int, *, binary=(True, True, True)) -> list[triton.InferInput]:
    return [
        _tensor(
            "city",
            np.array([[f"city {row}"] for row in range(rows)], object).reshape(rows, 1),
            "BYTES",
            binary=binary[0],
        ),
        _tensor("age", np.arange(rows, dtype=np.float32).reshape(rows, 1), "FP32", binary=binary[1]),
        _tensor("count", np.arange(rows).reshape(rows, 1), "INT64", binary=binary[2]),
    ]


@pytest.mark.parametrize("binary", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_inputs_come_in_any_order_and_encoding_and_all_outputs_go(graphs, serve, client, rows, binary) -> None:
    served = serve(graphs.mixed())
    answer = client(served).infer("mixed", _mixed(rows, binary=binary), model_version="1")
    assert [output["name"] for output in answer.get_response()["outputs"]] == [
        "age_out",
        "count_out",
        "city_out",
        "total",
    ]
    np.testing.assert_array_equal(answer.as_numpy("age_out"), np.arange(rows, dtype=np.float32).reshape(rows, 1))
    assert _texts(answer.as_numpy("city_out")).tolist() == [[f"city {row}"] for row in range(rows)]
    assert answer.as_numpy("total").shape == ()
    assert answer.as_numpy("total") == rows * (rows - 1) / 2


def test_only_requested_outputs_go_each_in_its_own_encoding(graphs, serve, client) -> None:
    served = serve(graphs.mixed())
    outputs = [
        triton.InferRequestedOutput("total", binary_data=False),
        triton.InferRequestedOutput("age_out", binary_data=True),
    ]
    answer = client(served).infer("mixed", _mixed(2), outputs=outputs)
    total, age = answer.get_response()["outputs"]
    assert total == {"name": "total", "datatype": "FP32", "shape": [], "data": [1.0]}
    assert age["parameters"] == {"binary_data_size": 8}


@pytest.mark.parametrize("binary", [True, False])
def test_nan_and_infinities_survive_both_encodings(graphs, serve, client, binary) -> None:
    served = serve(graphs.identity(Datatype.FP64))
    array = np.array([[np.nan, np.inf], [-np.inf, -0.0]])
    answer = client(served).infer(
        served.name,
        [_tensor("x", array, "FP64", binary=True)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary)],
    )
    np.testing.assert_array_equal(answer.as_numpy("y"), array)
    assert np.signbit(answer.as_numpy("y")[1, 1])


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_takes_compressed_requests(graphs, serve, client, algorithm) -> None:
    served = serve(graphs.mixed())
    answer = client(served).infer("mixed", _mixed(100), request_compression_algorithm=algorithm)
    assert answer.as_numpy("total") == 4950


def test_parameters_of_clients_do_no_harm(graphs, serve, client) -> None:
    served = serve(graphs.mixed())
    answer = client(served).infer("mixed", _mixed(1), sequence_id=4, priority=1, timeout=10, parameters={"mine": "yes"})
    assert answer.as_numpy("total") == 0


def test_a_mistake_reaches_the_client_as_its_own_error(graphs, serve, client) -> None:
    served = serve(graphs.mixed())
    with pytest.raises(InferenceServerException, match="input 'city' is missing") as refusal:
        client(served).infer("mixed", _mixed(2)[1:])
    assert refusal.value.status() == "400"


def test_names_with_odd_signs_are_found(graphs, serve, client) -> None:
    served = serve(graphs.identity(name="grün & größer v1.2"))
    assert client(served).is_model_ready(served.name)
    array = np.ones((1, 2), np.float32)
    answer = client(served).infer(served.name, [_tensor("x", array, "FP32", binary=True)])
    assert answer.get_response()["model_name"] == served.name
