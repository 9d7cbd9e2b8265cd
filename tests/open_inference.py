"""A stock client of the Open Inference Protocol, as users have one."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tritonclient.http as triton


def asked(address: str, model: str, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The answers of a stock Open Inference client, BYTES as text."""
    client = triton.InferenceServerClient(address, connection_timeout=30, network_timeout=60)
    try:
        assert client.is_server_ready()
        assert client.is_model_ready(model)
        datatypes = {tensor["name"]: tensor["datatype"] for tensor in client.get_model_metadata(model)["inputs"]}
        tensors = []
        for name, array in inputs.items():
            tensors.append(triton.InferInput(name, list(array.shape), datatypes[name]))
            tensors[-1].set_data_from_numpy(array)
        answer = client.infer(model, tensors)
        found = {one["name"]: answer.as_numpy(one["name"]) for one in answer.get_response()["outputs"]}
    finally:
        client.close()
    text = np.vectorize(bytes.decode, otypes=[object])
    return {name: text(array) if array.dtype.kind in "SO" else array for name, array in found.items()}
