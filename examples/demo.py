"""The demo: real models on real data, carried from training to a served answer. `make demo` and `make demo-torch`.

Runs the commands that a user would type, shows each before it runs, and checks what each must end with: a demo that
does not go as it says ends with status 1. Requests are sent from here, so that curl is not needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent
BOLD, DIM, RESET = (
    ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("",) * 3
)
WIDTH = 80
PASSED, FAILED = 0, 1
STOP_SECONDS = 120
"""How long a served migration may take to end once it is told to."""
ROUNDING = 1e-6
"""Probabilities travel in single precision: further than this from the source's they must not be."""


class Demo:
    """Copies of the examples in a work folder, and the commands run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verdicts: list[tuple[str, Path]] = []

    def example(self, name: str) -> Path:
        """A fresh copy of an example."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return Path(shutil.copytree(EXAMPLES / name, self.folder / name))

    def run(self, folder: Path, *command: str) -> None:
        """Runs `command` in `folder`; the demo ends if it does not succeed."""
        show(command)
        self._require(subprocess.run(_resolved(command), cwd=folder, check=False).returncode, 0)

    def migrate(self, folder: Path, manifest: str, name: str, *, ends_with: int) -> dict[str, Any]:
        """Runs a manifest in `folder` and gives its report; the demo ends if its exit status is another one."""
        command = ("paritygate", "run", manifest)
        show(command)
        self._require(subprocess.run(_resolved(command), cwd=folder, check=False).returncode, ends_with)
        return self._report(folder, name)

    @contextmanager
    def served(self, folder: Path, manifest: str, name: str) -> Iterator[str]:
        """Runs a manifest that must pass, gives the address that it is served at, and stops it afterwards."""
        command = ("paritygate", "run", manifest, "--serve", "--port", "0")
        show(command)
        with subprocess.Popen(
            _resolved((*command, "--output", "json")), cwd=folder, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None  # noqa: S101  (says to the type checker what PIPE means)
            told = json.loads(process.stdout.readline() or "{}")
            if "url" not in told:
                sys.exit(f"demo: this was to be served, and the command ended with status {process.wait()}")
            try:
                self._report(folder, name)
                yield told["url"]
            finally:
                process.send_signal(signal.SIGTERM)
                status = process.wait(STOP_SECONDS)
            self._require(status, PASSED)

    def finish(self) -> None:
        """Says where the reports are."""
        say("That is all. Open a report in a browser:")
        for verdict, report in self._verdicts:
            print(f"   {verdict:<6}  {os.path.relpath(report)}")

    def _report(self, folder: Path, name: str) -> dict[str, Any]:
        results = folder / ".paritygate" / name
        report = json.loads((results / "report.json").read_bytes())
        self._verdicts.append((report["verdict"], results / "report.html"))
        return dict(report)

    def _require(self, status: int, wanted: int) -> None:
        if status != wanted:
            sys.exit(f"demo: this command was to end with status {wanted} and ended with {status}")


def show(command: tuple[str, ...]) -> None:
    """Prints a command as one would type it."""
    print(f"\n{BOLD}$ {shlex.join(command)}{RESET}", flush=True)


def _resolved(command: tuple[str, ...]) -> list[str]:
    python = {"python": [sys.executable], "paritygate": [sys.executable, "-m", "paritygate"]}
    return [*python[command[0]], *command[1:]]


def say(text: str) -> None:
    """Prints a remark."""
    print(
        "\n" + textwrap.fill(f"── {text}", WIDTH, subsequent_indent="   ").replace("──", f"{DIM}──{RESET}", 1),
        flush=True,
    )


def require(claim: str, *, holds: bool) -> None:
    """Ends the demo where a claim of it does not hold."""
    if not holds:
        sys.exit(f"demo: this does not hold: {claim}")


def _ask(url: str, request: Path) -> dict[str, list[Any]]:
    """The outputs that the server answers with, flat, by name."""
    content = {"Content-Type": "application/json"}
    sent = urllib.request.Request(url, data=request.read_bytes(), headers=content)  # noqa: S310  (our own server)
    with urllib.request.urlopen(sent, timeout=60) as response:  # noqa: S310
        return {output["name"]: output["data"] for output in json.load(response)["outputs"]}


def call(folder: Path, url: str) -> None:
    """Asks the server for one tumour, shows the answer, and compares all rows with what the model itself answers."""
    import joblib
    import numpy as np
    import pandas as pd

    rows = pd.read_parquet(folder / "holdout.parquet").drop(columns="diagnosis")
    model = joblib.load(folder / "tumours.joblib")
    infer = f"{url}/v2/models/tumours/infer"

    show(("curl", "--data", "@request.json", infer))
    for name, data in _ask(infer, _request(folder / "request.json", rows.head(1))).items():
        print(f"{name}: {data}")

    answers = _ask(infer, _request(folder / "requests.json", rows))
    served = np.reshape(answers["probabilities"], (len(rows), -1))
    gap = float(np.abs(served - model.predict_proba(rows)).max())
    require("every served label is the model's own", holds=answers["label"] == model.predict(rows).tolist())
    require(f"probabilities are equal but for {ROUNDING:g}", holds=gap <= ROUNDING)
    say(
        f"Asked for all {len(rows)} tumours, it answers with the labels that the model gives in scikit-learn; "
        f"no probability differs by more than {gap:.0e}."
    )


def _request(file: Path, rows: Any) -> Path:
    """Writes a data frame of numbers as an Open Inference request, one input for each column."""
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [len(rows), 1], "data": column.tolist()}
        for name, column in rows.items()
    ]
    file.write_text(json.dumps({"inputs": inputs}), encoding="utf-8")
    return file


def tabular(demo: Demo) -> None:
    """A pipeline that passes and is served; a booster whose usual export is wrong, and then its right conversion."""
    say("1. A scikit-learn pipeline that tells benign from malignant tumours is to become ONNX and to be served.")
    folder = demo.example("01-breast-cancer")
    demo.run(folder, "python", "train.py", ".")
    with demo.served(folder, "migration.yaml", "tumours") as url:
        say("It passed, so it is served. Any Open Inference client can call it; request.json holds one tumour.")
        call(folder, url)

    say("2. A gradient boosting model with a categorical feature was exported as most people do it.")
    folder = demo.example("02-diabetes")
    demo.run(folder, "python", "train.py", ".")
    demo.run(folder, "python", "export.py", ".")
    say("It looks fine. ParityGate is asked to judge it.")
    report = demo.migrate(folder, "brought.yaml", "progression-brought", ends_with=FAILED)
    require("the report names the cause", holds="HGB-CATEGORICAL" in {one["rule"] for one in report["findings"]})
    say("It was silently wrong, so it would not have been served.")

    say("3. ParityGate converts the same model itself. What it captured from the source is used again.")
    demo.migrate(folder, "migration.yaml", "progression", ends_with=PASSED)
    demo.finish()


def torch(demo: Demo) -> None:
    """A convolutional network: exported in training mode, and converted."""
    say("1. A convolutional network that reads digits was exported while it was still in training mode.")
    folder = demo.example("03-digits-cnn")
    demo.run(folder, "python", "train.py", ".")
    say("The file loads and answers. ParityGate is asked to judge it.")
    demo.migrate(folder, "brought.yaml", "digits-brought", ends_with=FAILED)
    say("Its answers depend on which other pictures are in the batch, so it would not have been served.")

    say("2. ParityGate converts the network itself. What it captured from the source is used again.")
    demo.migrate(folder, "migration.yaml", "digits", ends_with=PASSED)
    demo.finish()


def main() -> None:
    """Runs one of the two demos in FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", choices=("tabular", "torch"))
    parser.add_argument("--folder", type=Path, default=Path(".build/demo"), help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    {"tabular": tabular, "torch": torch}[arguments.demo](Demo(arguments.folder.resolve()))


if __name__ == "__main__":
    main()
