"""A stage's folder is whole or holds only its failure, whatever happens inside."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from paritygate.agent import build_zipapp, exchange, stage
from paritygate.agent.failures import AgentError, failure_of


def fail_with(error):
    def work(folder):
        Path(folder, "half-written").touch()
        raise error

    return work


def names(folder):
    return [path.name for path in folder.iterdir()]


def chained(error):
    outer = ValueError("outer")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "failure", "reason"),
    [
        pytest.param(AgentError("ModelRaised", "why"), "Configuration", "ModelRaised", id="an error on purpose"),
        pytest.param(MemoryError("1 TiB"), "Infrastructure", "OutOfMemory", id="exhausted memory"),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "Infrastructure",
            "OutOfMemory",
            id="memory of torch",
        ),
        pytest.param(OSError(errno.ENOSPC, "No space left"), "Infrastructure", "DiskFull", id="a full disk"),
        pytest.param(chained(OSError(errno.ENOSPC, "full")), "Infrastructure", "DiskFull", id="a full disk beneath"),
        pytest.param(SystemExit(0), "Configuration", "InternalError", id="an exit"),
        pytest.param(KeyError("x"), "Configuration", "InternalError", id="a defect"),
    ],
)
def test_failure_takes_the_place_of_the_folder(tmp_path, error, failure, reason):
    out = str(tmp_path / "out")
    assert stage.carry_out(out, fail_with(error)) == stage.FAILED
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["failure.json"]
    written = json.loads((tmp_path / "out" / "failure.json").read_text())
    assert (written["kind"], written["failure"], written["reason"]) == ("StageFailure", failure, reason)
    assert written["message"]


def test_next_attempt_replaces_a_failure_and_what_a_killed_one_left(tmp_path):
    out = tmp_path / "out"
    stage.carry_out(str(out), fail_with(MemoryError()))
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "left").touch()
    assert stage.carry_out(str(out), lambda folder: Path(folder, "result").touch()) == stage.COMPLETE
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["result"]


def test_disk_without_room_for_the_failure_counts_as_died(tmp_path, monkeypatch, capsys):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stage.json, "dump", full)
    assert stage.carry_out(str(tmp_path / "out"), fail_with(KeyError("x"))) == 4
    assert "could not be written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_progress_is_a_line_of_json_and_never_fails(tmp_path, monkeypatch, capsys):
    stage.progress("nobody listens", 1, 2)
    monkeypatch.setenv(stage.PROGRESS, str(tmp_path / "lines"))
    stage.progress("half", 1, 2)
    stage.progress("all", 2, 2)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert lines == [{"message": "half", "done": 1, "total": 2}, {"message": "all", "done": 2, "total": 2}]
    monkeypatch.setenv(stage.PROGRESS, str(tmp_path / "absent" / "lines"))
    stage.progress("lost")
    assert "lost" in capsys.readouterr().err


def test_causes_that_form_a_ring_end():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert failure_of(one)["reason"] == "InternalError"


MODEL = """
import atexit, os, sys, threading, time, torch
print("to standard output")
atexit.register(lambda: os._exit(9))
threading.Thread(target=time.sleep, args=(60,)).start()

class Net(torch.nn.Module):
    def forward(self, x):
        import neighbour_of_rude
        sys.stdout.close()
        return {result}

def build(folder):
    return Net()
"""


@pytest.mark.torch
@pytest.mark.parametrize(("result", "status"), [("x * 2", 0), ("sys.exit(0)", 3)])
def test_code_that_prints_hangs_and_exits_changes_nothing(tmp_path, features, result, status):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "neighbour_of_rude.py").touch()
    (tmp_path / "net" / "rude.py").write_text(MODEL.format(result=result))
    exchange.save(str(tmp_path / "rows.npz"), {"x": features})
    build_zipapp(tmp_path / "agent.pyz")
    digest = "sha256:" + 64 * "0"
    request = {"format": "PyTorch", "model": str(tmp_path / "net"), "loader": "rude:build"}
    request.update(rows=str(tmp_path / "rows.npz"), sourceDigest=digest, datasetDigest=digest)
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = [sys.executable, "agent.pyz", "capture", "--request", "request.json", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == status, done.stderr
    if status:
        failure = json.loads((tmp_path / "out" / "failure.json").read_text())
        assert failure["reason"] == "ModelRaised"
        assert "SystemExit: 0" in failure["message"]
