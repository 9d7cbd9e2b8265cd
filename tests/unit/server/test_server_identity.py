"""What the answers depend on, and how many processors may be used."""

from __future__ import annotations

import os

import onnxruntime
import pytest

from paritygate.api.digests import digest_of
from paritygate.server.__main__ import main
from paritygate.server.identity import cpu_limit, identity, session_options


def test_the_session_runs_with_the_options_that_the_identity_reports() -> None:
    stated, real = identity(2)["options"], session_options(2)
    assert stated == {
        "execution_provider": "CPUExecutionProvider",
        "graph_optimization_level": real.graph_optimization_level.name,
        "execution_mode": real.execution_mode.name,
        "intra_op_num_threads": str(real.intra_op_num_threads),
        "independent_rows": "in parts of at most 512 rows, one thread each",
        "inter_op_num_threads": str(real.inter_op_num_threads),
        "use_deterministic_compute": str(real.use_deterministic_compute).lower(),
        **{key: real.get_session_config_entry(key) for key in stated if "." in key},
    }
    assert real.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


@pytest.fixture
def _eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)))


@pytest.mark.usefixtures("_eight_processors")
@pytest.mark.parametrize(
    ("_name", "files", "limit"),
    [
        ("no control group", {}, 8),
        ("a group without a limit", {"cpu.max": "max 100000\n"}, 8),
        ("a limit of two and a half", {"cpu.max": "250000 100000\n"}, 3),
        ("a limit below one", {"cpu.max": "10000 100000\n"}, 1),
        ("a limit beyond the affinity", {"cpu.max": "6400000 100000\n"}, 8),
        ("version 1 with a limit", {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ("version 1 without a limit", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_the_limit_of_processors_follows(tmp_path, _name, files, limit) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cpu_limit(tmp_path) == limit


def test_the_digest_of_the_identity_can_be_asked_for(capsys) -> None:
    assert main(["--identity-digest", "--threads", "3"]) == 0
    assert capsys.readouterr().out.strip() == digest_of(identity(3))
