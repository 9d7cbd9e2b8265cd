"""The stage Validate against the real server: a whole verdict folder, twice the same, and every bad folder named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from paritygate.agent import exchange
from paritygate.api.artifacts import CandidateManifest, CaptureManifest, Noise, ValidateRequest
from paritygate.api.digests import canonical_json, digest_of
from paritygate.api.report import (
    Environment,
    EvidenceSummary,
    OutputRole,
    OutputSignature,
    ParityReport,
    Signature,
    TensorSignature,
    Verdict,
)
from paritygate.api.spec import Dataset, Datatype, Equivalence, SourceFormat, Task, Validation
from paritygate.errors import ConfigurationError
from paritygate.worker import validate

DIGEST = "sha256:" + "0" * 64
ROWS = 400


def signature() -> Signature:
    return Signature(
        inputs=(TensorSignature(name="x", datatype=Datatype.FP64, shape=(-1, 3)),),
        outputs=(
            OutputSignature(name="prediction", datatype=Datatype.FP32, shape=(-1, 1), role=OutputRole.PREDICTION),
        ),
    )


def write_capture(folder: Path) -> None:
    folder.mkdir()
    x = np.random.default_rng(0).normal(size=(ROWS, 3))
    manifest = CaptureManifest(
        format=SourceFormat.SKLEARN, framework="scikit-learn", framework_version="1.9.0", source=DIGEST,
        dataset=DIGEST, rows=ROWS, columns=("a", "b", "c"), task=Task.REGRESSION, signature=signature(),
        source_datatypes={"prediction": "float64"}, cast_exact=True,
        environment=Environment(python="3.11.8", platform="Linux x86_64", packages={}),
        noise=(Noise(output="prediction", floor=0.0, rows=64),),
    )  # fmt: skip
    (folder / "capture.json").write_bytes(canonical_json(manifest.to_dict()))
    exchange.save(str(folder / "inputs.npz"), {"x": x})
    exchange.save(str(folder / "reference.npz"), {"prediction": x @ np.asarray([[1.0], [2.0], [3.0]])})


def write_candidate(folder: Path) -> None:
    folder.mkdir()
    weights = numpy_helper.from_array(np.asarray([[1.0], [2.0], [3.0]]), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["prediction"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["rows", 3])],
        [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["rows", 1])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = CandidateManifest(
        name="plain", model_name="linear", signature=signature(), opset=18, ir_version=8, size=1
    )
    (folder / "candidate.json").write_bytes(canonical_json(manifest.to_dict()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("validate")
    write_capture(folder / "capture")
    write_candidate(folder / "candidate")
    command = [
        sys.executable, "-m", "paritygate.server", "--model", str(folder / "candidate"), "--threads", "1",
        "--drain-seconds", "0",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        yield folder, json.loads(server.stdout.readline())["url"]
        server.terminate()


def request_for(folder: Path, url: str, target: Path, **changes: Any) -> Path:
    request = ValidateRequest(
        stage=DIGEST, migration="linear", url=url, equivalence=Equivalence.NUMERIC,
        validation=Validation(dataset=Dataset(uri="holdout.npz")), assessment=str(folder / "assessment"),
        capture=str(folder / "capture"), capture_digest=DIGEST, candidate=str(folder / "candidate"),
        candidate_digest=DIGEST, runtime_digest=DIGEST, reproduce="paritygate validate linear.yaml",
    ).model_copy(update=changes)  # fmt: skip
    target.write_bytes(canonical_json(request.to_dict()))
    return target


def test_another_server_than_the_one_asked_for_does_not_judge(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    request = request_for(folder, url, tmp_path / "request.json", server_identity=DIGEST)
    with pytest.raises(ConfigurationError, match=f"onnxruntime .*{DIGEST} was to judge") as error:
        validate.run(request, tmp_path / "out")
    assert error.value.reason == "RuntimeDiffers"
    assert not (tmp_path / "out" / validate.REPORT).exists()


def test_the_server_that_was_asked_for_judges(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    told = [sys.executable, "-m", "paritygate.server", "--identity", "--threads", "1"]
    identity = digest_of(json.loads(subprocess.run(told, capture_output=True, check=True).stdout))
    request = request_for(folder, url, tmp_path / "request.json", runtime_digest=identity, server_identity=identity)
    validate.run(request, tmp_path / "out")
    report = ParityReport.model_validate_json((tmp_path / "out" / validate.REPORT).read_bytes())
    assert report.subject.runtime == identity


def test_the_verdict_folder_is_complete_and_repeats_itself(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    request = request_for(folder, url, tmp_path / "request.json")
    for name in ("one", "other"):
        validate.run(request, tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == ["golden.json", "golden.npz", "report.html", "report.json", "summary.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    report = ParityReport.model_validate_json((tmp_path / "one" / "report.json").read_bytes())
    summary = EvidenceSummary.model_validate_json((tmp_path / "one" / "summary.json").read_bytes())
    assert report.verdict is Verdict.PASSED
    assert summary.report == digest_of(report.to_dict())
    assert "onnxruntime" in report.candidate_environment.packages
    assert str(tmp_path) not in (tmp_path / "one" / "report.json").read_text()


def test_golden_rows_are_the_candidates_own_answers(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    validate.run(request_for(folder, url, tmp_path / "request.json"), tmp_path / "out")
    golden = exchange.load(str(tmp_path / "out" / "golden.npz"))
    x = exchange.load(str(folder / "capture" / "inputs.npz"))["x"]
    assert len(golden["input:x"]) == 32
    assert golden["output:prediction"].dtype == np.float32
    # The extremes of every column are among them.
    assert golden["input:x"].min(axis=0).tolist() == x.min(axis=0).tolist()
    assert golden["input:x"].max(axis=0).tolist() == x.max(axis=0).tolist()


def test_the_policy_digest_does_not_depend_on_where_the_dataset_lies() -> None:
    here, there, tighter = (
        Validation(dataset=Dataset(uri="a.npz")),
        Validation(dataset=Dataset(uri="b/a.npz")),
        Validation(dataset=Dataset(uri="a.npz"), confidence="0.99"),
    )
    numeric = Equivalence.NUMERIC
    assert validate.policy_digest(numeric, here) == validate.policy_digest(numeric, there)
    assert validate.policy_digest(numeric, here) != validate.policy_digest(numeric, tighter)
    assert validate.policy_digest(numeric, here) != validate.policy_digest(Equivalence.DECISION, here)


@pytest.mark.parametrize(
    ("missing", "reason"), [("candidate", "CandidateUnreadable"), ("capture", "CaptureUnreadable")]
)
def test_a_folder_that_is_missing_is_named(served: tuple[Path, str], tmp_path: Path, missing: str, reason: str) -> None:
    folder, url = served
    request = request_for(folder, url, tmp_path / "request.json", **{missing: str(tmp_path / "nowhere")})
    with pytest.raises(ConfigurationError, match="nowhere") as caught:
        validate.run(request, tmp_path / "out")
    assert caught.value.reason == reason
    assert not (tmp_path / "out" / "report.json").exists()


def test_a_damaged_table_is_named(served: tuple[Path, str], tmp_path: Path) -> None:
    _, url = served
    write_capture(tmp_path / "capture")
    write_candidate(tmp_path / "candidate")
    (tmp_path / "capture" / "reference.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigurationError, match=r"reference\.npz") as caught:
        validate.run(request_for(tmp_path, url, tmp_path / "request.json"), tmp_path / "out")
    assert caught.value.reason == "CaptureUnreadable"


def test_the_page_needs_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "paritygate.report.html", None)
    report: Any = None
    with pytest.raises(ConfigurationError, match="paritygate\\[report\\]") as caught:
        validate.write_page(tmp_path / "report.html", report)
    assert caught.value.reason == "MissingExtra"
