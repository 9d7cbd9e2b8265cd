"""Every example does what its comments say, and the demo, which runs most of them, tells the truth."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from uv import find_uv_bin

from paritygate.api.manifest import parse_manifest

EXAMPLES = Path(__file__).parents[2] / "examples"
BY_DEMO = {"tabular": ("01-breast-cancer", "02-diabetes"), "torch": ("03-digits-cnn",)}
OLD = "04-old-scikit-learn"
CLUSTER = "05-cluster"
MANIFESTS = sorted(path.name for path in (EXAMPLES / CLUSTER).glob("*.yaml"))
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Told:
    """A demo that ended well."""

    folder: Path
    said: str

    def report(self, example: str, name: str) -> dict[str, Any]:
        """What the gate found."""
        return dict(json.loads((self.folder / example / ".paritygate" / name / "report.json").read_bytes()))


@pytest.fixture(scope="module")
def tabular(tmp_path_factory):
    return run_demo("tabular", tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def torch(tmp_path_factory):
    pytest.importorskip("torch")
    return run_demo("torch", tmp_path_factory.mktemp("demo"))


def run_demo(name: str, folder: Path) -> Told:
    command = [sys.executable, EXAMPLES / "demo.py", name, "--folder", folder]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return Told(folder, ended.stdout)


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in report["checks"] if one["name"] == name)


def rules(report: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in report["findings"]}


def test_every_example_is_run_here():
    folders = {path.name for path in EXAMPLES.iterdir() if re.match(r"\d\d-", path.name)}
    assert folders == {OLD, CLUSTER, *(name for names in BY_DEMO.values() for name in names)}


def test_the_demo_ends_with_its_reports(tabular):
    listed = re.findall(r"^   (Passed|Failed)  (.*report\.html)$", tabular.said, re.MULTILINE)
    assert [verdict for verdict, _ in listed] == ["Passed", "Failed", "Passed"]
    assert all((Path.cwd() / path).stat().st_size > 0 for _, path in listed)


def test_example_01_a_pipeline_with_string_labels_is_served_and_answers_as_its_source(tabular):
    report = tabular.report("01-breast-cancer", "tumours")
    assert report["verdict"] == "Passed"
    assert len(report["signature"]["inputs"]) == 30
    assert "label: ['benign']" in tabular.said
    assert "Asked for all 285 tumours" in tabular.said


def test_example_02_the_usual_export_looks_fine_and_is_stopped(tabular):
    was, is_now = re.search(r"R² was (\S+) and is (\S+)", tabular.said).groups()
    assert abs(float(was) - float(is_now)) < 0.01
    report = tabular.report("02-diabetes", "progression-brought")
    assert report["verdict"] == "Failed"
    assert "HGB-CATEGORICAL" in rules(report)
    assert report["diagnosis"]["gap"] == "Candidate"
    assert "target.candidate" in report["diagnosis"]["tryNext"]


def test_example_02_its_own_conversion_passes_on_the_same_capture(tabular):
    report = tabular.report("02-diabetes", "progression")
    assert report["verdict"] == "Passed"
    assert report["subject"]["capture"] == tabular.report("02-diabetes", "progression-brought")["subject"]["capture"]


@pytest.mark.torch
def test_example_03_an_export_in_training_mode_is_stopped_although_its_accuracy_is_the_same(torch):
    report = torch.report("03-digits-cnn", "digits-brought")
    assert report["verdict"] == "Failed"
    assert "batches of 1" in check(report, "contract")["message"]
    assert check(report, "metrics")["measurements"][0]["measured"] == pytest.approx(0, abs=0.01)


@pytest.mark.torch
def test_example_03_its_own_conversion_passes(torch):
    assert torch.report("03-digits-cnn", "digits")["verdict"] == "Passed"


def test_example_04_answers_are_captured_where_the_old_model_was_trained(command_line):
    found = subprocess.run(
        [find_uv_bin(), "python", "find", "--no-project", "--no-python-downloads", "3.11"],
        capture_output=True,
        check=False,
    )
    if found.returncode:
        pytest.skip("scikit-learn 1.2 has no wheels for Python 3.12 and later, and no Python 3.11 is here")
    folder = command_line.folder
    shutil.copytree(EXAMPLES / OLD, folder, dirs_exist_ok=True)
    stated = next(line for line in (folder / "train.py").read_text().splitlines() if line.startswith("    uv run "))
    command = [{"uv": find_uv_bin(), "FOLDER": "."}.get(word, word) for word in shlex.split(stated)]
    trained = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "trained with scikit-learn 1.2.2 and numpy 1." in trained.stdout, trained.stderr

    ended = command_line.run("run", "migration.yaml", "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (0, "Passed"), ended.err
    report = json.loads((folder / ".paritygate" / "wine" / "report.json").read_bytes())
    assert report["sourceEnvironment"]["packages"]["scikit-learn"] == "1.2.2"
    assert "paritygate" not in report["sourceEnvironment"]["packages"]
    assert report["framework"] == "scikit-learn 1.2.2"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """What is to lie in the bucket `models`, but for what needs another Python."""
    return made(tmp_path_factory.mktemp("bucket"), "tumours", "progression")


def made(folder: Path, *names: str) -> Path:
    command = [sys.executable, EXAMPLES / CLUSTER / "models.py", folder, *names]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


def cluster_manifest(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((EXAMPLES / CLUSTER / name).read_text()))


@pytest.mark.parametrize("name", MANIFESTS)
def test_example_05_is_a_manifest_whose_every_address_its_script_fills(name, bucket):
    manifest = parse_manifest((EXAMPLES / CLUSTER / name).read_text(), name)
    for address in manifest.spec.input_uris.values():
        folder, _, file = address.removeprefix("s3://models/").partition("/")
        script = (EXAMPLES / OLD / "train.py").read_text()
        assert (bucket / folder / file).is_file() or (folder == "wine" and file in script), address
    assert manifest.spec.storage.object.uri == "s3://artefacts/migrations"
    assert "namespace" not in cluster_manifest(name)["metadata"]


@pytest.mark.parametrize("name", ["better.yaml", "stale.yaml"])
def test_example_05_an_edit_changes_the_model_and_nothing_else(name):
    before, after = cluster_manifest("migration.yaml"), cluster_manifest(name)
    before["spec"]["source"]["uri"] = after["spec"]["source"]["uri"] = None
    after["spec"]["target"].pop("candidate", None)
    assert after == before


@pytest.mark.parametrize(
    ("name", "status", "verdict"), [("better.yaml", 0, "Passed"), ("stale.yaml", 1, "Failed")], ids=["better", "stale"]
)
def test_example_05_an_edit_comes_to_what_it_says(name, status, verdict, bucket, command_line):
    here = (EXAMPLES / CLUSTER / name).read_text().replace("s3://models/", f"{bucket}/")
    (command_line.folder / name).write_text(here)
    ended = command_line.run("run", name, "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (status, verdict), ended.err


def test_example_05_asks_for_the_first_tumour_that_was_kept(bucket):
    request = json.loads((EXAMPLES / CLUSTER / "request.json").read_text())
    rows = pd.read_parquet(bucket / "tumours" / "holdout.parquet").drop(columns="diagnosis")
    assert {one["name"]: one["data"] for one in request["inputs"]} == {name: [rows[name][0]] for name in rows}


def test_example_05_says_which_models_there_are():
    command = [sys.executable, EXAMPLES / CLUSTER / "models.py", "bucket", "tumors"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "models.py: there is no tumors; there are tumours, progression, wine\n"


def test_a_demo_that_does_not_go_as_it_says_ends_with_status_1(tmp_path, capfd):
    spec = importlib.util.spec_from_file_location("demo", EXAMPLES / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    (tmp_path / "fine.py").write_text("")
    shown = demo.Demo(tmp_path)
    shown.run(tmp_path, "python", "fine.py")
    with pytest.raises(SystemExit, match="was to end with status 0 and ended with 2"):
        shown.run(tmp_path, "python", "missing.py")
    with pytest.raises(SystemExit, match="was to end with status 1 and ended with 64"):
        shown.migrate(tmp_path, "missing.yaml", "missing", ends_with=demo.FAILED)
    with pytest.raises(SystemExit, match="was to be served, and the command ended with status 64"):
        shown.served(tmp_path, "missing.yaml", "missing").__enter__()
    assert "$ paritygate run missing.yaml" in capfd.readouterr().out
