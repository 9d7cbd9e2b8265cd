"""Processes that stand by: they wait to be told, do what they are told, and end where nobody tells them anything."""

import json
import subprocess
import sys

import pytest

from paritygate.agent import build_zipapp

PARTS = ["agent", "worker", "server"]


def command(part, folder):
    if part == "agent":
        build_zipapp(folder / "agent.pyz")
        return [sys.executable, str(folder / "agent.pyz"), "stand-by", "NoSuchFormat"]
    return [sys.executable, "-m", f"paritygate.{part}", "stand-by", *(["validate", "ONNX"] if part == "worker" else [])]


def stand_by(part, folder, said):
    return subprocess.run(
        command(part, folder), input=said, capture_output=True, text=True, check=False, cwd=folder, timeout=60
    )


@pytest.mark.parametrize("part", PARTS)
def test_who_is_told_nothing_ends_and_leaves_nothing(part, tmp_path):
    ended = stand_by(part, tmp_path, "")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert {path.name for path in tmp_path.iterdir()} <= {"agent.pyz"}


@pytest.mark.parametrize(
    ("part", "arguments", "status", "said"),
    [
        ("agent", ["capture", "--request", "none", "--out", "out"], 3, "--request none cannot be read"),
        ("worker", ["validate", "--request", "none", "--out", "out"], 3, "--request none cannot be read"),
        ("server", ["--model", "none.onnx"], 3, "--model none.onnx: there is no such file"),
    ],
)
def test_who_is_told_ends_as_one_that_was_started_so(part, arguments, status, said, tmp_path):
    told = {"arguments": arguments, "log": str(tmp_path / "log"), "environment": {"PARITYGATE_PROGRESS": "progress"}}
    ended = stand_by(part, tmp_path, json.dumps(told) + "\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")
    assert said in (tmp_path / "log").read_text()
