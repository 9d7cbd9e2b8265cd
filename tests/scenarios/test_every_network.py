"""A network of every format, and an ONNX file, from the file to answers to a stock Open Inference client."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.timeout(300)]

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.3),
            torch.nn.Flatten(), torch.nn.Linear(144, 10),
        )

    def forward(self, pixels):
        return self.body(pixels)

class Reader(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.memory = torch.nn.Embedding(30, 6), torch.nn.LSTM(6, 5, batch_first=True)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, words, age):
        _, (state, _) = self.memory(self.table(words))
        return self.head(torch.cat([state[-1], age], dim=1))
"""
NAMES = {"outputs": [{"name": "logits"}]}


@dataclass(frozen=True)
class Ready:
    """A model on disk with what it answers."""

    source: dict[str, Any]
    dataset: dict[str, Any]
    inputs: dict[str, np.ndarray]
    """Of a few rows, as a client sends them."""
    answers: dict[str, np.ndarray]
    """The source's own, to these rows."""


def folder_of_code(folder: Path) -> Ready:
    network = trained("Net", folder)
    (folder / "net").mkdir()
    (folder / "net" / "network_of_scenario.py").write_text(f"{CODE}\ndef build():\n    return Net()\n")
    torch.save(network.state_dict(), folder / "net" / "weights.pt")
    source = {"format": "PyTorch", "uri": "net", "loader": "network_of_scenario:build", **NAMES}
    return Ready(
        source, pictures(folder), {"pixels": digits()[0][:20]}, {"logits": answered(network, digits()[0][:20])}
    )


def sequences_of_any_length(folder: Path) -> Ready:
    network = trained("Reader", folder)
    (folder / "net").mkdir()
    (folder / "net" / "reader_of_scenario.py").write_text(f"{CODE}\ndef build():\n    return Reader()\n")
    torch.save(network.state_dict(), folder / "net" / "weights.pt")
    rng = np.random.default_rng(0)
    words = np.empty(120, dtype=object)
    words[:] = [rng.integers(0, 30, 3 + row % 4) for row in range(120)]
    age = rng.normal(size=(120, 1)).astype(np.float32)
    np.savez(folder / "data.npz", words=words, age=age)
    one = np.stack(list(words[::4]))
    source = {"format": "PyTorch", "uri": "net", "loader": "reader_of_scenario:build", **NAMES}
    return Ready(
        source, {"uri": "data.npz"}, {"words": one, "age": age[::4]}, {"logits": answered(network, one, age[::4])}
    )


def exported_program(folder: Path) -> Ready:
    network = trained("Net", folder)
    program = torch.export.export(
        network, (torch.from_numpy(digits()[0][:2]),), dynamic_shapes={"pixels": {0: torch.export.Dim.DYNAMIC}}
    )
    torch.export.save(program, folder / "net.pt2")
    source = {"format": "TorchExport", "uri": "net.pt2", **NAMES}
    return Ready(
        source, pictures(folder), {"pixels": digits()[0][:20]}, {"logits": answered(network, digits()[0][:20])}
    )


def script(folder: Path) -> Ready:
    network = trained("Net", folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of TorchScript
        torch.jit.script(network).save(folder / "net.pt")
    source = {"format": "TorchScript", "uri": "net.pt", **NAMES}
    return Ready(
        source, pictures(folder), {"pixels": digits()[0][:20]}, {"logits": answered(network, digits()[0][:20])}
    )


def onnx_with_weights_beside(folder: Path) -> Ready:
    weights = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["pixels"], ["flat"]),
            onnx.helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    (folder / "net").mkdir()
    onnx.save(model, folder / "net" / "net.onnx", save_as_external_data=True, size_threshold=0, location="weights.bin")
    session = onnxruntime.InferenceSession(folder / "net" / "net.onnx")
    rows = digits()[0][:20]
    return Ready(
        {"format": "ONNX", "uri": "net"}, pictures(folder), {"pixels": rows},
        {"logits": session.run(["logits"], {"pixels": rows})[0]},
    )  # fmt: skip


FORMATS: dict[str, Callable[[Path], Ready]] = {
    "a folder of code with weights and a loader": folder_of_code,
    "a network of two inputs, one of any length": sequences_of_any_length,
    "a program of torch.export": exported_program,
    "a TorchScript archive": script,
    "an ONNX file with its weights beside it": onnx_with_weights_beside,
}


@pytest.mark.parametrize("model", FORMATS.values(), ids=FORMATS.keys())
def test_passes_and_answers_as_the_source(model, command_line):
    ready = model(command_line.folder)
    manifest = command_line.manifest("net", ready.source, ready.dataset)
    with command_line.serving(manifest) as served:
        answers = command_line.asked(served, "net", ready.inputs)
    assert answers.keys() == ready.answers.keys()
    for name, expected in ready.answers.items():
        np.testing.assert_allclose(answers[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """(1797, 1, 8, 8) float32 in 0..1, and the digits."""
    found, labels = load_digits(return_X_y=True)
    return (found / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels


def pictures(folder: Path) -> dict[str, Any]:
    """The dataset that judges networks of pictures."""
    found, labels = digits()
    np.savez(folder / "data.npz", pixels=found[1000:1500], digit=labels[1000:1500])
    return {"uri": "data.npz", "label": "digit"}


def trained(name: str, folder: Path) -> torch.nn.Module:
    """The class `name` of CODE; networks of pictures learn for a moment, so that their answers are spread."""
    torch.manual_seed(0)
    (folder / "code_of_scenario.py").write_text(CODE)
    network = script_class(name, folder / "code_of_scenario.py")()
    if name == "Net":
        found, labels = (torch.from_numpy(array[:1000]) for array in digits())
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(20):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(found), labels).backward()
            optimiser.step()
    return network.eval()


def script_class(name: str, file: Path) -> Any:
    """A class from a file: TorchScript reads its source."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"code_of_scenario_{file.parent.name}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def answered(network: torch.nn.Module, *inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(*map(torch.from_numpy, inputs)).numpy()
