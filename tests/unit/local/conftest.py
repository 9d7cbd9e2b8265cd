"""Stand-ins for worker, agent and server, started through the same command table as the real ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from paritygate.api.migration import ModelMigration
from paritygate.local.commands import Commands
from paritygate.local.revisions import Address
from paritygate.local.run import LocalRun, Options
from paritygate.local.workdir import WorkFolder

FAKE = Path(__file__).with_name("fake_stages.py")


class Desk:
    """A manifest with its files, and runs of it."""

    def __init__(self, folder, **spec):
        self.folder = folder
        self.fakes = folder / "fakes.json"
        self.behave()
        (folder / "m.pkl").write_bytes(b"model")
        (folder / "d.csv").write_text("y\n1\n")
        self.spec = {
            "source": {"format": "SKLearn", "uri": "m.pkl"},
            "target": {"format": "ONNX"},
            "validation": {"dataset": {"uri": "d.csv"}},
            **spec,
        }
        self.events = []
        self.ahead = False
        """Whether stages are prepared for, so that processes start in any order."""

    def behave(self, **behaviour):
        """What stages do instead of succeeding: 'assess', 'capture', … → what fake_stages.py knows."""
        self.fakes.write_text(json.dumps(behaviour))

    @property
    def commands(self):
        def fake(role):
            return (sys.executable, "-I", "-S", str(FAKE), str(self.fakes), role)

        return Commands(worker=fake("worker"), server=fake("server"), agent=fake("agent"), ahead=self.ahead)

    def run(self, *, serve=False, **options):
        migration = ModelMigration.model_validate({"metadata": {"name": "m"}, "spec": self.spec})
        self.work = WorkFolder(self.folder / "work", "m")
        with self.work.held():
            run = LocalRun(
                migration,
                self.folder / "m.yaml",
                self.work,
                Options(commands=self.commands, serve=Address() if serve else None, **options),
                self.events.append,
            )
            try:
                return run.run()
            finally:
                run.close()

    def started(self):
        """The stages that processes were started for, in order."""
        log = self.fakes.with_suffix(".started")
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def running():
    """Whether a process whose command line holds a text is alive."""

    def found(text):
        listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
        return any(text in line and not line.startswith("Z") for line in listed.splitlines())

    return found
