"""Models for the cluster are made when what they follow from has changed, and not otherwise."""

import subprocess
from pathlib import Path

import pytest

from cluster import models


@pytest.fixture
def made(monkeypatch, tmp_path):
    """The commands that were run; `failing` names models that cannot be made."""
    calls = []

    def run(command, *, check, **_):
        names = command[3:]
        calls.append(names)
        failed = bool(set(names) & made.failing)
        if failed and check:
            raise subprocess.CalledProcessError(1, command)
        for name in names:
            Path(command[2], name).mkdir()
        return subprocess.CompletedProcess(command, int(failed))

    made = type("Made", (), {"calls": calls, "failing": set(), "folder": tmp_path / "models"})
    monkeypatch.setattr(models.subprocess, "run", run)
    return made


def test_they_are_made_once(made):
    assert models.make(made.folder) == made.folder
    assert models.make(made.folder) == made.folder
    assert made.calls == [["tumours", "progression"], ["wine"]]
    assert sorted(path.name for path in made.folder.iterdir()) == ["progression", "tumours", "wine"]


def test_they_are_made_anew_when_a_program_has_changed(made, monkeypatch):
    models.make(made.folder)
    monkeypatch.setattr(models, "_digest", lambda: "another")
    models.make(made.folder)
    assert len(made.calls) == 4


def test_one_that_needs_another_python_may_be_missing_and_is_tried_again(made, capsys):
    made.failing = {"wine"}
    models.make(made.folder)
    assert "`wine` could not be trained" in capsys.readouterr().err
    models.make(made.folder)
    assert len(made.calls) == 4


def test_nothing_half_made_is_left(made):
    made.failing = {"tumours"}
    with pytest.raises(subprocess.CalledProcessError):
        models.make(made.folder)
    assert list(made.folder.parent.iterdir()) == []
