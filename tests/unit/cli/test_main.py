"""Exit statuses that no verdict may be mistaken for."""

from __future__ import annotations

import pytest

from paritygate.cli import commands
from paritygate.cli.main import ERROR, INTERRUPTED, USAGE, main
from paritygate.errors import ConfigurationError, InvalidManifest


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        pytest.param(
            RuntimeError("surprise"), ERROR, "InternalError", id="a defect of ours is an error, not a verdict"
        ),
        pytest.param(ConfigurationError("NoSuchFile", "x.pkl is missing"), ERROR, "NoSuchFile: x.pkl", id="an error"),
        pytest.param(InvalidManifest(["m.yaml:3: wrong"]), USAGE, "m.yaml:3: wrong", id="a manifest that is wrong"),
        pytest.param(KeyboardInterrupt(), INTERRUPTED, "run the same command again", id="an interruption"),
    ],
)
def test_what_is_raised_has_its_own_exit_status(monkeypatch, capsys, raised, status, said) -> None:
    def fail(_: object) -> int:
        raise raised

    monkeypatch.setattr(commands, "carry_out", fail)
    assert main(["crd"]) == status
    assert said in capsys.readouterr().err


def test_a_command_line_that_is_wrong_ends_with_its_own_status(capsys) -> None:
    assert main(["run"]) == USAGE
    assert "MANIFEST" in capsys.readouterr().err
