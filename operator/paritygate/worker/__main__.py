"""`python -m paritygate.worker STAGE …`: carries out one stage as docs/reference/formats.md says.

`infer`, `assess`, `convert` and `validate` take `--request FILE`, `dataset` takes `--uri PATH`, all `--out FOLDER`.
A stage is a module of this package with `run(request, out)`; `out` is an empty folder to write to.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path

from paritygate.agent.stage import carry_out
from paritygate.worker.stage import explain

STAGES = {
    "infer": ("request", "infer"),
    "assess": ("request", "assess"),
    "convert": ("request", "convert"),
    "validate": ("request", "validate"),
    "dataset": ("uri", "datasets"),
}
"""Stage → its argument and its module in this package."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status of the stage: 0 complete, 3 failed with `failure.json`."""
    parser = argparse.ArgumentParser(prog="python -m paritygate.worker", description=__doc__)
    commands = parser.add_subparsers(dest="stage", required=True)
    for name, (subject, _) in STAGES.items():
        command = commands.add_parser(name)
        command.add_argument(f"--{subject}", dest="subject", required=True, type=Path)
        command.add_argument("--out", required=True, type=Path)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)

    def work(folder: str) -> None:
        importlib.import_module(f"paritygate.worker.{STAGES[options.stage][1]}").run(options.subject, Path(folder))

    status: int = carry_out(str(options.out), work, explain)
    return status


if __name__ == "__main__":
    sys.exit(main())
