"""The Convert stage: candidates converted and brought, finished to the captured signature, and guarded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn import compose, datasets, ensemble, linear_model, pipeline, preprocessing

from paritygate.agent import exchange
from paritygate.api.artifacts import CandidateManifest, CaptureManifest, ConvertRequest, InputGuard, Probe
from paritygate.api.report import Environment, OutputSignature, Signature, TensorSignature
from paritygate.api.spec import BroughtCandidate, Source, SourceFormat, Target, Task
from paritygate.errors import ConfigurationError
from paritygate.worker import convert

DIGEST = "sha256:" + "0" * 64
FEATURES, TARGET = datasets.load_iris(return_X_y=True)
SIGNATURE = Signature(
    inputs=(TensorSignature(name="features", datatype="FP64", shape=(-1, 4)),),
    outputs=(
        OutputSignature(name="label", datatype="INT64", shape=(-1,), role="Label"),
        OutputSignature(name="probabilities", datatype="FP32", shape=(-1, 3), role="Probabilities"),
    ),
)


def capture_folder(
    folder: Path, signature: Signature = SIGNATURE, inputs: Any = None, probes: Sequence[tuple[Probe, Any]] = ()
) -> Path:
    """A capture with its inputs and probes."""
    folder.mkdir()
    manifest = CaptureManifest(
        format=SourceFormat.SKLEARN, framework="scikit-learn", framework_version="1.9", source=DIGEST, dataset=DIGEST,
        rows=3, columns=(), task=Task.GENERIC, signature=signature, source_datatypes={}, cast_exact=True,
        environment=Environment(python="3.11", platform="any", packages={}), noise=(),
        probes=tuple(probe for probe, _ in probes),
    )  # fmt: skip
    (folder / "capture.json").write_text(manifest.model_dump_json(by_alias=True))
    exchange.save(str(folder / "inputs.npz"), inputs if inputs is not None else {"features": FEATURES[:3]})
    if probes:
        names = [tensor.name for tensor in signature.inputs]
        rows = {name: [row[name] for _, row in probes if row is not None] for name in names}
        exchange.save(str(folder / "probes.npz"), {name: np.stack(values) for name, values in rows.items()})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    steps = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=200))
    joblib.dump(steps.fit(FEATURES, TARGET), tmp_path / "model.pkl")
    return tmp_path / "model.pkl"


def run(folder: Path, out: str = "candidate", **fields: Any) -> CandidateManifest:
    """Runs the stage; the request asks for a plain conversion unless `fields` say otherwise."""
    defaults = {"source": Source(format=SourceFormat.SKLEARN, uri="model.pkl"), "target": Target(format="ONNX")}
    request = ConvertRequest(**{**defaults, "model_name": "iris", "model": None, **fields})
    (folder / "request.json").write_text(request.model_dump_json(by_alias=True, exclude_unset=True))
    convert.run(folder / "request.json", folder / out)
    return CandidateManifest.model_validate_json((folder / out / "candidate.json").read_bytes())


def brought(folder: Path, made: onnx.ModelProto, capture: Path | None = None) -> CandidateManifest:
    """Runs the stage on an artefact made elsewhere."""
    onnx.save(made, str(folder / "brought.onnx"))
    target = Target(format="ONNX", candidate=BroughtCandidate(uri="brought.onnx", equivalence="Numeric"))
    capture = capture or capture_folder(folder / "capture")
    return run(folder, target=target, brought=str(folder / "brought.onnx"), capture=str(capture))


def session(folder: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])


def exported(
    inputs: Sequence[tuple[str, int, Any]] = (("X", TensorProto.FLOAT, [None, 4]),), *, batch: Any = None,
    label: tuple[str, int] = ("output_label", TensorProto.INT64), scores: str = "output_probability",
    width: int = 3, **options: Any,
) -> onnx.ModelProto:  # fmt: skip
    """A classifier as others export it: softmax of a product, in single precision."""
    name = inputs[0][0]
    weights = numpy_helper.from_array(np.arange(4 * width, dtype=np.float32).reshape(4, width), "W")
    nodes = [
        helper.make_node("MatMul", [name, "W"], ["raw"], doc_string="made in /home/someone"),
        helper.make_node("Softmax", ["raw"], [scores], axis=1),
        helper.make_node("ArgMax", [scores], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], [label[0]], to=label[1]),
    ]
    graph = helper.make_graph(
        nodes, "4f1b2c-random",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info(label[0], label[1], [batch]),
         helper.make_tensor_value_info(scores, TensorProto.FLOAT, [batch, width])],
        initializer=[weights], doc_string="exported at noon",
    )  # fmt: skip
    opset = options.pop("opset", 17)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=options.pop("ir", 8))
    made.metadata_props.add(key="path", value="/home/someone/model.py")
    return made


def test_a_conversion_offers_the_captured_signature(model: Path, tmp_path: Path) -> None:
    found = run(tmp_path, model=str(model), capture=str(capture_folder(tmp_path / "capture")))
    assert found.name == "plain"
    assert found.signature == SIGNATURE
    assert found.converter.keys() >= {"onnx", "scikit-learn"}
    assert found.size == (tmp_path / "candidate" / "model.onnx").stat().st_size
    label, probabilities = session(tmp_path / "candidate").run(["label", "probabilities"], {"features": FEATURES})
    source = joblib.load(model)
    assert label.tolist() == source.predict(FEATURES).tolist()
    np.testing.assert_allclose(probabilities, source.predict_proba(FEATURES), rtol=1.3e-6, atol=1e-7)
    assert probabilities.dtype == np.float32


def test_rows_of_our_own_trees_are_independent_and_nobody_elses(model: Path, tmp_path: Path) -> None:
    capture = capture_folder(tmp_path / "capture")
    assert not run(tmp_path, "linear", model=str(model), capture=str(capture)).independent_rows
    forest = ensemble.RandomForestClassifier(3, random_state=0).fit(FEATURES, TARGET)
    joblib.dump(forest, tmp_path / "forest.pkl")
    assert run(tmp_path, "trees", model=str(tmp_path / "forest.pkl"), capture=str(capture)).independent_rows
    assert not brought(tmp_path, onnx.load(tmp_path / "trees" / "model.onnx"), capture).independent_rows


def test_the_same_request_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    capture = str(capture_folder(tmp_path / "capture"))
    for out in ("first", "second"):
        run(tmp_path, out, model=str(model), capture=capture)
    for name in ("model.onnx", "candidate.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_opset_is_the_stated_one_or_the_default(model: Path, tmp_path: Path) -> None:
    capture = str(capture_folder(tmp_path / "capture"))
    assert run(tmp_path, model=str(model), capture=capture).opset == convert.DEFAULT_OPSET
    stated = run(tmp_path, "other", model=str(model), capture=capture, target=Target(format="ONNX", opset=21))
    assert stated.opset == 21


def test_a_brought_artefact_is_adapted_and_says_how(tmp_path: Path) -> None:
    found = brought(tmp_path, exported())
    assert found.name == "brought"
    assert found.signature == SIGNATURE
    assert [finding.rule for finding in found.findings] == ["CANDIDATE-ADAPTED"]
    message = found.findings[0].message
    assert "input X FP32 [-1, 4] is offered as features FP64 [-1, 4]" in message
    assert "output output_label INT64 [-1] is offered as label INT64 [-1]" in message
    original = ort.InferenceSession(exported().SerializeToString(), providers=["CPUExecutionProvider"])
    expected = original.run(None, {"X": FEATURES.astype(np.float32)})
    for have, want in zip(session(tmp_path / "candidate").run(None, {"features": FEATURES}), expected, strict=True):
        np.testing.assert_array_equal(have, want)


def test_values_that_single_precision_cannot_hold_are_found(tmp_path: Path) -> None:
    rows = FEATURES[:3].copy()
    rows[1, 2] = 1.7e12
    found = brought(tmp_path, exported(), capture_folder(tmp_path / "capture", inputs={"features": rows}))
    assert [finding.rule for finding in found.findings] == ["CANDIDATE-ADAPTED", "FLOAT64-ABOVE-2-24"]
    assert "input features reaches 1.7e+12" in found.findings[1].message


def test_nothing_tells_where_and_when_it_was_made(tmp_path: Path) -> None:
    brought(tmp_path, exported())
    content = (tmp_path / "candidate" / "model.onnx").read_bytes()
    assert not any(trace in content for trace in (b"/home", b"noon", b"random"))


def test_a_brought_artefact_of_the_same_signature_stays_as_it_is(tmp_path: Path) -> None:
    signature = Signature(
        inputs=(TensorSignature(name="features", datatype="FP32", shape=(-1, 4)),), outputs=SIGNATURE.outputs
    )
    made = exported(
        (("features", TensorProto.FLOAT, [None, 4]),), label=("label", TensorProto.INT64), scores="probabilities"
    )
    capture = capture_folder(tmp_path / "capture", signature, {"features": FEATURES[:3].astype(np.float32)})
    assert brought(tmp_path, made, capture).findings == ()


def test_names_of_the_signature_may_stand_for_other_tensors_inside(tmp_path: Path) -> None:
    made = exported(
        (("features", TensorProto.FLOAT, [None, 4]),), label=("probabilities", TensorProto.INT64), scores="label"
    )
    capture = capture_folder(tmp_path / "capture")
    with pytest.raises(ConfigurationError, match=r"shapes differ|cannot stand for"):
        brought(tmp_path, made, capture)
    made = exported((("label", TensorProto.FLOAT, [None, 4]),), scores="features")
    out = brought(tmp_path, made, capture)
    assert out.signature == SIGNATURE
    assert session(tmp_path / "candidate").run(["label"], {"features": FEATURES})[0].shape == (150,)


def test_a_zipmap_is_taken_away(tmp_path: Path) -> None:
    made = exported(scores="scores")
    made.graph.node.append(
        helper.make_node(
            "ZipMap", ["scores"], ["output_probability"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]
        )
    )
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    made.graph.output[1].CopyFrom(onnx.ValueInfoProto(name="output_probability"))
    sequence = made.graph.output[1].type.sequence_type.elem_type.map_type
    sequence.key_type, sequence.value_type.tensor_type.elem_type = TensorProto.INT64, TensorProto.FLOAT
    assert "ZipMap removed" in brought(tmp_path, made).findings[0].message
    assert session(tmp_path / "candidate").run(["probabilities"], {"features": FEATURES})[0].shape == (150, 3)


def linear_classifier(*between: str) -> onnx.ModelProto:
    """A classifier whose label is declared as one value, with operators between it and the output."""
    classify = helper.make_node(
        "LinearClassifier", ["X"], ["inner_0", "raw"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
        coefficients=np.linspace(-1, 1, 12).tolist(), intercepts=[0.0, 0.0, 0.0], post_transform="SOFTMAX",
    )  # fmt: skip
    steps = [helper.make_node(kind, [f"inner_{i}"], [f"inner_{i + 1}"]) for i, kind in enumerate(between)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [classify, *steps, helper.make_node("Identity", ["raw"], ["scores"])], "g",
        [value("X", TensorProto.FLOAT, [None, 4])],
        [value(f"inner_{len(steps)}", TensorProto.INT64, [1]), value("scores", TensorProto.FLOAT, [None, 3])],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_a_label_declared_as_one_value_is_what_its_classifier_makes(tmp_path: Path) -> None:
    found = brought(tmp_path, linear_classifier("Identity", "Identity"))
    assert "declared as [1], its LinearClassifier gives one per row" in found.findings[0].message
    assert session(tmp_path / "candidate").run(["label"], {"features": FEATURES})[0].shape == (150,)


def test_a_label_of_one_value_that_may_be_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="its first dimension is fixed"):
        brought(tmp_path, linear_classifier("Abs"))


def two_inputs() -> onnx.ModelProto:
    return exported((("X", TensorProto.FLOAT, [None, 4]), ("Y", TensorProto.FLOAT, [None, 4])))


MISFITS = {
    "another number of inputs": (two_inputs, "CandidateSignatureDiffers", "X FP32 [-1, 4]; Y FP32 [-1, 4]"),
    "many more inputs": (
        lambda: exported(tuple((f"X{i}", TensorProto.FLOAT, [None, 4]) for i in range(7))), "CandidateSignatureDiffers",
        "X3 FP32 [-1, 4] and 3 more, and the source has features FP64 [-1, 4];",
    ),
    "one more input, beside one of the source's name": (
        lambda: exported((("features", TensorProto.FLOAT, [None, 4]), ("Y", TensorProto.FLOAT, [None, 4]))),
        "CandidateSignatureDiffers", "inputs Y FP32 [-1, 4], and the source has none, beside 1 of the same name;",
    ),
    "text where numbers are": (
        lambda: exported(label=("output_label", TensorProto.STRING)), "CandidateSignatureDiffers", "output_label BYTES",
    ),
    "another number of classes": (lambda: exported(width=2), "CandidateSignatureDiffers", "[-1, 3]"),
    "a fixed batch": (
        lambda: exported((("X", TensorProto.FLOAT, [1, 4]),), batch=1), "CandidateSignatureDiffers", "dynamic batch",
    ),
    "an opset that is too new": (lambda: exported(opset=28, ir=13), "CandidateUnservable", "opset 26 or older"),
    "operators of its own": (
        lambda: with_custom_operator(exported()), "CandidateUnservable", "'my.operators'",
    ),
    "an undefined tensor": (lambda: with_missing_tensor(exported()), "CandidateInvalid", "valid ONNX"),
}  # fmt: skip


def with_custom_operator(made: onnx.ModelProto) -> onnx.ModelProto:
    made.graph.node[1].domain = "my.operators"
    made.opset_import.append(helper.make_opsetid("my.operators", 1))
    return made


def with_missing_tensor(made: onnx.ModelProto) -> onnx.ModelProto:
    made.graph.node[0].input[1] = "nowhere"
    return made


@pytest.mark.parametrize("name", MISFITS)
def test_a_misfit_is_refused_with_what_differs(name: str, tmp_path: Path) -> None:
    make, reason, words = MISFITS[name]
    with pytest.raises(ConfigurationError) as caught:
        brought(tmp_path, make())
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert "target.candidate.uri" in caught.value.message


def test_an_ir_version_that_is_too_new_is_lowered(tmp_path: Path) -> None:
    assert brought(tmp_path, exported(ir=14)).ir_version == 13
    assert session(tmp_path / "candidate")


@pytest.mark.parametrize("content", [b"", b"\x08\x0anot onnx", b"PAR1"], ids=["empty", "garbage", "parquet"])
def test_a_brought_file_that_is_no_onnx_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "brought.onnx").write_bytes(content)
    target = Target(format="ONNX", candidate=BroughtCandidate(uri="brought.onnx", equivalence="Numeric"))
    capture = str(capture_folder(tmp_path / "capture"))
    with pytest.raises(ConfigurationError, match=r"target\.candidate\.uri: brought\.onnx") as caught:
        run(tmp_path, target=target, brought=str(tmp_path / "brought.onnx"), capture=capture)
    assert caught.value.reason == "ModelUnreadable"


def test_external_data_travels_along_in_one_file(tmp_path: Path) -> None:
    made = exported()
    folder = tmp_path / "folder"
    folder.mkdir()
    onnx.save(made, str(folder / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0)
    target = Target(format="ONNX", candidate=BroughtCandidate(uri="folder", equivalence="Numeric"))
    capture = str(capture_folder(tmp_path / "capture"))
    found = run(tmp_path, target=target, brought=str(folder), capture=capture)
    files = {path.name: path.stat().st_size for path in (tmp_path / "candidate").iterdir()}
    assert files.keys() == {"model.onnx", "model.onnx.data", "candidate.json"}
    assert found.size == files["model.onnx"] + files["model.onnx.data"]
    assert session(tmp_path / "candidate").run(["label"], {"features": FEATURES})[0].shape == (150,)
    (folder / "w.bin").write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="shorter than tensor W"):
        run(tmp_path, "again", target=target, brought=str(folder), capture=capture)
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to("/etc/hostname")
    with pytest.raises(ConfigurationError, match="not a file beside the model"):
        run(tmp_path, "once-more", target=target, brought=str(folder), capture=capture)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    capture = str(capture_folder(tmp_path / "capture"))
    with pytest.raises(ConfigurationError, match=r"source\.uri") as caught:
        run(tmp_path, capture=capture)
    assert caught.value.reason == "SourceMissing"
    target = Target(format="ONNX", candidate=BroughtCandidate(uri="m.onnx", equivalence="Numeric"))
    with pytest.raises(ConfigurationError, match=r"target\.candidate\.uri"):
        run(tmp_path, capture=capture, target=target)
    with pytest.raises(ConfigurationError, match=r"nowhere/capture\.json"):
        run(tmp_path, capture=str(tmp_path / "nowhere"))


def test_what_the_source_refused_is_guarded(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    import pandas as pd

    frame = pd.DataFrame({"age": random.normal(size=60), "country": random.choice(["DE", "FR", "IT"], 60)})
    frame["country"] = frame["country"].astype(object)
    steps = compose.ColumnTransformer([("c", preprocessing.OneHotEncoder(), ["country"])], remainder="passthrough")
    fitted = pipeline.make_pipeline(steps, linear_model.LogisticRegression()).fit(frame, random.integers(0, 2, 60))
    joblib.dump(fitted, tmp_path / "model.pkl")
    signature = Signature(
        inputs=(
            TensorSignature(name="age", datatype="FP64", shape=(-1, 1)),
            TensorSignature(name="country", datatype="BYTES", shape=(-1, 1)),
        ),
        outputs=(OutputSignature(name="label", datatype="INT64", shape=(-1,), role="Label"),),
    )

    def probe(kind: str, age: float, country: str, refused: str | None = "ValueError") -> tuple[Probe, Any]:
        text = np.array([country], dtype=object)
        return Probe(description=kind, kind=kind, inside_domain=False, refused=refused), {
            "age": np.array([age]), "country": text,
        }  # fmt: skip

    rows = {"age": frame[["age"]].to_numpy()[:2], "country": np.array([["DE"], ["FR"]], dtype=object)}
    probes = [
        probe("nan", np.nan, "DE"), probe("inf", np.inf, "DE", refused=None), probe("unseen-category", 1.0, "XX"),
        (Probe(description="no rows", kind="empty-batch", inside_domain=True, refused="ValueError"), None),
    ]  # fmt: skip
    capture = capture_folder(tmp_path / "capture", signature, rows, probes)
    found = run(tmp_path, model=str(tmp_path / "model.pkl"), capture=str(capture))
    assert found.guards == (
        InputGuard(input="age", reject_nan=True),
        InputGuard(input="country", allowed=("DE", "FR", "IT")),
    )
