"""A run that is killed at any point goes on where it was, and ends with the same verdict and the same digests."""

from __future__ import annotations

import pickle
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.timeout(300)
SECONDS = 60.0
POINTS = [
    "iris/scratch/assess-1",
    "receipts/Assess-*.json",
    "iris/scratch/capture-1",
    "iris/scratch/capture-1/out.part",
    "receipts/Capture-*.json",
    "iris/scratch/convert-1/out.part",
    "receipts/Convert-*.json",
    "iris/scratch/validate-1",
    "iris/scratch/validate-1/out.part",
    "receipts/Validate-*.json",
]
"""What appears in the work folder at the starts, in the middle and at the ends of stages."""


def iris(command_line: Any) -> str:
    """A migration, the same bytes in every folder; its manifest."""
    command_line.folder.mkdir(exist_ok=True)
    rows, species = load_iris(return_X_y=True, as_frame=True)
    fitted = LogisticRegression(max_iter=500).fit(rows.to_numpy(), species)
    (command_line.folder / "iris.pkl").write_bytes(pickle.dumps(fitted))
    rows.assign(species=species).to_csv(command_line.folder / "iris.csv", index=False)
    source = {"format": "SKLearn", "uri": "iris.pkl"}
    return command_line.manifest("iris", source, {"uri": "iris.csv", "label": "species"})


def stopped(command_line: Any, manifest: str, point: str, number: int) -> int:
    """Runs until `point` appears in the work folder, and sends the signal; the status."""
    process = command_line.start("run", manifest)
    work: Path = command_line.folder / ".paritygate"
    ends = time.monotonic() + SECONDS
    while process.poll() is None and not any(work.glob(point)):
        assert time.monotonic() < ends, f"{point} never appeared"
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    return process.returncode


def ends(command_line: Any) -> dict[str, Any]:
    """Everything that must not depend on how often a run was stopped."""
    results = command_line.folder / ".paritygate" / "iris"
    plan = command_line.plan("iris")
    return {
        "report": (results / "report.json").read_bytes(),
        "candidate": (results / "candidate" / "model.onnx").read_bytes(),
        "stages": [(stage["name"], stage["state"], stage["digest"], stage["output"]) for stage in plan["stages"]],
        "verdict": plan["status"]["verdict"],
    }


def test_a_run_killed_in_every_stage_and_between_them_ends_as_if_undisturbed(command_line, tmp_path):
    manifest = iris(command_line)
    finished: dict[str, tuple[int, int]] = {}
    for point in POINTS:
        assert stopped(command_line, manifest, point, signal.SIGKILL) == -signal.SIGKILL, point
        assert not command_line.processes(), point
        receipts = {path.name: path.stat() for path in (command_line.folder / ".paritygate").glob("receipts/*.json")}
        written = {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in receipts.items()}
        assert finished.items() <= written.items(), f"a finished stage was carried out again, before {point}"
        finished = written
    assert len(finished) == 4
    ended = command_line.run("run", manifest, "--output", "json")
    assert (ended.status, ended.result["verdict"]) == (0, "Passed"), ended.err
    assert all(stage["reused"] and not stage["attempts"] for stage in command_line.plan("iris")["stages"])
    assert not command_line.unfinished()

    undisturbed = type(command_line)(tmp_path / "undisturbed")
    ended = undisturbed.run("run", iris(undisturbed))
    assert ended.status == 0, ended.err
    assert not any(stage["reused"] for stage in undisturbed.plan("iris")["stages"])
    assert ends(command_line) == ends(undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "interrupted"])
def test_a_run_that_is_asked_to_stop_stops_in_order(command_line, number):
    status = stopped(command_line, iris(command_line), "iris/scratch/capture-1/out.part", number)
    assert status == 130
    assert "run the same command again" in (command_line.folder / "stderr").read_text()
    assert not command_line.processes()
    assert not command_line.unfinished()
    assert "report.json" not in command_line.results("iris")
