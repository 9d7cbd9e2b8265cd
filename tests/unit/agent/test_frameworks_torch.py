"""PyTorch, TorchScript and TorchExport sources: loaders, inputs of any length, mistakes."""

import numpy as np
import pytest

from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import pytorch

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning"),
]
CODE = """
import sys
import torch
from sizes_of_test import WIDTH

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.drop = torch.nn.Linear(WIDTH, 2), torch.nn.Dropout(0.5)

    def forward(self, x, scale=None):
        found = self.drop(self.linear(x))
        return found if scale is None else found * scale

class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 3)

    def forward(self, ids):
        found = self.table(ids)
        return {"pooled": found.mean(1), "tokens": found}

def build():
    print("a loader may print")
    return Net()

def tokens(folder):
    torch.manual_seed(0)
    return Tokens().eval()

def raises():
    raise ValueError("no luck")

def exits():
    sys.exit(0)

def number():
    return 3

def imports():
    import no_such_package_of_test

def needs(one, two):
    return None
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "net_of_test.py").write_text(CODE)
    (folder / "sizes_of_test.py").write_text("WIDTH = 4\n")
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(2, 4), "linear.bias": torch.randn(2)}
    torch.save(weights, folder / "weights.pt")
    return folder


def write_network(folder, argument, result):
    network = f"class Net(torch.nn.Module):\n    def forward(self, {argument}): return {result}\n"
    (folder / "net_of_test.py").write_text(f"import torch\n{network}def build(folder): return Net()\n")


def test_bare_module_gets_the_only_weights_and_evaluation_mode(take, folder, columns, features):
    taken = take("PyTorch", folder, columns, label="y", loader="net_of_test:build")
    weights = torch.load(folder / "weights.pt", weights_only=True)
    expected = torch.from_numpy(features).float() @ weights["linear.weight"].T + weights["linear.bias"]
    assert taken.inputs == {"x": ("FP32", (-1, 4))}
    assert taken.outputs == {"output": ("FP32", (-1, 2), "Scores")}
    np.testing.assert_allclose(taken.table("reference")["output"], expected.numpy(), rtol=1e-5, atol=1e-6)
    assert taken.manifest.task == "Classification"
    assert taken.rules == ["MODE-CHANGED"]
    assert not any(noise.stochastic for noise in taken.manifest.noise)
    assert not (folder / "__pycache__").exists()


def test_safetensors_are_loaded_strictly(take, folder, columns):
    save_file = safetensors.save_file
    (folder / "weights.pt").unlink()
    save_file({"linear.weight": torch.zeros(2, 4), "linear.bias": torch.ones(2)}, folder / "weights.safetensors")
    taken = take("PyTorch", folder, columns, label="y", loader="net_of_test:build")
    assert (taken.table("reference")["output"] == 1).all()
    save_file({"linear.weight": torch.zeros(2, 4)}, folder / "weights.safetensors")
    with pytest.raises(AgentError, match=r"does not fit the module .*linear\.bias") as error:
        take("PyTorch", folder, columns, label="y", loader="net_of_test:build")
    assert error.value.reason == "WeightsMismatch"


def test_rows_of_varying_length_are_answered_together_by_length(take, folder):
    rng = np.random.default_rng(0)
    ids = np.empty(30, dtype=object)
    for row in range(30):
        ids[row] = rng.integers(0, 20, size=3 + row % 3)
    taken = take("PyTorch", folder, {"ids": ids}, loader="net_of_test:tokens")
    assert taken.inputs == {"ids": ("INT64", (-1, -1))}
    assert taken.outputs == {"pooled": ("FP32", (-1, 3), "Tensor"), "tokens": ("FP32", (-1, -1, 3), "Tensor")}
    module = pytorch.load(str(folder), "net_of_test:tokens")
    reference = taken.table("reference")
    for row in range(30):
        expected = module(torch.from_numpy(ids[row])[None])
        np.testing.assert_allclose(reference["tokens"][row], expected["tokens"][0].detach(), rtol=1e-6)
        np.testing.assert_allclose(reference["pooled"][row], expected["pooled"][0].detach(), rtol=1e-6)
    assert "index out of range" in taken.probes("unseen-category")[0].refused


def test_integer_columns_become_floats_where_the_module_wants_floats(take, folder):
    counts = {name: np.arange(12) for name in "abcd"}
    taken = take("PyTorch", folder, counts, loader="net_of_test:build")
    assert taken.inputs == {"x": ("FP32", (-1, 4))}
    assert taken.manifest.cast_exact


def test_flat_rows_take_the_stated_shape(take, folder):
    write_network(folder, "image", "image.mean((2, 3))")
    image = np.arange(48, dtype=np.float32).reshape(3, 16)
    stated = [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 4, 4]}]
    taken = take("PyTorch", folder, {"image": image}, loader="net_of_test:build", inputs=stated)
    assert taken.inputs == {"image": ("FP32", (-1, 1, 4, 4))}
    assert taken.table("inputs")["image"].shape == (3, 1, 4, 4)
    stated[0]["shape"] = [-1, 5, 5]
    with pytest.raises(AgentError, match=r"states shape \[-1, 5, 5\] for 'image'"):
        take("PyTorch", folder, {"image": image}, loader="net_of_test:build", inputs=stated)


@pytest.mark.parametrize(("rows", "cells"), [(30, 2), (400, 4)])
def test_both_ends_of_a_long_row_are_probed(take, folder, rows, cells):
    write_network(folder, "signal", "signal.mean(1)")
    signal = np.random.default_rng(0).normal(size=(rows, 100)).astype(np.float32)
    taken = take("PyTorch", folder, {"signal": signal}, loader="net_of_test:build")
    (passed_over,) = taken.manifest.probed_cells
    assert (passed_over.input, passed_over.cells, passed_over.total) == ("signal", cells, 100)
    described = {probe.description for probe in taken.probes("zero")}
    assert {"zero in all of signal", "zero in signal[0]", "zero in signal[99]"} <= described
    assert len(described) == cells + 1


@pytest.mark.parametrize(
    ("loader", "reason", "text"),
    [
        pytest.param("net_of_test:raises", "LoaderFailed", 'raise ValueError("no luck")', id="a loader that raises"),
        pytest.param("net_of_test:exits", "LoaderFailed", "SystemExit: 0", id="a loader that exits"),
        pytest.param("net_of_test:number", "LoaderFailed", "returned a int", id="a loader that returns no module"),
        pytest.param("net_of_test:needs", "LoaderFailed", "needs 2 arguments", id="a loader with two arguments"),
        pytest.param("net_of_test:absent", "LoaderFailed", "has no callable absent", id="no such callable"),
        pytest.param("absent_of_test:build", "LoaderFailed", "has no module absent_of_test", id="no such module"),
        pytest.param("net_of_test:imports", "PackageMissing", "no-such-package-of-test", id="a missing package"),
        pytest.param(None, "LoaderFailed", "source.loader is missing", id="no loader"),
    ],
)
def test_loader_that_cannot_work_is_named(folder, loader, reason, text):
    with pytest.raises(AgentError) as error:
        pytorch.load(str(folder), loader)
    assert error.value.reason == reason
    assert text in error.value.message


def test_call_names_no_method_of_a_module(take, folder, columns):
    with pytest.raises(AgentError, match=r"source\.call is 'encode', which Net does not have") as error:
        take("PyTorch", folder, columns, label="y", loader="net_of_test:build", call="encode")
    assert error.value.reason == "CallMissing"


def test_two_weights_files_are_ambiguous(folder):
    torch.save({}, folder / "other.pt")
    with pytest.raises(AgentError, match="exactly one"):
        pytorch.load(str(folder), "net_of_test:build")


def test_weights_that_are_no_weights_are_refused(folder):
    (folder / "weights.pt").write_bytes(b"not weights")
    with pytest.raises(AgentError, match=r"weights\.pt cannot be read as weights") as error:
        pytorch.load(str(folder), "net_of_test:build")
    assert error.value.reason == "ModelUnreadable"


def test_row_that_the_module_refuses_is_named(take, folder):
    ids = np.zeros((9, 3), dtype=np.int64)
    ids[6, 1] = 99
    with pytest.raises(AgentError, match=r"raised on row 6 of the dataset: IndexError") as error:
        take("PyTorch", folder, {"ids": ids}, loader="net_of_test:tokens")
    assert error.value.reason == "ModelRaised"


def test_output_without_rows_is_refused(take, folder):
    write_network(folder, "x", "x.sum(0)")
    with pytest.raises(AgentError, match=r"output 'output' has shape \[4\] for 80 rows|for 64 rows") as error:
        take("PyTorch", folder, {"x": np.zeros((80, 4), np.float32)}, loader="net_of_test:build")
    assert error.value.reason == "OutputWithoutRows"


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 2))


def test_torchscript_is_answered_in_evaluation_mode(tmp_path, take, columns, features):
    module = network()
    torch.jit.script(module).save(str(tmp_path / "model.pt"))
    taken = take("TorchScript", tmp_path / "model.pt", columns, label="y")
    expected = module.eval()(torch.from_numpy(features).float()).detach().numpy()
    np.testing.assert_allclose(taken.table("reference")["output"], expected, rtol=1e-5, atol=1e-6)
    assert taken.inputs == {"input": ("FP32", (-1, 4))}
    assert taken.rules == ["MODE-CHANGED"]


def test_exported_program_is_answered(tmp_path, take, columns, features):
    module = network().eval()
    rows = torch.export.Dim("rows")
    program = torch.export.export(module, (torch.zeros(3, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(program, tmp_path / "model.pt2")
    taken = take("TorchExport", tmp_path / "model.pt2", columns, label="y")
    expected = module(torch.from_numpy(features).float()).detach().numpy()
    np.testing.assert_allclose(taken.table("reference")["output"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "outcome"), [(1, "FIXED-BATCH"), (3, "FixedBatch")])
def test_exported_program_with_a_fixed_batch(tmp_path, take, columns, size, outcome):
    program = torch.export.export(network().eval(), (torch.zeros(size, 4),))
    torch.export.save(program, tmp_path / "model.pt2")
    if size == 1:
        assert take("TorchExport", tmp_path / "model.pt2", columns, label="y").rules == [outcome]
        return
    with pytest.raises(AgentError, match="batches of exactly 3 rows") as error:
        take("TorchExport", tmp_path / "model.pt2", columns, label="y")
    assert error.value.reason == outcome


@pytest.mark.parametrize(("source_format", "name"), [("TorchScript", "model.pt"), ("TorchExport", "model.pt2")])
def test_foreign_torch_file_is_refused(tmp_path, take, columns, source_format, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(AgentError, match="is not a whole") as error:
        take(source_format, tmp_path / name, columns)
    assert error.value.reason == "ModelUnreadable"
