"""Manifests: what is taken, what is refused, and in which words."""

import json
from pathlib import Path

import pytest

from paritygate.api.explain import WANTED
from paritygate.api.manifest import load_manifest, parse_manifest
from paritygate.api.spec import Equivalence, ModelMigrationSpec
from paritygate.errors import InvalidManifest

CORPUS = Path(__file__).parent / "manifests"
HEAD = "apiVersion: paritygate.dev/v1alpha1\nkind: ModelMigration\nmetadata: {name: churn}\n"
SPEC = (
    "spec:\n  source: {format: SKLearn, uri: churn.pkl}\n  target: {format: ONNX}\n"
    "  validation: {dataset: {uri: holdout.parquet}}\n"
)


def refusal(text, name="churn.yaml"):
    with pytest.raises(InvalidManifest) as refused:
        parse_manifest(text, name)
    return refused.value.problems


@pytest.mark.parametrize("file", sorted((CORPUS / "accepted").glob("*.yaml")), ids=lambda file: file.stem)
def test_accepts(file):
    assert load_manifest(file).spec.target.format == "ONNX"


@pytest.mark.parametrize("file", sorted((CORPUS / "refused").glob("*.yaml")), ids=lambda file: file.stem)
def test_refuses_in_these_words(file):
    assert refusal(file.read_text(), file.name) == file.with_suffix(".txt").read_text().splitlines()


def test_reads_what_is_stated():
    spec = load_manifest(CORPUS / "accepted" / "everything.yaml").spec
    assert spec.source.inputs[0].shape == (-1, 30)
    assert spec.validation.dataset.digest == spec.source.digest  # by way of an alias
    assert spec.validation.dataset.slices[1].max_drop == "0.02"
    assert spec.equivalence is Equivalence.DECISION


def test_equivalence_of_a_brought_candidate_is_its_own():
    assert load_manifest(CORPUS / "accepted" / "brought.yaml").spec.equivalence is Equivalence.METRIC


def test_equivalence_is_numeric_when_nothing_is_stated():
    assert load_manifest(CORPUS / "accepted" / "shortest.yaml").spec.equivalence is Equivalence.NUMERIC


def test_a_spec_survives_being_written_and_read():
    for file in (CORPUS / "accepted").glob("*.yaml"):
        spec = load_manifest(file).spec
        assert ModelMigrationSpec.model_validate_json(json.dumps(spec.to_dict())) == spec


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "", "churn.yaml: is empty; a manifest is {apiVersion: paritygate.dev/v1alpha1, kind: ModelMigration, "
            "metadata: {name: …}, spec: {…}}", id="an empty file",
        ),
        pytest.param(
            "a,b\n1,2\n", "churn.yaml:1: a manifest is {apiVersion: paritygate.dev/v1alpha1, kind: ModelMigration, "
            "metadata: {name: …}, spec: {…}}; found 'a,b 1,2'", id="a csv file",
        ),
        pytest.param(
            HEAD + "spec:\n\tsource: {}\n",
            "churn.yaml:5: not YAML: a tab stands where YAML wants spaces; indent with spaces", id="tabs",
        ),
        pytest.param(
            HEAD + "spec: {source: {format: SKLearn}\n",
            "churn.yaml:5: not YAML: expected ',' or '}', but got '<stream end>' (while parsing a flow mapping)",
            id="an open brace",
        ),
        pytest.param(
            HEAD + "kind: ModelMigration\n" + SPEC,
            "churn.yaml:4: kind: stands twice, first on line 2; remove one of the two", id="a key twice",
        ),
        pytest.param(
            HEAD + SPEC + "status: \x07\n",
            "churn.yaml:8: holds the character '\\x07', which no YAML may hold", id="a control character",
        ),
        pytest.param(
            HEAD + SPEC.replace("churn.pkl", "!!python/object:os.system x"),
            "churn.yaml:5: spec.source.uri: tag !!python/object:os.system is not taken; write plain values",
            id="a tag that would run code",
        ),
        pytest.param(
            HEAD + SPEC + "  2: x\n", "churn.yaml:8: spec: a field's name must be text; put 2 in quotes",
            id="a field that is a number",
        ),
        pytest.param(
            HEAD + "spec: &spec {source: *spec}\n",
            "churn.yaml:4: holds an alias (*) of something that it is itself a part of", id="an endless alias",
        ),
        pytest.param(
            "a: &a [1,1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
            "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
            "e: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
            "churn.yaml:1: holds more than 20000 values", id="an alias bomb",
        ),
        pytest.param(
            "apiVersion: apps/v1\nkind: Deployment\nspec: {}\n",
            "churn.yaml:2: kind: found 'Deployment'; ParityGate takes kind ModelMigration", id="another kind",
        ),
        pytest.param(
            HEAD + SPEC + "---\n" + HEAD + SPEC,
            "churn.yaml:9: the file holds 2 ModelMigrations, and one run takes one; split the file", id="two of them",
        ),
        pytest.param(HEAD.replace("{name: churn}", "[churn]") + SPEC,
            "churn.yaml:3: metadata: must hold the fields name; found a list; e.g. metadata: {name: churn}",
            id="metadata of another type"),
    ],
)  # fmt: skip
def test_refuses(text, problem):
    assert problem in refusal(text)


def test_names_every_document_when_none_is_a_migration():
    assert len(refusal("kind: Secret\nspec: 1\n---\nkind: Pod\nspec: 1\n")) == 2


def test_merges_keys_of_anchors():
    merged = HEAD + (
        "spec:\n  source: {format: SKLearn, uri: churn.pkl}\n  target: {format: ONNX}\n"
        "  validation: {dataset: {<<: {uri: other.csv, label: y}, uri: holdout.csv}}\n"
    )
    dataset = parse_manifest(merged, "m").spec.validation.dataset
    assert (dataset.uri, dataset.label) == ("holdout.csv", "y")


def test_dates_and_times_are_text_as_in_a_cluster():
    text = HEAD + SPEC.replace("holdout.parquet", "2026-01-31").replace("churn.pkl", "12:30:45")
    spec = parse_manifest(text, "m").spec
    assert (spec.validation.dataset.uri, spec.source.uri) == ("2026-01-31", "12:30:45")


def test_every_pattern_of_the_spec_is_explained():
    def patterns(schema):
        if isinstance(schema, dict):
            yield from [schema["pattern"]] if isinstance(schema.get("pattern"), str) else []
            for inner in schema.values():
                yield from patterns(inner)
        elif isinstance(schema, list):
            for inner in schema:
                yield from patterns(inner)

    assert set(patterns(ModelMigrationSpec.model_json_schema())) <= set(WANTED)


@pytest.mark.parametrize(("name", "what"), [("train.ipynb", "a notebook"), ("train.py", "a Python script")])
def test_refuses_a_file_that_bears_another_name(tmp_path, name, what):
    (tmp_path / name).write_text("{}")
    with pytest.raises(InvalidManifest, match=f"{name}: is {what}, not a manifest; for a model and its dataset"):
        load_manifest(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x80\x04\x95", "is a pickle, not a manifest; for a model and its dataset: paritygate run MODEL DATASET"),
        (b"PAR1....", "is a parquet table, not a manifest; for a model and its dataset: paritygate run MODEL DATASET"),
        (b"a: b\nc: \xff", "2: is not UTF-8 text; a manifest is YAML or JSON in UTF-8"),
        (b"# " + b"x" * (1 << 20), "is larger than 1 MiB, so it is not a manifest"),
    ],
    ids=["a pickle", "a dataset", "Latin-1", "a huge file"],
)
def test_refuses_the_file(tmp_path, content, problem):
    file = tmp_path / "churn.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidManifest, match="^" + str(file)) as refused:
        load_manifest(file)
    assert refused.value.problems[0].endswith(problem)


def test_reads_utf_16_as_windows_writes_it(tmp_path):
    file = tmp_path / "churn.yaml"
    file.write_bytes((HEAD + SPEC).encode("utf-16"))
    assert load_manifest(file).metadata.name == "churn"


def test_a_missing_file_names_the_closest(tmp_path):
    (tmp_path / "churn.yaml").write_text(HEAD + SPEC)
    with pytest.raises(InvalidManifest, match=r"churn.yml: does not exist; did you mean .*churn.yaml\?"):
        load_manifest(tmp_path / "churn.yml")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidManifest, match=r"does not exist, nor does the folder .*nowhere"):
        load_manifest(tmp_path / "nowhere" / "churn.yaml")


def test_a_folder_names_its_manifests(tmp_path):
    (tmp_path / "churn.yaml").write_text(HEAD + SPEC)
    with pytest.raises(InvalidManifest, match=r"is a folder; name the manifest in it: churn.yaml"):
        load_manifest(tmp_path)
