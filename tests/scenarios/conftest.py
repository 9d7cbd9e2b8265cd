"""ParityGate as a user meets it: the command line in a process, in a folder of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from uv import find_uv_bin

import open_inference

MARK = "PARITYGATE_SCENARIO"
"""Environment variable that every process of a scenario inherits, and by which it is found again."""
SECONDS = 240
OLD_REQUIREMENTS = ("scikit-learn==1.2.2", "numpy<2", "scipy<1.12", "pandas<2.1")
ROOT = Path(__file__).parents[2]
OLD_TRAINING = """
import json, pickle, sys
import numpy, pandas
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

folder = sys.argv[1]
frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
frame = frame.iloc[:, :5].copy()
frame["side"] = numpy.where(frame["mean area"] > 500, "left", "right")
steps = make_column_transformer((StandardScaler(), list(frame.columns[:5])), (OneHotEncoder(), ["side"]))
model = make_pipeline(steps, GradientBoostingClassifier(n_estimators=10, random_state=0))
model.fit(frame, numpy.where(label == 1, "benign", "malignant"))
with open(folder + "/model.pkl", "wb") as stream:
    pickle.dump(model, stream)
frame.assign(diagnosis=label).to_csv(folder + "/data.csv", index=False)
rows = pandas.read_csv(folder + "/data.csv").drop(columns="diagnosis")
numpy.save(folder + "/expected.npy", model.predict_proba(rows))
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        return dict(json.loads(self.out.splitlines()[-1]))


@dataclass(frozen=True)
class Served:
    """A run that serves."""

    result: dict[str, Any]
    process: subprocess.Popen[str] | None = None
    """None = it was not started here."""

    @property
    def address(self) -> str:
        """Host and port."""
        return str(self.result["url"]).removeprefix("http://")


@dataclass
class CommandLine:
    """`paritygate` in `folder`."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    """Added to the environment."""

    def manifest(self, name: str, source: dict[str, Any], dataset: dict[str, Any], **more: Any) -> str:
        """Writes NAME.yaml and gives its file name. `more`: further parts of the spec."""
        validation = {"dataset": dataset, **more.pop("validation", {})}
        target = more.pop("target", {"format": "ONNX"})
        spec = {"source": source, "target": target, "validation": validation, **more}
        head = {"apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration", "metadata": {"name": name}}
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump({**head, "spec": spec}, sort_keys=False))
        return f"{name}.yaml"

    def start(self, *arguments: str, wrapper: tuple[str, ...] = (), before: Callable[[], None] | None = None) -> Any:
        """Starts `paritygate ARGUMENTS`; standard error goes to the file `stderr`."""
        with (self.folder / "stderr").open("w") as errors:
            return subprocess.Popen(
                [*wrapper, sys.executable, "-m", "paritygate", *arguments],
                cwd=self.folder,
                env={**os.environ, MARK: str(self.folder), **self.variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=before,  # noqa: PLW1509 - limits must be set in the child
            )

    def run(
        self,
        *arguments: str,
        wrapper: tuple[str, ...] = (),
        before: Callable[[], None] | None = None,
        seconds: float = SECONDS,
    ) -> Ended:
        """Runs `paritygate ARGUMENTS` to its end."""
        process = self.start(*arguments, wrapper=wrapper, before=before)
        try:
            out, _ = process.communicate(timeout=seconds)
        finally:
            process.kill()
        return Ended(process.returncode, out, (self.folder / "stderr").read_text())

    @contextlib.contextmanager
    def serving(self, manifest: str) -> Iterator[Served]:
        """Runs a migration that must pass and serves it meanwhile; the end must be as orderly as the start."""
        process = self.start("run", manifest, "--serve", "--output", "json")
        line = process.stdout.readline()
        if not line:
            process.wait(SECONDS)
            pytest.fail(f"no result, status {process.returncode}:\n{(self.folder / 'stderr').read_text()}")
        result = json.loads(line)
        try:
            assert result["verdict"] == "Passed", (self.folder / "stderr").read_text()
            yield Served(result, process)
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=SECONDS)
        assert (process.returncode, rest) == (0, ""), (self.folder / "stderr").read_text()
        assert not self.processes()

    def asked(self, served: Served, model: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The answers of a stock Open Inference client, BYTES as text."""
        return open_inference.asked(served.address, model, inputs)

    def processes(self, patience: float = 5.0) -> list[str]:
        """Commands of this scenario that still run, after they had `patience` seconds to end."""
        ends = time.monotonic() + patience
        while (found := _marked(str(self.folder))) and time.monotonic() < ends:
            time.sleep(0.05)
        return found

    def plan(self, name: str) -> dict[str, Any]:
        """The record of the last run."""
        return dict(json.loads((self.folder / ".paritygate" / name / "plan.json").read_text()))

    def results(self, name: str) -> set[str]:
        """What lies in the results folder."""
        folder = self.folder / ".paritygate" / name
        return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()

    def unfinished(self) -> list[str]:
        """Files and folders that were begun and not completed, anywhere in the work folder."""
        root = self.folder / ".paritygate"
        return sorted(str(path.relative_to(root)) for path in [*root.glob("*/scratch/*"), *root.rglob("*.part*")])


def _marked(value: str) -> list[str]:
    wanted = f"{MARK}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [command for command in found if command]  # a zombie has none


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture(scope="session")
def command_line_in() -> type[CommandLine]:
    """For folders that several tests share."""
    return CommandLine


@pytest.fixture(scope="session")
def served_at() -> Callable[[str], Served]:
    """What somebody else serves, at a host and port."""
    return lambda address: Served({"url": f"http://{address}"})


@pytest.fixture(scope="session")
def old_python() -> Path:
    """The interpreter of an environment with scikit-learn 1.2.2, built once and kept under `.build`."""
    key = hashlib.sha256("\n".join((*OLD_REQUIREMENTS, sys.version)).encode()).hexdigest()[:16]
    folder = ROOT / ".build" / "test-environments" / key
    if not folder.exists():
        aside = folder.with_name(f"{key}.part-{os.getpid()}")
        uv = [find_uv_bin(), "--quiet"]
        subprocess.run([*uv, "venv", "--python", sys.executable, "--relocatable", aside], check=True)
        subprocess.run(
            [*uv, "pip", "install", "--only-binary", ":all:", "--python", aside / "bin" / "python", *OLD_REQUIREMENTS],
            check=True,
        )
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def old_model(old_python: Path) -> Callable[[Path], None]:
    """Writes a model of scikit-learn 1.2.2, `model.pkl`, its rows, `data.csv`, and its answers to a folder."""

    def train(folder: Path) -> None:
        subprocess.run([old_python, "-I", "-c", OLD_TRAINING, folder], check=True, capture_output=True)

    return train
