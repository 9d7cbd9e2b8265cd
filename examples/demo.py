"""The demo: real models on real data, carried from training to a served answer. `make demo` and `make demo-torch`.

Runs the commands that a user would type, shows each before it runs, and checks what each must end with: a demo that
does not go as it says ends with status 1.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
BOLD, DIM, RESET = (
    ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("",) * 3
)
PASSED, FAILED = 0, 1
START_SECONDS = 120
"""How long a served migration may take until it answers."""


class Demo:
    """Copies of the examples in a work folder, and the commands run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def example(self, name: str) -> Path:
        """A fresh copy of an example."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return Path(shutil.copytree(EXAMPLES / name, self.folder / name))

    def run(self, folder: Path, *command: str, status: int = 0) -> None:
        """Runs `command` in `folder`; anything but `status` ends the demo."""
        _show(command)
        found = subprocess.run(_resolved(command), cwd=folder, check=False).returncode
        if found != status:
            sys.exit(f"demo: this command was to end with status {status} and ended with {found}")

    @contextmanager
    def served(self, folder: Path, *command: str) -> Iterator[str]:
        """Runs `command … --serve`, gives the address that it serves at, and stops it afterwards."""
        _show(command)
        process = subprocess.Popen(
            _resolved((*command, "--output", "json")), cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None  # noqa: S101  (says to the type checker what PIPE means)
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=START_SECONDS)


def _show(command: tuple[str, ...]) -> None:
    print(f"\n{BOLD}$ {shlex.join(command)}{RESET}", flush=True)


def _resolved(command: tuple[str, ...]) -> list[str]:
    python = {"python": [sys.executable], "paritygate": [sys.executable, "-m", "paritygate"]}
    return [*python[command[0]], *command[1:]]


def _say(text: str) -> None:
    print(f"\n{DIM}──{RESET} {text}", flush=True)


def _ask(url: str, model: str, row: dict[str, float]) -> None:
    inputs = [{"name": name, "datatype": "FP64", "shape": [1, 1], "data": [value]} for name, value in row.items()]
    request = urllib.request.Request(  # noqa: S310  (the address is the one that this demo serves at)
        f"{url}/v2/models/{model}/infer",
        data=json.dumps({"inputs": inputs}).encode(),
        headers={"Content-Type": "application/json"},
    )
    _show(("curl", f"{url}/v2/models/{model}/infer", "-d", '{"inputs": [ … ]}'))
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        for output in json.load(response)["outputs"]:
            print(f"{output['name']}: {output['data']}")


def tabular(demo: Demo) -> None:
    """A pipeline that passes and is served; a booster whose usual export is wrong, and then its right conversion."""
    import pandas as pd

    _say("A scikit-learn pipeline, trained on 284 tumours, is to become ONNX and to be served.")
    folder = demo.example("01-breast-cancer")
    demo.run(folder, "python", "train.py", ".")
    with demo.served(folder, "paritygate", "run", "migration.yaml", "--serve", "--port", "0") as url:
        _say("It passed, so it is served; any Open Inference client can call it.")
        row = pd.read_parquet(folder / "holdout.parquet").drop(columns="diagnosis").iloc[0]
        _ask(url, "tumours", row.to_dict())

    _say("A gradient boosting model with a categorical feature was exported as most people do it.")
    folder = demo.example("02-diabetes")
    demo.run(folder, "python", "train.py", ".")
    demo.run(folder, "python", "export.py", ".")
    _say("It looks fine. ParityGate is asked to judge it.")
    demo.run(folder, "paritygate", "run", "brought.yaml", status=FAILED)
    _say("It was silently wrong and is not served. ParityGate now converts the same model itself.")
    demo.run(folder, "paritygate", "run", "migration.yaml", status=PASSED)
    _say(f"The reports: {_reports(demo.folder)}")


def torch(demo: Demo) -> None:
    """A convolutional network: exported in training mode, and converted."""
    _say("A convolutional network was exported while it was still in training mode; its accuracy is unchanged.")
    folder = demo.example("03-digits-cnn")
    demo.run(folder, "python", "train.py", ".")
    demo.run(folder, "paritygate", "run", "brought.yaml", status=FAILED)
    _say("Its answers depend on which other rows are in the batch. ParityGate now converts the network itself.")
    demo.run(folder, "paritygate", "run", "migration.yaml", status=PASSED)
    _say(f"The reports: {_reports(demo.folder)}")


def _reports(folder: Path) -> str:
    found = sorted(folder.glob("*/.paritygate/*/report.html"))
    return "".join(f"\n   {os.path.relpath(path)}" for path in found)


def main() -> None:
    """Runs one of the two demos in FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", choices=("tabular", "torch"))
    parser.add_argument("--folder", type=Path, default=Path(".build/demo"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    {"tabular": tabular, "torch": torch}[arguments.demo](Demo(arguments.folder.resolve()))


if __name__ == "__main__":
    main()
