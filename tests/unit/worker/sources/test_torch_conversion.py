"""Modules, scripts and exported programs answer alike after conversion, at any batch size."""

from __future__ import annotations

import textwrap
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from paritygate.api.spec import Source, SourceFormat  # noqa: E402 - after the check for torch
from paritygate.errors import ConfigurationError  # noqa: E402
from paritygate.worker.sources import pytorch, torchexport, torchscript  # noqa: E402

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
TOLERANCE = {"rtol": 1.3e-6, "atol": 1e-5}

MLP = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(5, 8)
            self.norm = nn.BatchNorm1d(8)
            self.drop = nn.Dropout(0.5)
            self.last = nn.Linear(8, 3)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.last(self.drop(torch.relu(self.norm(self.first(features)))))
"""
CNN = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 10)
            )

        def forward(self, image):
            return self.layers(image)
"""
LSTM = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(4, 6, batch_first=True)
            self.last = nn.Linear(6, 2)

        def forward(self, sequence):
            states, _ = self.cell(sequence)
            return {"states": states, "logits": self.last(states[:, -1]), "nothing": None}
"""
TRANSFORMER = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 16)
            self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
            self.last = nn.Linear(16, 2)

        def forward(self, ids):
            return self.last(self.layer(self.embedding(ids)).mean(1))
"""
BRANCHING = """
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(5, 3)
            self.other = nn.Linear(5, 3)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            if bool(features.sum() > 0):
                return self.one(features)
            return self.other(features)
"""
UNSCRIPTABLE_BRANCH = BRANCHING.replace("bool(features.sum() > 0)", "features.detach().numpy().sum() > 0")


def folder_of(tmp_path, code, *, trained=True):
    """A folder with the code, a loader, and weights after a few rows of training."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "net.py").write_text(textwrap.dedent(code) + "\n\ndef build():\n    return Model()\n")
    torch.manual_seed(0)
    module = module_of(folder)
    if trained:
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.25)
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder, module


def module_of(folder):
    scope = {"__name__": "net"}
    exec(compile((folder / "net.py").read_text(), "net.py", "exec"), scope)  # noqa: S102 - our own text
    return scope["build"]().eval()


def answers(module, *tensors):
    with torch.no_grad():
        found = module(*(torch.from_numpy(tensor) for tensor in tensors))
    return found.numpy() if isinstance(found, torch.Tensor) else found


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def scores(wire, classes, name="output"):
    return [wire.output(name, "Scores", "FP32", (-1, classes))]


@pytest.mark.parametrize(
    ("code", "name", "rows", "classes"),
    [
        pytest.param(MLP, "features", random(9, 5), 3, id="dense layers with normalisation and dropout"),
        pytest.param(CNN, "image", random(9, 1, 8, 8), 10, id="convolutions"),
    ],
)
def test_module_answers_alike_at_any_batch_size(tmp_path, converted_model, wire, code, name, rows, classes):
    folder, module = folder_of(tmp_path, code)
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor(name, "FP32", (-1, *rows.shape[1:]))],
        scores(wire, classes),
        sample={name: rows[:8]},
        loader="net:build",
    )
    for count in (1, 2, 3, 7, 9):
        found = candidate.answer({name: rows[:count]})["output"]
        np.testing.assert_allclose(found, answers(module, rows[:count]), **TOLERANCE)


def test_lengths_stay_open_and_outputs_keep_their_order(tmp_path, converted_model, wire):
    folder, module = folder_of(tmp_path, LSTM)
    ragged = np.empty(3, dtype=object)
    ragged[:] = [random(4, 4), random(6, 4), random(2, 4)]
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor("sequence", "FP32", (-1, -1, 4))],
        [wire.output("states", "Tensor", "FP32", (-1, -1, 6)), wire.output("logits", "Tensor", "FP32", (-1, 2))],
        sample={"sequence": ragged},
        loader="net:build",
    )
    for shape in ((1, 6, 4), (5, 3, 4), (2, 11, 4)):
        rows = random(*shape)
        found, expected = candidate.answer({"sequence": rows}), answers(module, rows)
        np.testing.assert_allclose(found["states"], expected["states"], **TOLERANCE)
        np.testing.assert_allclose(found["logits"], expected["logits"], **TOLERANCE)


def test_attention_over_token_numbers(tmp_path, converted_model, wire):
    folder, module = folder_of(tmp_path, TRANSFORMER)
    ids = np.random.default_rng(0).integers(0, 50, (6, 7))
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor("ids", "INT64", (-1, -1))],
        scores(wire, 2),
        sample={"ids": ids},
        loader="net:build",
    )
    for rows in (ids, ids[:1], ids[:3, :4]):
        np.testing.assert_allclose(candidate.answer({"ids": rows})["output"], answers(module, rows), **TOLERANCE)


def test_nothing_of_this_machine_is_in_the_file_and_bytes_repeat(tmp_path, converted_model, wire):
    folder, _ = folder_of(tmp_path, MLP)
    signature = [wire.tensor("features", "FP32", (-1, 5))], scores(wire, 3)
    options = {"sample": {"features": random(8, 5)}, "loader": "net:build"}
    first, second = (converted_model("PyTorch", folder, *signature, **options).path.read_bytes() for _ in range(2))
    assert first == second
    assert str(tmp_path).encode() not in first
    assert b"forward" not in first
    assert b"torch/nn" not in first


def test_branch_on_the_data_keeps_both_sides(tmp_path, converted_model, wire):
    folder, module = folder_of(tmp_path, BRANCHING)
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor("features", "FP32", (-1, 5))],
        scores(wire, 3),
        sample={"features": np.abs(random(8, 5))},
        loader="net:build",
    )
    for rows in (np.abs(random(4, 5)), -np.abs(random(4, 5))):
        np.testing.assert_allclose(candidate.answer({"features": rows})["output"], answers(module, rows), **TOLERANCE)
    assert [finding.rule for finding in candidate.converted.findings] == ["TORCH-SCRIPT-EXPORTER"]


def test_branch_that_no_exporter_keeps_is_refused(tmp_path, converted_model, wire):
    folder, _ = folder_of(tmp_path, UNSCRIPTABLE_BRANCH)
    with pytest.raises(ConfigurationError, match=r"TORCH-DATA-DEPENDENT.*target\.candidate") as caught:
        converted_model(
            "PyTorch",
            folder,
            [wire.tensor("features", "FP32", (-1, 5))],
            scores(wire, 3),
            sample={"features": random(8, 5)},
            loader="net:build",
        )
    assert caught.value.reason == "ConversionUnsupported"


def test_normalisation_by_batch_statistics_is_a_finding(tmp_path, converted_model, wire):
    folder, _ = folder_of(tmp_path, MLP.replace("BatchNorm1d(8)", "BatchNorm1d(8, track_running_stats=False)"))
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor("features", "FP32", (-1, 5))],
        scores(wire, 3),
        sample={"features": random(8, 5)},
        loader="net:build",
    )
    assert [finding.rule for finding in candidate.converted.findings] == ["TORCH-BATCH-STATISTICS"]


@pytest.mark.parametrize("make", ["script", "trace"])
def test_torchscript_answers_alike(tmp_path, converted_model, wire, make):
    _, module = folder_of(tmp_path, MLP)
    path = tmp_path / "model.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.jit.script(module) if make == "script" else torch.jit.trace(module, torch.zeros(4, 5))
        torch.jit.save(compiled, str(path))
    rows = random(9, 5)
    candidate = converted_model(
        "TorchScript", path, [wire.tensor("features", "FP32", (-1, 5))], scores(wire, 3), sample={"features": rows[:8]}
    )
    for count in (1, 2, 9):
        found = candidate.answer({"features": rows[:count]})["output"]
        np.testing.assert_allclose(found, answers(module, rows[:count]), **TOLERANCE)
    assessment = torchscript.assess(path, Source(format=SourceFormat.TORCHSCRIPT, uri="model.pt"))
    rules = [finding.rule for finding in assessment.findings]
    assert rules == (["TORCH-DATA-DEPENDENT"] if make == "trace" else [])
    assert assessment.parameters == sum(t.numel() for t in module.state_dict().values())


def exported(tmp_path, module, dynamic, rows=4):
    path = tmp_path / "model.pt2"
    shapes = {"features": {0: torch.export.Dim("rows")}} if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, (torch.zeros(rows, 5),), dynamic_shapes=shapes), str(path))
    return path


def test_exported_program_answers_alike(tmp_path, converted_model, wire):
    _, module = folder_of(tmp_path, MLP)
    path = exported(tmp_path, module, dynamic=True)
    rows = random(9, 5)
    candidate = converted_model(
        "TorchExport", path, [wire.tensor("features", "FP32", (-1, 5))], scores(wire, 3), sample={"features": rows[:8]}
    )
    for count in (1, 2, 9):
        found = candidate.answer({"features": rows[:count]})["output"]
        np.testing.assert_allclose(found, answers(module, rows[:count]), **TOLERANCE)
    assessment = torchexport.assess(path, Source(format=SourceFormat.TORCHEXPORT, uri="model.pt2"))
    assert assessment.framework_version == torch.__version__.split("+")[0]
    assert assessment.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert assessment.findings == ()


def test_program_with_a_frozen_batch_is_found_and_refused(tmp_path, converted_model, wire):
    _, module = folder_of(tmp_path, MLP)
    path = exported(tmp_path, module.train(), dynamic=False)
    assessment = torchexport.assess(path, Source(format=SourceFormat.TORCHEXPORT, uri="model.pt2"))
    assert [finding.rule for finding in assessment.findings] == ["TORCH-FROZEN-BATCH", "TORCH-TRAINING-MODE"]
    assert "features takes 4 rows" in assessment.findings[0].message
    with pytest.raises(ConfigurationError, match="features was exported with 4 as dimension 0") as caught:
        converted_model(
            "TorchExport",
            path,
            [wire.tensor("features", "FP32", (-1, 5))],
            scores(wire, 3),
            sample={"features": random(8, 5)},
        )
    assert caught.value.reason == "FixedBatch"


def test_assessment_of_a_folder_counts_without_loading(tmp_path):
    folder, module = folder_of(tmp_path, MLP)
    (folder / "net.py").write_text((folder / "net.py").read_text() + "\nraise RuntimeError('must not be imported')\n")
    source = Source(format=SourceFormat.PYTORCH, uri="model", loader="net:build")
    assessment = pytorch.assess(folder, source)
    assert assessment.parameters == sum(tensor.numel() for tensor in module.state_dict().values())
    assert assessment.custom_code == ("net.py",)
    assert [finding.rule for finding in assessment.findings] == ["TORCH-CUSTOM-CODE"]


def test_safetensors_are_counted_and_checked_for_their_length(tmp_path):
    from safetensors.torch import save_file

    folder, module = folder_of(tmp_path, MLP)
    (folder / "weights.pt").unlink()
    path = folder / "weights.safetensors"
    save_file(module.state_dict(), str(path))
    source = Source(format=SourceFormat.PYTORCH, uri="model", loader="net:build")
    assert pytorch.assess(folder, source).parameters == sum(t.numel() for t in module.state_dict().values())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ConfigurationError, match="no whole safetensors file"):
        pytorch.assess(folder, source)


def test_weights_that_name_code_are_a_finding(tmp_path):
    folder, module = folder_of(tmp_path, MLP)
    torch.save({"state": module.state_dict(), "path": folder}, folder / "weights.pt")
    source = Source(format=SourceFormat.PYTORCH, uri="model", loader="net:build")
    rules = [finding.rule for finding in pytorch.assess(folder, source).findings]
    assert rules == ["TORCH-CUSTOM-CODE", "TORCH-PICKLED-WEIGHTS"]


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        pytest.param("other:build", r"no module other; it has broken\.py, net\.py", id="a module that is not there"),
        pytest.param("broken:build", r"broken\.py, line 1", id="a module with a syntax error"),
    ],
)
def test_loader_that_cannot_work_is_refused_early(tmp_path, loader, message):
    folder, _ = folder_of(tmp_path, MLP)
    (folder / "broken.py").write_text("def build(:\n")
    with pytest.raises(ConfigurationError, match=message) as caught:
        pytorch.assess(folder, Source(format=SourceFormat.PYTORCH, uri="model", loader=loader))
    assert caught.value.reason == "LoaderFailed"


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK")
    with pytest.raises(ConfigurationError, match="takes a folder"):
        pytorch.assess(path, Source(format=SourceFormat.PYTORCH, uri="model.pt", loader="net:build"))


@pytest.mark.parametrize("kind", ["TorchScript", "TorchExport"])
def test_truncated_archive_is_refused(tmp_path, kind):
    _, module = folder_of(tmp_path, MLP)
    path = exported(tmp_path, module, dynamic=True)
    path.write_bytes(path.read_bytes()[:-200])
    assess = (torchscript if kind == "TorchScript" else torchexport).assess
    with pytest.raises(ConfigurationError, match=r"source\.format") as caught:
        assess(path, Source(format=SourceFormat(kind), uri="model"))
    assert caught.value.reason == "ModelUnreadable"


def test_an_exported_program_is_no_torchscript(tmp_path):
    _, module = folder_of(tmp_path, MLP)
    path = exported(tmp_path, module, dynamic=True)
    with pytest.raises(ConfigurationError, match=r"source\.format"):
        torchscript.assess(path, Source(format=SourceFormat.TORCHSCRIPT, uri="model.pt"))


@pytest.mark.parametrize("code", [MLP, BRANCHING], ids=["torch.export", "compiled TorchScript"])
def test_large_weights_lie_beside_the_graph(tmp_path, converted_model, wire, monkeypatch, code):
    from paritygate.worker.sources import _torch_export

    monkeypatch.setattr(_torch_export, "_INLINE_LIMIT", 16)
    monkeypatch.setattr(_torch_export, "_SMALLEST_OUTSIDE", 0)
    folder, module = folder_of(tmp_path, code)
    rows = random(8, 5)
    candidate = converted_model(
        "PyTorch",
        folder,
        [wire.tensor("features", "FP32", (-1, 5))],
        scores(wire, 3),
        sample={"features": rows},
        loader="net:build",
    )
    assert sorted(path.name for path in candidate.path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    np.testing.assert_allclose(candidate.answer({"features": rows})["output"], answers(module, rows), **TOLERANCE)
