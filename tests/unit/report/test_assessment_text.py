"""What `paritygate assess` prints."""

from __future__ import annotations

import pytest

from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding, OutputSignature, Severity, Signature, TensorSignature
from paritygate.api.spec import Datatype, SourceFormat
from paritygate.report import assessment, text

FINDINGS = (
    Finding(rule="VERSION-SKEW", severity=Severity.INFO, message="Older.", why="Skew.", action="Captured apart."),
    Finding(
        rule="HGB-CATEGORICAL", severity=Severity.WARNING, message="Splits on categories.", why="Exporters lose them.",
        action="ParityGate converts them exactly.",
    ),
)  # fmt: skip
FULL = Assessment(
    format=SourceFormat.SKLEARN,
    framework="scikit-learn",
    framework_version="1.2.2",
    packages={"numpy": "1.26.4"},
    digest="sha256:" + "a" * 64,
    size=120_831,
    signature=Signature(
        inputs=(TensorSignature(name="age", datatype=Datatype.FP64, shape=(-1, 1)),),
        outputs=(OutputSignature(name="label", datatype=Datatype.INT64, shape=(-1,)),),
    ),
    parameters=18_204,
    estimators=("sklearn.pipeline.Pipeline", "sklearn.preprocessing._data.StandardScaler"),
    imports=("sklearn.pipeline.Pipeline", "shop.features.Basket"),
    custom_code=("shop.features.Basket",),
    hardware=("cuda",),
    findings=FINDINGS,
)
BARE = Assessment(format=SourceFormat.ONNX, framework="onnx", digest="sha256:" + "b" * 64, size=512)


def test_everything_known_is_said() -> None:
    rendered = assessment.render(FULL, name="churn.pkl")
    assert rendered.startswith("churn.pkl: scikit-learn 1.2.2\n")
    for part in (
        "118 KiB", "numpy 1.26.4", "18,204 numbers", "Pipeline, StandardScaler", "cuda",
        "2 names, 1 from your own code", "shop.features.Basket", FULL.digest, "[-1, 1]", "2 findings:",
    ):  # fmt: skip
        assert part in rendered


def test_the_gravest_finding_comes_first_with_why_and_what_to_do() -> None:
    rendered = assessment.render(FULL)
    assert rendered.index("WARNING  HGB-CATEGORICAL") < rendered.index("INFO  VERSION-SKEW")
    assert "Exporters lose them." in rendered
    assert "→  ParityGate converts them exactly." in rendered


def test_what_is_not_known_is_left_out() -> None:
    rendered = assessment.render(BARE)
    assert "onnx, version not recorded" in rendered
    assert "No finding" in rendered
    for label in ("Learned", "Parts", "Imports", "Own code", "Needs", "Saved with"):
        assert label not in rendered


def test_many_parts_are_cut() -> None:
    many = BARE.model_copy(update={"custom_code": tuple(f"shop.f{i}" for i in range(20)), "imports": ("x",) * 20})
    assert "12 more" in assessment.render(many)


def test_control_characters_and_width_are_kept_in_hand() -> None:
    evil = FULL.model_copy(update={"framework": "x\x1b[2J", "custom_code": ("a\x07b",)})
    rendered = assessment.render(evil)
    assert "\x1b" not in rendered
    assert "\x07" not in rendered
    assert all(len(line) <= text.WIDTH + 10 for line in rendered.splitlines())


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (1023, "1,023 B"), (1024, "1 KiB"), (120_831, "118 KiB"), (3 * 2**40, "3 TiB")]
)
def test_sizes_are_in_binary_units(count: int, said: str) -> None:
    assert assessment.size(count) == said
