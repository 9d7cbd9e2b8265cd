"""The agent runs in environments that nobody will upgrade."""

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import paritygate.agent
from paritygate.agent import build_zipapp

ROOT = Path(paritygate.agent.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
OURS_IN_THE_AGENT = ("paritygate.agent",)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parses_as_python_3_6(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_nothing_else_of_ours(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert not name.startswith("paritygate") or name.startswith(OURS_IN_THE_AGENT), f"{path}: {name}"


def test_zipapp_has_the_same_bytes_each_time_and_holds_only_the_agent(tmp_path: Path) -> None:
    build_zipapp(tmp_path / "one.pyz")
    build_zipapp(str(tmp_path / "two.pyz"))
    assert (tmp_path / "one.pyz").read_bytes() == (tmp_path / "two.pyz").read_bytes()
    names = zipfile.ZipFile(tmp_path / "one.pyz").namelist()
    assert {"__main__.py", "paritygate/__init__.py", "paritygate/agent/capture.py"} <= set(names)
    assert all(name.startswith("paritygate/agent/") for name in names if name.count("/") > 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pyz", "two.pyz"]


def test_environment_without_numpy_is_told_how_to_get_it(tmp_path: Path) -> None:
    build_zipapp(tmp_path / "agent.pyz")
    command = [sys.executable, "-I", "-S", "agent.pyz", "capture", "--request", "none", "--out", "out"]
    run = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert run.returncode == 3
    failure = json.loads((tmp_path / "out" / "failure.json").read_text())
    assert failure["reason"] == "PackageMissing"
    assert "add it to source.environment.virtualenv.requirements, e.g. - numpy" in failure["message"]


def test_zipapp_runs_isolated_and_says_what_it_lacks(tmp_path: Path) -> None:
    build_zipapp(tmp_path / "agent.pyz")
    run = subprocess.run(
        [
            sys.executable,
            "-I",
            tmp_path / "agent.pyz",
            "capture",
            "--request",
            tmp_path / "none",
            "--out",
            tmp_path / "out",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.returncode == 3
    assert "none cannot be read" in (tmp_path / "out" / "failure.json").read_text()
